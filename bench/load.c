/*
 * The bench's load: many connections, one request outstanding on each.
 *
 *   load HOST PORT CONNECTIONS SECONDS echo SIZE
 *   load HOST PORT CONNECTIONS SECONDS tls SIZE
 *   load HOST PORT CONNECTIONS SECONDS churn SIZE
 *   load HOST PORT CONNECTIONS SECONDS tls-churn SIZE
 *   load HOST PORT CONNECTIONS SECONDS ask REQUEST REPLY-SIZE [GREETING REPLY-SIZE]
 *
 * echo       sends SIZE bytes, compares what comes back, and begins again.
 * tls        the same over TLS 1.3. The certificate is not verified.
 * churn      as echo, with a new connection for every message.
 * tls-churn  the same over TLS 1.3. No session is resumed, and each connection
 *            is closed with close_notify.
 * ask        sends REQUEST and counts REPLY-SIZE bytes that come back. With a
 *            GREETING, that is the first request on each connection.
 *
 * All but the churns first open every connection and have one reply on each. Then
 * it prints "ready", waits for a line on its standard input, runs for SECONDS and
 * until all is answered, and prints how many replies came, within how many
 * nanoseconds, and how many of these it was on a processor. At the end of its
 * input it closes everything. Whatever goes wrong ends it with status 1.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* No listening queue shall overflow, be it as short as Twisted's, 50. */
#define OPENING_AT_ONCE 32
#define EVENTS 256
/* Of the source addresses 127.1.0.1 and on: each has some 28,000 ports. */
#define SOURCES 64

struct connection {
    int fd;
    SSL *tls;
    size_t sent, received;
    int waits_to_send;
    int shaking_hands;
};

static const char *host;
static int port, poller, churning, comparing, running;
static char *request;
static SSL_CTX *tls;
static size_t request_size, reply_size;
static unsigned long replies, outstanding, opened;
static char buffer[1 << 18];

static void fail(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, errno ? strerror(errno) : "wrong");
    exit(1);
}

static long long read_clock(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void watch(struct connection *c, int operation, unsigned events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, operation, c->fd, &event) < 0)
        fail("epoll_ctl");
}

/* As send(2) and recv(2), over TLS too, where either moves one record at most. */
static ssize_t put(struct connection *c, const char *from, size_t size)
{
    if (!c->tls)
        return send(c->fd, from, size, MSG_NOSIGNAL);
    int n = SSL_write(c->tls, from, size);
    if (n <= 0)
        errno = SSL_get_error(c->tls, n) == SSL_ERROR_WANT_WRITE ? EAGAIN : EPROTO;
    return n > 0 ? n : -1;
}

static ssize_t get(struct connection *c)
{
    if (!c->tls)
        return recv(c->fd, buffer, sizeof buffer, 0);
    int n = SSL_read(c->tls, buffer, sizeof buffer);
    if (n <= 0)
        errno = SSL_get_error(c->tls, n) == SSL_ERROR_WANT_READ ? EAGAIN : EPROTO;
    return n > 0 ? n : -1;
}

static void begin(struct connection *c)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    int yes = 1;

    inet_pton(AF_INET, host, &to.sin_addr);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0)
        fail("socket");
    outstanding++;
    c->sent = c->received = 0;
    c->waits_to_send = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (churning) {
        struct sockaddr_in from = {.sin_family = AF_INET};
        from.sin_addr.s_addr = htonl(0x7f010001 + opened++ % SOURCES);
        setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
        if (bind(c->fd, (struct sockaddr *)&from, sizeof from) < 0)
            fail("bind");
    }
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS)
        fail("connect");
    watch(c, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
    if (tls) {
        c->tls = SSL_new(tls);
        SSL_set_fd(c->tls, c->fd);
        SSL_set_connect_state(c->tls);
        c->shaking_hands = 1;
    }
}

/* Close a connection, over TLS with close_notify. */
static void end(struct connection *c)
{
    if (c->tls) {
        SSL_shutdown(c->tls);
        SSL_free(c->tls);
    }
    close(c->fd);
}

static void send_rest(struct connection *c)
{
    while (c->sent < request_size) {
        ssize_t n = put(c, request + c->sent, request_size - c->sent);
        if (n < 0) {
            if (errno != EAGAIN)
                fail("send");
            if (!c->waits_to_send)
                watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
            c->waits_to_send = 1;
            return;
        }
        c->sent += n;
    }
    if (c->waits_to_send)
        watch(c, EPOLL_CTL_MOD, EPOLLIN);
    c->waits_to_send = 0;
}

static void ask(struct connection *c)
{
    outstanding++;
    c->sent = c->received = 0;
    send_rest(c);
}

/* Go on with the handshake, and send the request after it. */
static void shake_hands(struct connection *c)
{
    errno = 0;
    int done = SSL_do_handshake(c->tls);
    if (done != 1) {
        /* Its few bytes always fit into an empty socket, so it never waits to send. */
        if (SSL_get_error(c->tls, done) != SSL_ERROR_WANT_READ)
            fail("TLS handshake");
        /* Or the socket, which can send, would not let the poller wait. */
        if (c->waits_to_send)
            watch(c, EPOLL_CTL_MOD, EPOLLIN);
        c->waits_to_send = 0;
        return;
    }
    c->shaking_hands = 0;
    send_rest(c);
}

/* Returns whether a reply is complete. */
static int receive(struct connection *c)
{
    do {
        ssize_t n = get(c);
        if (n < 0) {
            if (errno == EAGAIN)
                return 0;
            fail("recv");
        }
        errno = 0;
        if (!n || c->received + n > (comparing ? c->sent : reply_size))
            fail(n ? "reply too long" : "connection closed");
        if (comparing && memcmp(buffer, request + c->received, n))
            fail("reply");
        c->received += n;
        /* The poller knows nothing of what OpenSSL has read ahead. */
    } while (c->received < reply_size && c->tls && SSL_has_pending(c->tls));
    return c->received == reply_size;
}

static void prepare(char *asked, const char *size)
{
    request = asked;
    request_size = strlen(asked);
    reply_size = atol(size);
}

/* Serve what is ready; fresh is how many connections were begun. */
static void pass(struct connection *all, int *fresh, int total)
{
    struct epoll_event events[EVENTS];
    int ready = epoll_wait(poller, events, EVENTS, 10000);

    if (ready < 0)
        fail("epoll_wait");
    errno = 0;
    if (!ready)
        fail("nothing came for 10 seconds");
    for (int i = 0; i < ready; i++) {
        struct connection *c = events[i].data.ptr;
        if (c->shaking_hands) {
            shake_hands(c);
            continue;
        }
        if (events[i].events & EPOLLOUT)
            send_rest(c);
        if (!(events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) || !receive(c))
            continue;
        replies++;
        outstanding--;
        if (churning) {
            end(c);
            if (running)
                begin(c);
        } else {
            if (running)
                ask(c);
            else if (*fresh < total)
                begin(&all[(*fresh)++]);
        }
    }
}

int main(int argc, char **argv)
{
    if (argc < 7 || (!strcmp(argv[5], "ask") && argc < 8))
        return fputs("load: see the head of load.c\n", stderr), 2;
    host = argv[1];
    port = atoi(argv[2]);
    int total = atoi(argv[3]);
    double seconds = atof(argv[4]);
    churning = strstr(argv[5], "churn") != NULL;
    if (!strncmp(argv[5], "tls", 3)) {
        tls = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_min_proto_version(tls, TLS1_3_VERSION);
        SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE);
        /* Or each record would be read in two pieces. */
        SSL_CTX_set_read_ahead(tls, 1);
        signal(SIGPIPE, SIG_IGN);
    }
    comparing = strcmp(argv[5], "ask");
    if (comparing) {
        reply_size = request_size = atol(argv[6]);
        request = malloc(request_size);
        for (size_t i = 0; i < request_size; i++)
            request[i] = (i * 2654435761u) >> 13;
    } else {
        prepare(argc > 9 ? argv[8] : argv[6], argc > 9 ? argv[9] : argv[7]);
    }

    struct connection *all = calloc(total, sizeof *all);
    int fresh = 0;
    poller = epoll_create1(0);
    if (!churning) {
        while (fresh < total && fresh < OPENING_AT_ONCE)
            begin(&all[fresh++]);
        while (outstanding)
            pass(all, &fresh, total);
    }
    if (!comparing)
        prepare(argv[6], argv[7]);
    puts("ready");
    fflush(stdout);
    if (getchar() == EOF)
        return 0;

    replies = 0;
    running = 1;
    long long spent = read_clock(CLOCK_PROCESS_CPUTIME_ID);
    long long from = read_clock(CLOCK_MONOTONIC);
    for (int i = 0; i < total; i++)
        churning ? begin(&all[i]) : ask(&all[i]);
    do {
        pass(all, &fresh, total);
        running = read_clock(CLOCK_MONOTONIC) - from < seconds * 1e9;
    } while (running || outstanding);
    printf("%lu %lld %lld\n", replies, read_clock(CLOCK_MONOTONIC) - from,
           read_clock(CLOCK_PROCESS_CPUTIME_ID) - spent);
    fflush(stdout);
    getchar();
    return 0;
}

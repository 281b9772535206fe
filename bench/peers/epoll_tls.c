/*
 * An echo server in C on epoll and OpenSSL: what the kernel and TLS 1.3 alone cost.
 *
 *   epoll_tls PORT PEM
 *   epoll_tls version
 *
 * PEM has the key and the certificate. "version" prints that of OpenSSL.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS 256

struct connection {
    int fd;
    SSL *tls;
    char *rest; /* decrypted and not sent yet */
    int size;
};

static char buffer[1 << 14]; /* no record has more */
static int poller;

static void watch(struct connection *c, int operation, unsigned events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, operation, c->fd, &event) < 0)
        perror("epoll_ctl"), exit(1);
}

static void finish(struct connection *c)
{
    SSL_free(c->tls);
    close(c->fd);
    free(c->rest);
    free(c);
    ERR_clear_error(); /* or it would count against the next connection */
}

/* OpenSSL returned n: have it wait for the socket, or finish the connection. */
static void wait_or_finish(struct connection *c, int n)
{
    int error = SSL_get_error(c->tls, n);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
        return;
    if (error == SSL_ERROR_ZERO_RETURN)
        SSL_shutdown(c->tls); /* answers close_notify with the same */
    finish(c);
}

/* The first read shakes hands. */
static void readable(struct connection *c)
{
    do {
        int n = SSL_read(c->tls, buffer, sizeof buffer);
        if (n <= 0) {
            wait_or_finish(c, n);
            return;
        }
        int sent = SSL_write(c->tls, buffer, n);
        if (sent > 0)
            continue;
        if (SSL_get_error(c->tls, sent) != SSL_ERROR_WANT_WRITE) {
            finish(c);
            return;
        }
        c->size = n;
        c->rest = malloc(n);
        memcpy(c->rest, buffer, n);
        watch(c, EPOLL_CTL_MOD, EPOLLOUT);
        return;
        /* The poller knows nothing of what OpenSSL has read ahead. */
    } while (SSL_has_pending(c->tls));
}

static void writable(struct connection *c)
{
    int sent = SSL_write(c->tls, c->rest, c->size);
    if (sent <= 0) {
        wait_or_finish(c, sent);
        return;
    }
    free(c->rest);
    c->rest = NULL;
    watch(c, EPOLL_CTL_MOD, EPOLLIN);
    if (SSL_has_pending(c->tls))
        readable(c);
}

static SSL_CTX *made_context(const char *pem)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    SSL_CTX_set_mode(context, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    /* Or each record would be read in two pieces. */
    SSL_CTX_set_read_ahead(context, 1);
    if (SSL_CTX_use_certificate_chain_file(context, pem) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, pem, SSL_FILETYPE_PEM) != 1)
        fprintf(stderr, "epoll_tls: no key or certificate: %s\n", pem), exit(1);
    return context;
}

int main(int argc, char **argv)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct connection listener = {0};
    struct epoll_event events[EVENTS];
    int yes = 1;

    if (argc == 2 && !strcmp(argv[1], "version"))
        return puts(OpenSSL_version(OPENSSL_VERSION)), 0;
    if (argc != 3)
        return fputs("epoll_tls: see the head of epoll_tls.c\n", stderr), 2;
    SSL_CTX *context = made_context(argv[2]);
    signal(SIGPIPE, SIG_IGN);
    at.sin_port = htons(atoi(argv[1]));
    poller = epoll_create1(0);
    listener.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener.fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener.fd, (struct sockaddr *)&at, sizeof at) < 0)
        return perror("bind"), 1;
    listen(listener.fd, 4096);
    watch(&listener, EPOLL_CTL_ADD, EPOLLIN);
    for (;;) {
        int ready = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (c != &listener) {
                if (c->rest)
                    writable(c);
                else
                    readable(c);
                continue;
            }
            int fd;
            while ((fd = accept4(listener.fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                c = calloc(1, sizeof *c);
                c->fd = fd;
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
                c->tls = SSL_new(context);
                SSL_set_fd(c->tls, fd);
                SSL_set_accept_state(c->tls);
                watch(c, EPOLL_CTL_ADD, EPOLLIN);
            }
        }
    }
}

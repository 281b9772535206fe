/* An echo server in C on epoll: what the kernel alone costs. epoll PORT */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS 256

struct connection {
    int fd;
    char *rest; /* received and not sent yet */
    size_t size, offset;
};

static char buffer[1 << 18];
static int poller;

static void watch(struct connection *c, int operation, unsigned events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, operation, c->fd, &event) < 0)
        perror("epoll_ctl"), exit(1);
}

static void finish(struct connection *c)
{
    close(c->fd);
    free(c->rest);
    free(c);
}

static void readable(struct connection *c)
{
    ssize_t n = recv(c->fd, buffer, sizeof buffer, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        finish(c);
        return;
    }
    ssize_t sent = send(c->fd, buffer, n, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) {
        finish(c);
        return;
    }
    if (sent < 0)
        sent = 0;
    if (sent < n) {
        c->size = n - sent;
        c->offset = 0;
        c->rest = malloc(c->size);
        memcpy(c->rest, buffer + sent, c->size);
        watch(c, EPOLL_CTL_MOD, EPOLLOUT);
    }
}

static void writable(struct connection *c)
{
    ssize_t sent = send(c->fd, c->rest + c->offset, c->size - c->offset, MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN)
            finish(c);
        return;
    }
    c->offset += sent;
    if (c->offset == c->size) {
        free(c->rest);
        c->rest = NULL;
        watch(c, EPOLL_CTL_MOD, EPOLLIN);
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct connection listener = {0};
    struct epoll_event events[EVENTS];
    int yes = 1;

    if (argc != 2)
        return fputs("epoll PORT\n", stderr), 2;
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
                watch(c, EPOLL_CTL_ADD, EPOLLIN);
            }
        }
    }
}

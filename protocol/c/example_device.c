/* A whole device in one file: it says hello, measures, keeps what is not acknowledged and sends it again.
 *
 *     cc -std=c99 -O2 -o example_device example_device.c
 *     ./example_device /dev/ttyUSB0                      endlessly, one reading a second
 *     ./example_device -n 5 -p 100 -r 300                five readings over stdin and stdout, then end
 *
 * Only main, now_ms, send and open_line know POSIX; the rest is what a microcontroller would run.
 */
#define _POSIX_C_SOURCE 200809L

#include "edge_frame.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

/* At most 64: an agent recognises what is sent again by a window of 64 sequences (docs/protocol.md). */
#define RING 32

typedef struct {
    bool waiting;
    double voltage_v;
    uint64_t taken_ms;
    uint64_t sent_ms;
} reading;

typedef struct {
    int in, out;
    uint32_t boot;
    uint32_t next;   /* sequence of the next reading */
    uint32_t oldest; /* oldest sequence that may still wait */
    uint32_t acknowledged;
    uint32_t dropped;
    uint64_t started_ms;
    uint64_t resend_ms;
    reading ring[RING]; /* by sequence modulo RING */
} device;

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

static void send(const device *d, const uint8_t *line, size_t length)
{
    while (length > 0) {
        const ssize_t sent = write(d->out, line, length);
        if (sent <= 0)
            exit(1);
        line += sent;
        length -= (size_t)sent;
    }
}

static void send_hello(const device *d, bool reply)
{
    uint8_t line[128];
    send(d, line, edge_encode_hello(line, sizeof line, "example-1", "example_device", "1.0.0",
                                    d->boot, 0, reply));
}

static void send_status(const device *d)
{
    uint8_t line[64];
    send(d, line, edge_encode_status(line, sizeof line, d->boot, now_ms() - d->started_ms,
                                     d->dropped, ""));
}

static void send_reading(device *d, uint32_t sequence)
{
    uint8_t line[128];
    edge_writer w;
    reading *r = &d->ring[sequence % RING];
    const uint64_t now = now_ms();
    /* The age is that of this transmission, not of the first. */
    edge_begin_reading(&w, line, sizeof line, d->boot, sequence,
                       edge_time_age((uint32_t)(now - r->taken_ms)), 2);
    edge_add_float(&w, "voltage_v", r->voltage_v);
    edge_add_int(&w, "reading_count", (int64_t)sequence + 1);
    send(d, line, edge_end(&w));
    r->sent_ms = now;
}

static void forget_acknowledged(device *d)
{
    while (d->oldest != d->next && !d->ring[d->oldest % RING].waiting)
        d->oldest++;
}

static void measure(device *d)
{
    if (d->next - d->oldest == RING) {
        /* No room: the oldest goes, and the agent is told. Its sequence is not used again. */
        d->ring[d->oldest % RING].waiting = false;
        d->dropped++;
        forget_acknowledged(d);
        send_status(d);
    }
    reading *r = &d->ring[d->next % RING];
    r->waiting = true;
    r->voltage_v = 230.0 + (double)(d->next % 10) / 10.0;
    r->taken_ms = now_ms();
    send_reading(d, d->next++);
}

static void send_again(device *d, uint64_t older_than_ms)
{
    const uint64_t now = now_ms();
    for (uint32_t sequence = d->oldest; sequence != d->next; sequence++) {
        const reading *r = &d->ring[sequence % RING];
        if (r->waiting && now - r->sent_ms >= older_than_ms)
            send_reading(d, sequence);
    }
}

static void received(device *d, const edge_receiver *r)
{
    edge_ack ack;
    edge_hello hello;
    if (r->kind == EDGE_KIND_ACK && edge_read_ack(r, &ack)) {
        /* Acks of another boot, and of what was forgotten already, mean nothing. */
        if (ack.boot == d->boot && ack.sequence - d->oldest < d->next - d->oldest
            && d->ring[ack.sequence % RING].waiting) {
            d->ring[ack.sequence % RING].waiting = false;
            d->acknowledged++;
            forget_acknowledged(d);
        }
    } else if (r->kind == EDGE_KIND_HELLO && edge_read_hello(r, &hello) && hello.reply) {
        /* The agent has started and does not know us: what it had not stored, it has lost. */
        send_hello(d, false);
        send_again(d, 0);
    }
}

static int open_line(const char *path)
{
    struct termios line;
    const int fd = open(path, O_RDWR | O_NOCTTY);
    if (fd < 0 || tcgetattr(fd, &line) != 0) {
        perror(path);
        exit(1);
    }
    line.c_iflag = 0;
    line.c_oflag = 0;
    line.c_lflag = 0;
    line.c_cflag = CS8 | CREAD | CLOCAL;
    line.c_cc[VMIN] = 1;
    line.c_cc[VTIME] = 0;
    cfsetispeed(&line, B115200);
    cfsetospeed(&line, B115200);
    if (tcsetattr(fd, TCSANOW, &line) != 0) {
        perror(path);
        exit(1);
    }
    return fd;
}

int main(int argc, char **argv)
{
    static device d;
    static uint8_t held[EDGE_HELD_SMALL];
    edge_receiver receiver;
    uint32_t count = 0;
    uint64_t period_ms = 1000;
    int option;

    d.out = 1;
    d.resend_ms = 1000;
    while ((option = getopt(argc, argv, "n:p:r:")) != -1) {
        if (option == 'n')
            count = (uint32_t)strtoul(optarg, NULL, 10);
        else if (option == 'p')
            period_ms = strtoul(optarg, NULL, 10);
        else if (option == 'r')
            d.resend_ms = strtoul(optarg, NULL, 10);
        else {
            fprintf(stderr, "usage: example_device [-n COUNT] [-p PERIOD_MS] [-r RESEND_MS] [TTY]\n");
            return 2;
        }
    }
    if (optind < argc)
        d.in = d.out = open_line(argv[optind]);

    /* Must differ from start to start; a microcontroller would take its noise source or a counter in flash. */
    const int random = open("/dev/urandom", O_RDONLY);
    if (random < 0 || read(random, &d.boot, sizeof d.boot) != (ssize_t)sizeof d.boot)
        return 1;
    close(random);

    edge_receiver_init(&receiver, held, sizeof held);
    d.started_ms = now_ms();
    uint64_t next_ms = d.started_ms;
    send_hello(&d, true);
    while (count == 0 || d.acknowledged + d.dropped < count) {
        struct pollfd line = { d.in, POLLIN, 0 };
        if ((count == 0 || d.next < count) && now_ms() >= next_ms) {
            measure(&d);
            next_ms += period_ms;
        }
        send_again(&d, d.resend_ms);
        if (poll(&line, 1, 10) > 0) {
            uint8_t bytes[64];
            const ssize_t length = read(d.in, bytes, sizeof bytes);
            if (length <= 0)
                return 1; /* nobody is there any more */
            for (ssize_t at = 0; at < length; at++)
                if (edge_receive(&receiver, bytes[at]) == EDGE_FRAME)
                    received(&d, &receiver);
        }
    }
    send_status(&d);
    return 0;
}

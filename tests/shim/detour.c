/* Sends connections elsewhere: LD_PRELOAD for the daemons, in tests only.
 *
 * A Kafka client connects to whatever address the brokers name, so a proxy in between is passed by at
 * once. Here a connection to port DETOUR_FROM of an IPv4 address goes to port DETOUR_TO of the same one.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static in_port_t from, to;

__attribute__((constructor)) static void begin(void) {
    const char *one = getenv("DETOUR_FROM"), *other = getenv("DETOUR_TO");
    if (one && other) {
        from = htons((uint16_t)atoi(one));
        to = htons((uint16_t)atoi(other));
    }
}

int connect(int fd, const struct sockaddr *address, socklen_t length) {
    static __typeof__(&connect) real;
    struct sockaddr_in detour;
    if (!real)
        real = (__typeof__(&connect))dlsym(RTLD_NEXT, "connect");
    if (from && address->sa_family == AF_INET && length >= sizeof detour) {
        memcpy(&detour, address, sizeof detour);
        if (detour.sin_port == from) {
            detour.sin_port = to;
            return real(fd, (struct sockaddr *)&detour, sizeof detour);
        }
    }
    return real(fd, address, length);
}

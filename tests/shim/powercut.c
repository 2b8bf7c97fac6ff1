/* Cuts the power of an ext4 file system: what its journal has not got yet is gone, and nothing is
 * written any more. `powercut MOUNTPOINT`, as root. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>

#define EXT4_IOC_SHUTDOWN _IOR('X', 125, uint32_t)
#define NO_LOG_FLUSH 2

int main(int count, char **arguments) {
    uint32_t how = NO_LOG_FLUSH;
    if (count != 2) {
        fprintf(stderr, "usage: powercut MOUNTPOINT\n");
        return 2;
    }
    int fd = open(arguments[1], O_RDONLY);
    if (fd < 0 || ioctl(fd, EXT4_IOC_SHUTDOWN, &how) < 0) {
        perror(arguments[1]);
        return 1;
    }
    return 0;
}

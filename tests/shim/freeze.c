/* Stops one thread of a process, as a call that never returns would, while the others run on.
 * `freeze PID THREAD` says "frozen" and holds it for as long as standard input stays open. */
#define _GNU_SOURCE
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

/* The thread of this name; 0 where there is none. */
static pid_t find(const char *pid, const char *name) {
    char path[64], found[32];
    snprintf(path, sizeof path, "/proc/%.10s/task", pid);
    DIR *tasks = opendir(path);
    struct dirent *task;
    pid_t thread = 0;
    while (tasks && !thread && (task = readdir(tasks))) {
        snprintf(path, sizeof path, "/proc/%.10s/task/%.10s/comm", pid, task->d_name);
        FILE *comm = fopen(path, "r");
        if (!comm)
            continue;
        if (fgets(found, sizeof found, comm)) {
            found[strcspn(found, "\n")] = 0;
            if (!strcmp(found, name))
                thread = atoi(task->d_name);
        }
        fclose(comm);
    }
    if (tasks)
        closedir(tasks);
    return thread;
}

int main(int count, char **arguments) {
    if (count != 3) {
        fprintf(stderr, "usage: freeze PID THREAD\n");
        return 2;
    }
    pid_t thread = find(arguments[1], arguments[2]);
    int status;
    char end;
    if (!thread) {
        fprintf(stderr, "%s has no thread %s\n", arguments[1], arguments[2]);
        return 1;
    }
    if (ptrace(PTRACE_SEIZE, thread, 0, 0) || ptrace(PTRACE_INTERRUPT, thread, 0, 0) ||
        waitpid(thread, &status, __WALL) < 0) {
        perror("ptrace");
        return 77;
    }
    puts("frozen");
    fflush(stdout);
    /* The kernel lets it go on when we end. */
    while (read(0, &end, 1) > 0) {
    }
    return 0;
}

/* SPDX-License-Identifier: MIT */
/* Verbs that run another program in the foreground. */
#ifndef ZR_CMD_ZR_CHILD_H
#define ZR_CMD_ZR_CHILD_H

#include <stdint.h>
#include <sys/types.h>

#include "base/attr.h"
#include "base/err.h"

/* As a shell finds it: a word without a slash in the folders of PATH. Allocated. */
int child_find(const char *word, char **ret_path, struct err *e) must_check;

/* From here on SIGCHLD, SIGTERM, SIGINT and SIGHUP are for child_next_signal(). */
void child_block_signals(void);
/* The next of them, or 0 at `until_usec`, a time of time_mono_usec(); USEC_INFINITY: never. */
int child_next_signal(uint64_t until_usec);

/* With our standard streams; `envp` NULL: our environment. */
int child_start(const char *path, char *const *argv, char *const *envp, pid_t *ret_pid,
		struct err *e) must_check;
/* Hands a signal on. SIGINT a terminal has sent to the child as well. */
void child_signal(pid_t pid, int signo);
/* -EAGAIN: it has not ended; else its exit status as a shell says it, and it is reaped. */
int child_status(pid_t pid);
/* Until it has ended: that status. */
int child_follow(pid_t pid);

#endif

/* SPDX-License-Identifier: MIT */
/* Starting programs: posix_spawn, never fork. The child has just the descriptors it was given. */
#ifndef ZR_BASE_PROC_H
#define ZR_BASE_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/attr.h"
#include "base/err.h"

struct proc_fd {
	int from, to; /* `from` stays the caller's; `to` is 0 to 255 */
};

struct proc_spec {
	const char *path;          /* program file; no PATH search */
	char *const *argv;         /* NULL-terminated */
	char *const *envp;         /* NULL-terminated; NULL: an empty environment */
	const struct proc_fd *fds; /* 0, 1, 2 not named here become /dev/null */
	size_t n_fds;
	const char *cwd; /* NULL: ours */
	bool new_session;
};

/*
 * Signals are unblocked and default in the child; every descriptor not listed is closed. *ret_pidfd
 * is the caller's to close, the child the caller's to reap (loop_child() does). Blocks until the
 * child has called execve(). -ENOENT and friends when the program cannot be run.
 */
int proc_spawn(const struct proc_spec *spec, pid_t *ret_pid, int *ret_pidfd,
	       struct err *e) must_check;

enum {
	PROC_NAME_MAX = 40
};

/* A name that no other process of this boot has had or will have: its id comes round, the time at which
 * it began does not. "ID.TIME". -ESRCH: there is no such process. */
int proc_name(pid_t pid, char out[PROC_NAME_MAX]) must_check;

/* Sends a signal by pidfd. -ESRCH: it has ended. */
int proc_signal(int pidfd, int signo);

/* The path of a sister program: from the folder of our own executable. Allocated. */
int proc_sister(const char *name, char **ret_path, struct err *e) must_check;

#endif

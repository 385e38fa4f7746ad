/* SPDX-License-Identifier: MIT */
/* The system calls that a job in a sandbox may not make, as a seccomp filter; gen/filter.c has the
 * list. */
#ifndef ZR_CMD_ZR_BOX_FILTER_H
#define ZR_CMD_ZR_BOX_FILTER_H

#include <stddef.h>

#include "base/attr.h"

enum filter_kind {
	FILTER_REFUSE,
	FILTER_WATCH,        /* what is refused */
	FILTER_WATCH_WRITES, /* and what changes files, which the holder should let go on */
};
/* For the calling thread and all it will start, which must have no_new_privs. Watching returns a
 * listener (seccomp_unotify(2)), whose holder has to answer each refused call: without one they get
 * ENOSYS. -EBUSY: an outer filter has a listener, and the kernel allows but one. Async-signal-safe. */
int filter_install(enum filter_kind kind) must_check;

/* What is refused, and with which error. */
struct filter_call {
	int number, error;
	const char *name;
};
enum {
	FILTER_CALLS_MAX = 64,
};
/* The i-th, NULL at the end. */
const struct filter_call *filter_call(size_t i);

/* A call that changes files: the folder's descriptor (as at()) and the path among its arguments. */
struct filter_write {
	int number;
	int dir[2]; /* FILTER_CWD: none, relative to the working directory; FILTER_NONE: no path */
	int path[2];
};
enum {
	FILTER_CWD = -1,
	FILTER_NONE = -2,
};
/* NULL: no such call. */
const struct filter_write *filter_write(int number);

/* The same, but for what only the keeper can see, as a profile for container engines. */
const char *filter_profile(void);

#endif

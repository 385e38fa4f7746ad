/* SPDX-License-Identifier: MIT */
/* The system calls that a job in a sandbox may not make, as a seccomp filter; gen/filter.c has the
 * list. */
#ifndef ZR_CMD_ZR_BOX_FILTER_H
#define ZR_CMD_ZR_BOX_FILTER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"

/* For the calling thread and all it will start, which must have no_new_privs. With `watch` returns a
 * listener (seccomp_unotify(2)), whose holder has to answer each refused call: without one they get
 * ENOSYS. -EBUSY: an outer filter has a listener, and the kernel allows but one. Async-signal-safe. */
int filter_install(bool watch) must_check;

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

#endif

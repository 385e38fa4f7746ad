/* SPDX-License-Identifier: MIT */
/* The system calls that a job in a sandbox may not make, as a seccomp filter; gen/filter.c has the
 * list. */
#ifndef ZR_CMD_ZR_BOX_FILTER_H
#define ZR_CMD_ZR_BOX_FILTER_H

#include "base/attr.h"

/* For the calling thread and all it will start, which must have no_new_privs. Async-signal-safe. */
int filter_install(void) must_check;

#endif

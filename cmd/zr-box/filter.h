/* SPDX-License-Identifier: MIT */
/* The system calls that a job in a sandbox may not make, as a seccomp filter. */
#ifndef ZR_CMD_ZR_BOX_FILTER_H
#define ZR_CMD_ZR_BOX_FILTER_H

#include <linux/filter.h>

#include "base/attr.h"
#include "base/err.h"

/* Compiled once per keeper; *ret is for filter_done(). */
int filter_make(struct sock_fprog *ret, struct err *e) must_check;
void filter_done(struct sock_fprog *f);

/* Installs it for the calling thread and all it will start. Async-signal-safe. */
int filter_install(const struct sock_fprog *f) must_check;

#endif

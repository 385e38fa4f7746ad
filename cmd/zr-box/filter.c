/* SPDX-License-Identifier: MIT */
#include "filter.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* From gen/filter.c, for the machine that we were built for: refusing, watching, calls. */
#include "box-filter.inc"

#define LEN(a) (sizeof(a) / sizeof((a)[0]))

_Static_assert(LEN(calls) <= FILTER_CALLS_MAX, "a number for each call");

int filter_install(bool watch)
{
	struct sock_fprog f = {
		.len = watch ? LEN(watching) : LEN(refusing),
		/* Only read. */
		.filter = (struct sock_filter *)(uintptr_t)(watch ? watching : refusing),
	};
	unsigned flags = watch ? SECCOMP_FILTER_FLAG_NEW_LISTENER : 0;
	long r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &f);

	return r < 0 ? -errno : (int)r;
}

const struct filter_call *filter_call(size_t i)
{
	return i < LEN(calls) ? &calls[i] : NULL;
}

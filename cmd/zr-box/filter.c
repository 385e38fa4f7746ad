/* SPDX-License-Identifier: MIT */
#include "filter.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <sys/prctl.h>

/* From gen/filter.c, for the machine that we were built for. */
static const struct sock_filter code[] = {
#include "box-filter.inc"
};

int filter_install(void)
{
	struct sock_fprog f = {
		.len = sizeof(code) / sizeof(code[0]),
		/* Only read. */
		.filter = (struct sock_filter *)(uintptr_t)code,
	};

	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &f, 0, 0) < 0 ? -errno : 0;
}

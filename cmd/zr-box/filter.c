/* SPDX-License-Identifier: MIT */
#include "filter.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* From gen/filter.c, for the machine that we were built for: refusing, watching, watching_writes, calls, writes,
 * profile. */
#include "box-filter.inc"

#define LEN(a) (sizeof(a) / sizeof((a)[0]))

_Static_assert(LEN(calls) <= FILTER_CALLS_MAX, "a number for each call");

int filter_install(enum filter_kind kind)
{
	const struct {
		const struct sock_filter *code;
		size_t len;
	} f[] = {
		[FILTER_REFUSE] = { refusing, LEN(refusing) },
		[FILTER_WATCH] = { watching, LEN(watching) },
		[FILTER_WATCH_WRITES] = { watching_writes, LEN(watching_writes) },
	};
	struct sock_fprog prog = {
		.len = (unsigned short)f[kind].len,
		/* Only read. */
		.filter = (struct sock_filter *)(uintptr_t)f[kind].code,
	};
	unsigned flags = kind == FILTER_REFUSE ? 0 : SECCOMP_FILTER_FLAG_NEW_LISTENER;
	long r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog);

	return r < 0 ? -errno : (int)r;
}

const struct filter_call *filter_call(size_t i)
{
	return i < LEN(calls) ? &calls[i] : NULL;
}

const struct filter_write *filter_write(int number)
{
	for (size_t i = 0; i < LEN(writes); i++)
		if (writes[i].number == number)
			return &writes[i];
	return NULL;
}

const char *filter_profile(void)
{
	return profile;
}

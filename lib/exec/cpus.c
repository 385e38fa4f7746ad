/* SPDX-License-Identifier: MIT */
#include "exec/cpus.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

/* A number at *p, and past it. */
static bool take_number(const char **p, unsigned *ret)
{
	unsigned v = 0;

	if (**p < '0' || **p > '9')
		return false;
	for (; **p >= '0' && **p <= '9'; (*p)++) {
		v = v * 10 + (unsigned)(**p - '0');
		if (v >= CPU_SETSIZE)
			return false;
	}
	*ret = v;
	return true;
}

int cpus_parse(const char *text, cpu_set_t *ret, struct err *e)
{
	const char *p = text;

	CPU_ZERO(ret);
	do {
		unsigned first, last;

		if (!take_number(&p, &first))
			break;
		last = first;
		if (*p == '-' && (p++, !take_number(&p, &last)))
			break;
		if (last < first)
			break;
		for (unsigned i = first; i <= last; i++)
			CPU_SET(i, ret);
		if (!*p)
			return 0;
	} while (*p++ == ',');
	return err_input(e, "'%s' is no list of processors such as 0-2,4", STR_ESC(text));
}

char *cpus_text(const cpu_set_t *set, char *out, size_t size)
{
	size_t used = 0;

	out[0] = '\0';
	for (int i = 0; i < CPU_SETSIZE && used < size; i++) {
		int last = i;
		char to[12] = "";

		if (!CPU_ISSET(i, set))
			continue;
		while (last + 1 < CPU_SETSIZE && CPU_ISSET(last + 1, set))
			last++;
		if (last > i)
			snprintf(to, sizeof(to), "-%d", last);
		used += (size_t)snprintf(out + used, size - used, "%s%d%s", used ? "," : "", i, to);
		i = last;
	}
	return out;
}

int cpus_reserve(const char *timing, cpu_set_t *ret_timing, cpu_set_t *ret_others, struct err *e)
{
	char all[256], wanted[256];
	cpu_set_t ours, both;
	int r = cpus_parse(timing, ret_timing, e);

	if (r < 0)
		return err_wrap(e, "timing_cpus");
	if (sched_getaffinity(0, sizeof(ours), &ours) < 0)
		return err_sys(e, "ask which processors we may use");
	CPU_AND(&both, &ours, ret_timing);
	CPU_XOR(ret_others, &ours, &both);
	cpus_text(ret_timing, wanted, sizeof(wanted));
	cpus_text(&ours, all, sizeof(all));
	if (!CPU_EQUAL(&both, ret_timing))
		return err_set(e, ENODEV, ERR_HOST,
			       "timing_cpus is %s, but the worker may use the processors %s only",
			       wanted, all);
	if (CPU_COUNT(ret_others) == 0)
		return err_set(e, ENODEV, ERR_HOST,
			       "timing_cpus is %s, which leaves none of the processors %s for "
			       "anything else",
			       wanted, all);
	return 0;
}

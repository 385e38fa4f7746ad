/* SPDX-License-Identifier: MIT */
/* Sets of processors as text, "0-2,4", and who may use them. */
#ifndef ZR_EXEC_CPUS_H
#define ZR_EXEC_CPUS_H

#include <sched.h>
#include <stddef.h>

#include "base/attr.h"
#include "base/err.h"

enum {
	CPUS_TEXT_MAX = CPU_SETSIZE * 5,
};

/* ERR_INPUT: it is no list, is empty, or has a number that is too large. */
int cpus_parse(const char *text, cpu_set_t *ret, struct err *e) must_check;
/* Returns out. */
char *cpus_text(const cpu_set_t *set, char *out, size_t size);

/* `timing` is taken from those that this process may use; *ret_others are what is left. ERR_HOST with a
 * sentence if they are not there, or nothing is left. */
int cpus_reserve(const char *timing, cpu_set_t *ret_timing, cpu_set_t *ret_others,
		 struct err *e) must_check;

#endif

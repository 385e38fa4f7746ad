/* SPDX-License-Identifier: MIT */
/* The last words of an evaluation that failed: what its author needs to know is mostly there. */
#ifndef ZR_CMD_ZR_STDERR_TAIL_H
#define ZR_CMD_ZR_STDERR_TAIL_H

#include <jansson.h>
#include <stdio.h>

#include "base/err.h"

/* Sets "stderr" of an evaluation (as evaluations_show() gives it): the last lines of standard error in
 * its stored result, bounded. Null unless it failed, its result is here, and there are any. */
int stderr_tail_add(json_t *evaluation, struct err *e) must_check;
/* The same of a log; *ret is NULL if it says nothing. */
int stderr_tail_read(int fd, json_t **ret, struct err *e) must_check;
/* Prints it, escaped, under a title; nothing if there is none. */
void stderr_tail_print(const json_t *evaluation, FILE *out);

#endif

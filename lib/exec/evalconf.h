/* SPDX-License-Identifier: MIT */
/* evaluator.conf: from its text to a struct evaluator. Only evaluator.c and tests come here. */
#ifndef ZR_EXEC_EVALCONF_H
#define ZR_EXEC_EVALCONF_H

#include "exec/evaluator.h"

/* What a bare executable has. `ev` is otherwise fresh. */
int evalconf_defaults(struct evaluator *ev, struct err *e) must_check;

/* `ev` has its name, dir, file and the defaults; `dirfd` is its folder, in which programs are looked
 * up. ERR_HOST, "file:line: ..." for anything wrong. */
int evalconf_read(struct evaluator *ev, int dirfd, const char *text, size_t n,
		  struct err *e) must_check;

#endif

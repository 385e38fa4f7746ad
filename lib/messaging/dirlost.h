/* SPDX-License-Identifier: MIT */
/*
 * Which workers of a shared folder are lost: those whose file in workers/ did not change for one and
 * a half of their leases while this process was looking. No two clocks are compared, neither of
 * hosts nor of a file server: what counts is the time that the looker's own clock measured between
 * looks, and after a gap in them (it was stopped, the folder was away) it begins anew.
 */
#ifndef ZR_MESSAGING_DIRLOST_H
#define ZR_MESSAGING_DIRLOST_H

#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"
#include "messaging/dirtree.h"

struct dirlost;
/* `lease_usec`: of those who do not say. */
int dirlost_new(uint64_t lease_usec, struct dirlost **ret, struct err *e) must_check;
void dirlost_free(struct dirlost *l);

/* Looks once; to be called at least six times per lease. */
int dirlost_look(struct dirlost *l, const struct dirtree *t, struct err *e) must_check;
/* The next lost worker after `prev` (NULL: the first), as "HOST.N"; NULL: no more. */
const char *dirlost_next(const struct dirlost *l, const char *prev);

#endif

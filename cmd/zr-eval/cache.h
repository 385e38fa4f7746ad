/* SPDX-License-Identifier: MIT */
/*
 * The copy of a submission that jobs read: a folder with `files` and the `stamp` of them. All of it is
 * read-only, but a job whose user is the worker's may change that too. The stamp tells: it sums up
 * place, mode, size and times of every entry as they were when the digest had been checked, and
 * nobody sets a change time back.
 */
#ifndef ZR_CMD_ZR_EVAL_CACHE_H
#define ZR_CMD_ZR_EVAL_CACHE_H

#include "base/err.h"

#define CACHE_FILES "files"
/* A copy that is being removed; then the name of the process that does it, and '-'. */
#define CACHE_GONE ".gone-"

/* Makes `files` read-only and writes the stamp. The copy may be renamed afterwards. */
int cache_seal(const char *copy, struct err *e) must_check;
/* -ENOENT: there is none; -ESTALE: it is not what was sealed. Looks at entries, not into them. */
int cache_check(const char *copy, struct err *e) must_check;
/* Removes the copy; from the first moment on nobody finds half of it. */
int cache_drop(const char *copy, struct err *e) must_check;

#endif

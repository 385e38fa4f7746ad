/* SPDX-License-Identifier: MIT */
/* What the boxes of this host use of it. */
#ifndef ZR_EXEC_INUSE_H
#define ZR_EXEC_INUSE_H

#include "base/attr.h"
#include "base/err.h"

/*
 * The submission folders of all boxes there are, whoever owns them, each once or more,
 * NULL-terminated. A box that goes away meanwhile is left out; one that cannot be read is an error.
 */
int inuse_submissions(const char *state_dir, char ***ret, struct err *e) must_check;

#endif

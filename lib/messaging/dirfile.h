/* SPDX-License-Identifier: MIT */
/*
 * Files as messages in folders that several hosts share: a file comes into being by a rename, and is
 * moved so that nothing is ever overwritten. Only what network file systems have is used: rename(),
 * link(), and no locks.
 */
#ifndef ZR_MESSAGING_DIRFILE_H
#define ZR_MESSAGING_DIRFILE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"
#include "base/err.h"

#define DIRFILE_NAME_MAX 200 /* bytes that others may choose */

/* The names in a folder that end with `suffix` and do not begin with a dot, sorted by bytes. */
int dirfile_list(int dirfd, const char *suffix, char ***ret, struct err *e) must_check;

/* A new file with all of its content: written beside, synced, renamed. The folder is not synced. */
int dirfile_write(int dirfd, const char *name, const void *data, size_t n,
		  struct err *e) must_check;

/* Moves a file to a name that is free: -EEXIST if it is not. */
int dirfile_move(int from_dirfd, const char *from, int to_dirfd, const char *to,
		 struct err *e) must_check;

/* Is it a regular file? -ENOENT: it is not there. */
int dirfile_is_regular(int dirfd, const char *name, bool *ret, struct err *e) must_check;

#endif

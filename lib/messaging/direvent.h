/* SPDX-License-Identifier: MIT */
/* Events as files of a channel that is a folder, zr-channel(7). */
#ifndef ZR_MESSAGING_DIREVENT_H
#define ZR_MESSAGING_DIREVENT_H

#include <stddef.h>

#include "base/attr.h"
#include "base/err.h"
#include "messaging/dirtree.h"
#include "messaging/stash.h"

/* The event with the way to its result, which stays on the host that made it. -ENOENT: it has none;
 * otherwise -errno. *ret is allocated. */
int direvent_add_results(const char *state_dir, const void *body, size_t n, char **ret,
			 size_t *ret_n) must_check;
/* Writes it under the name of its key, so that one that is told again after a crash is the same file.
 * ERR_INPUT: it is no event of this program. */
int direvent_write(int dirfd, const struct stash_record *rec, struct err *e) must_check;
/* If it is the end of an attempt: nobody holds that any more. */
void direvent_tell_end(const struct dirtree *t, const struct stash_record *rec);

#endif

/* SPDX-License-Identifier: MIT */
/* Events as files of a channel that is a folder, zr-channel(7). */
#ifndef ZR_MESSAGING_DIREVENT_H
#define ZR_MESSAGING_DIREVENT_H

#include <stddef.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/settings.h"
#include "messaging/diragain.h"
#include "messaging/dirtree.h"
#include "messaging/stash.h"

/* The event with the way to its result, which stays on the host that made it. -ENOENT: it has none;
 * otherwise -errno. *ret is allocated. */
int direvent_add_results(const char *state_dir, const void *body, size_t n, char **ret,
			 size_t *ret_n) must_check;
/* Writes it under the name of its key, so that one that is told again after a crash is the same file.
 * If it is an end that another attempt follows, it says so. ERR_INPUT: it is no event of this program. */
int direvent_write(const struct dirtree *t, const struct stash_record *rec,
		   const struct settings *s, struct err *e) must_check;
/* If it is the end of an attempt: nobody holds that any more, or in its place is the next one, which
 * waits among `again`. An error: it is to be told again. */
int direvent_tell_end(const struct dirtree *t, const struct stash_record *rec,
		      const struct settings *s, struct diragain *again, struct err *e) must_check;

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Packing a submission. The pack is made in a folder of its own, submissions_dir/.new-<uuid>/, which
 * its maker holds by a lock, and moved to submissions_dir/<id> by rename:
 *
 *	pack_make()      .new-<uuid>/sealed is whole and on disk; nobody knows of it
 *	(begin)          the row gets its id, inside a transaction
 *	pack_publish()   the id is noted in .new-<uuid>/id, then sealed is renamed to <id>
 *	(commit)         from here on the submission exists
 *	pack_done()      .new-<uuid> goes away
 *
 * A process killed before the commit leaves no row. What it leaves in the folder is found by the
 * next pack_sweep(), which takes the lock that death released: the .new- folder, and <id> if no row
 * has that number.
 */
#ifndef ZR_CMD_ZR_PACK_H
#define ZR_CMD_ZR_PACK_H

#include "base/err.h"
#include "store/db.h"
#include "transfer/manifest.h"
#include "transfer/seal.h"

struct pack {
	int parent_fd; /* submissions_dir */
	int fd;        /* .new-<uuid>, locked */
	char name[64]; /* ".new-<uuid>" */
	struct seal_result sealed;
	int64_t published; /* the id under which it lies; 0: not yet */
};
#define PACK_EMPTY                                                                                 \
	{                                                                                          \
		.parent_fd = -1, .fd = -1                                                          \
	}

/* How a pack is made that only its maker will see. */
struct pack_how {
	bool no_sync;
	const volatile sig_atomic_t *stop; /* as in seal.h */
};
/* ERR_INPUT: `path` is neither file nor folder, holds no file, or is over a limit. `how` may be NULL. */
int pack_make(const char *submissions_dir, const char *path, const struct pack_how *how,
	      struct pack *ret, struct err *e) must_check;
/* Of a pack that is not published yet. */
int pack_manifest(const struct pack *p, struct manifest *ret, struct err *e) must_check;
int pack_publish(struct pack *p, int64_t id, struct err *e) must_check;
/* Takes back what pack_publish() did: the transaction failed for certain. */
void pack_unpublish(struct pack *p);
void pack_done(struct pack *p);
/* Lets go without removing: whether the transaction was committed is not known. */
void pack_abandon(struct pack *p);
DEFINE_AUTO_DONE(pack);

/* Removes what killed processes left. Errors are not worth words: the next call tries again. */
void pack_sweep(const struct pack *p, struct db *d);

#endif

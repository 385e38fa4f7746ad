/* SPDX-License-Identifier: MIT */
/*
 * The tree of a job for the next one that is to see the same. Building it is most of what is left of
 * the cost of a sandbox, and a keeper mostly gets jobs of one evaluator. All that a job could write in
 * are folders of its own; these go, and the next job gets new ones. The rest was read-only for it.
 */
#ifndef ZR_CMD_ZR_BOX_JAILSPARE_H
#define ZR_CMD_ZR_BOX_JAILSPARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/attr.h"

struct keeper;
struct jail_bind;

/* What decides how a tree looks, all of it owned. */
struct jail_view {
	char *state, *sealed, *evaluator, *program;
	char **mounts, **beside, **reference;
	bool network, bare, data;
	unsigned phases;
	uint64_t bytes;
};

struct jail_spare {
	int mount; /* detached, with all that is mounted in it; -1: there is none */
	struct jail_view view;
	uint64_t made_usec; /* monotonic */
	uint64_t files_made;
	struct jail_bind *binds;
	size_t n_binds;
};
void jailspare_init(struct jail_spare *s);

/* True: the jail of this job has the tree, mounted in the box folder, and its mounts. */
bool jailspare_take(struct keeper *k);
/* The jail's processes are dead, its tree is of no use to the job any more. True: its mounts are kept,
 * and no longer the jail's. The box folder's mount is the caller's to undo. */
bool jailspare_keep(struct keeper *k);

#endif

/* SPDX-License-Identifier: MIT */
/* The pairs that lie in a folder (pikefile.h), in the order of the times of their .done files. */
#ifndef ZR_MESSAGING_PIKEPAIRS_H
#define ZR_MESSAGING_PIKEPAIRS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <time.h>

#include "base/attr.h"
#include "base/err.h"

struct pair {
	TAILQ_ENTRY(pair) entry;
	char *stem;
	struct timespec mtime; /* of its .done */
	uint64_t seen_usec;
	bool queued;
};
TAILQ_HEAD(pair_list, pair);

struct pikepairs {
	struct pair_list unread, queue; /* not understood yet; waiting for a place */
	size_t n_queued;
	uint64_t listed_usec;
	void *known; /* all of them by stem: tsearch(3) */
};
void pikepairs_init(struct pikepairs *q);
void pikepairs_done(struct pikepairs *q);

/* Reads the folder: new ones are unread. Pairs that have gone stay until somebody notices. */
int pikepairs_list(struct pikepairs *q, int dirfd, struct err *e) must_check;
void pikepairs_enqueue(struct pikepairs *q, struct pair *a); /* an unread one */
void pikepairs_drop(struct pikepairs *q, struct pair *a);

#endif

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
#include "messaging/dirpace.h"

TAILQ_HEAD(pair_list, pair);
struct pair {
	TAILQ_ENTRY(pair) entry;
	char *stem;
	struct timespec mtime; /* of its .done */
	uint64_t seen_usec;
	struct pair_list *list; /* the one that it is in */
	bool rejected;          /* spent, and to be put aside, not removed */
	bool tried;             /* it could not be sorted out when it was looked at */
};

struct pikepairs {
	struct pair_list unread, queue; /* not understood yet; waiting for a place */
	struct pair_list spent;         /* seen to, and cannot be removed */
	size_t n_queued;
	struct dirpace pace;
	void *known; /* all of them by stem: tsearch(3) */
};
void pikepairs_init(struct pikepairs *q);
void pikepairs_done(struct pikepairs *q);

/* Reads the folder: new ones are unread. Pairs that have gone stay until somebody notices. */
int pikepairs_list(struct pikepairs *q, int dirfd, struct err *e) must_check;
/* In how long it is to be read again (dirpace.h). */
uint64_t pikepairs_due(const struct pikepairs *q, bool scan);
void pikepairs_enqueue(struct pikepairs *q, struct pair *a); /* an unread one */
void pikepairs_spend(struct pikepairs *q, struct pair *a);
void pikepairs_drop(struct pikepairs *q, struct pair *a);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Requests of a channel that is a folder which were made for a further attempt and wait for their time
 * in the worker's own folder, and what is known of the attempts before (dirtree.h). The pause is measured by the worker's own clock: one that
 * follows another begins it anew, one that leaves lets them go at once.
 */
#ifndef ZR_MESSAGING_DIRAGAIN_H
#define ZR_MESSAGING_DIRAGAIN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/time.h"
#include "messaging/dirtree.h"

/* Whoever told an end has let go of its evaluation long before. */
#define DIRAGAIN_OVER_USEC (600 * USEC_PER_SEC)

struct again;
struct diragain {
	TAILQ_HEAD(, again) list;
};
void diragain_init(struct diragain *a);
void diragain_done(struct diragain *a);

/* One that is there already stays as it is. */
int diragain_add(struct diragain *a, const char *file, uint64_t delay_usec,
		 struct err *e) must_check;
/* Those whose time has come, or all, become requests, or go. An error: the others stay. */
int diragain_release(struct diragain *a, const struct dirtree *t, bool all,
		     struct err *e) must_check;

#endif

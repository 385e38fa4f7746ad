/* SPDX-License-Identifier: MIT */
/*
 * Tells when to look into folders: at once when the kernel says that a file was put there, and in
 * any case every `scan_usec`. The kernel knows nothing of what other hosts do on a network file
 * system, so that the second is the rule and the first a short cut.
 */
#ifndef ZR_MESSAGING_DIRWATCH_H
#define ZR_MESSAGING_DIRWATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/loop.h"

struct dirwatch;

enum dirwatch_why {
	DIRWATCH_SCAN, /* the time has come */
	DIRWATCH_NEWS, /* something was put into a folder */
	DIRWATCH_SOON, /* dirwatch_soon() */
};

/* Called from the loop, first soon after the start. */
typedef void (*dirwatch_fn)(void *user, enum dirwatch_why why);

/* Without `notify` the kernel is not asked. */
int dirwatch_new(struct loop *l, uint64_t scan_usec, bool notify, dirwatch_fn fn, void *user,
		 struct dirwatch **ret, struct err *e) must_check;
void dirwatch_free(struct dirwatch *w);
DEFINE_AUTO(dirwatch);

/* One more folder, by its descriptor. A folder that the kernel will not watch is an error that the
 * caller may ignore: it is scanned. */
int dirwatch_add(struct dirwatch *w, int dirfd, struct err *e) must_check;

/* As if there were news then. */
void dirwatch_later(struct dirwatch *w, uint64_t after_usec);
/* Look again in this turn of the loop. */
void dirwatch_soon(struct dirwatch *w);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * One pair of folders of the dialect pike: requests come into the first, answers go into the second.
 * A worker may have several; what was asked in one is answered in the same. Handshakes are answered
 * here, what cannot be a request is refused or rejected here.
 */
#ifndef ZR_MESSAGING_PIKESIDE_H
#define ZR_MESSAGING_PIKESIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/loop.h"
#include "base/pyjson.h"
#include "messaging/dirwatch.h"
#include "messaging/pikelines.h"
#include "messaging/pikepairs.h"

struct pikeside;

struct pikeside_ops {
	/* The word to close has come; s->closing is set. */
	void (*on_close)(void *user, struct pikeside *s);
	void (*on_report)(void *user, int level, const char *text);
};

struct piketask;

struct pikeside {
	char *input, *output; /* input NULL: nobody is served here any more, answers are owed */
	int in, out;
	struct pikepairs pairs;
	struct loop_src *drain; /* the channel's: when the last answer after `closing` is due */
	bool up;                /* the folders could be read when they were looked at last */
	bool stalled;           /* until the next scan */
	bool closing;           /* nothing that comes later is taken */
	bool closed, marked;    /* everything is answered; and that is on disk */

	const struct pikeside_ops *ops;
	void *user;
	const struct pikelines *lines;
};

int pikeside_new(const char *input, const char *output, const struct pikeside_ops *ops, void *user,
		 const struct pikelines *lines, struct pikeside **ret, struct err *e) must_check;
void pikeside_free(struct pikeside *s);

/* Opens what is not open, or was made anew by whoever else uses it. `watch` may be NULL. */
int pikeside_open(struct pikeside *s, struct dirwatch *watch, struct err *e) must_check;
/* Opens, and lists the requests. */
int pikeside_look(struct pikeside *s, struct dirwatch *watch, struct err *e) must_check;
/* Sorts out what was listed, up to a number: true, there is more. A text that is not whole has
 * `grace_usec`, and is looked at again by a `scan` only. */
bool pikeside_examine(struct pikeside *s, uint64_t grace_usec, bool scan);
/* It was seen to. What cannot be removed is not seen to again. */
void pikeside_finish(struct pikeside *s, struct pair *a);

int pikeside_answer(const struct pikeside *s, const void *data, size_t n, struct err *e) must_check;
/* An answer that it was not begun; if there can be none now, the pair is looked at again. */
void pikeside_refuse(struct pikeside *s, struct pair *a, struct pj id, const char *why);
void pikeside_refuse_all(struct pikeside *s, const char *why);
/* The last word on a task that is no longer known to anybody: its answer, if that was written already. */
int pikeside_give_up(const struct pikeside *s, const struct piketask *t, const char *why,
		     struct err *e) must_check;

#endif

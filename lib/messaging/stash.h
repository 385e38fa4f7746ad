/* SPDX-License-Identifier: MIT */
/*
 * What a worker must not lose, in one spool on its own disk: durable events that have not arrived,
 * and notes, which are kept beside them and never sent. The transport reads the events in order and
 * drops what has arrived. Numbers are those of spool.h.
 */
#ifndef ZR_MESSAGING_STASH_H
#define ZR_MESSAGING_STASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/loop.h"

struct stash;

/* Any may be NULL. The last two are called within stash_open() only. */
struct stash_ops {
	void (*on_durable)(void *user, uint64_t id);
	/* Something is odd and handled: for the log. */
	void (*on_warning)(void *user, const char *text);
	/* A note that was found, and no end of the attempt that it names. False: it is not needed any
	 * more. NULL: none is. */
	bool (*on_note)(void *user, uint64_t id, const char *name, const void *body, size_t n);
	/* The sibling folder `name`, which no process uses, was emptied into ours; it is locked
	 * meanwhile. */
	void (*on_sibling)(void *user, const char *name);
};

/* Where the events of a worker wait. */
int stash_path(const char *state_dir, unsigned worker, char **ret, struct err *e) must_check;

/* `dir` is made if it is missing. Sibling folders of `dir` that no process has locked are emptied
 * into it: a host with fewer workers than before still sends everything. ERR_INPUT: in use. */
int stash_open(struct loop *l, const char *dir, uint64_t bytes_max, const struct stash_ops *ops,
	       void *user, struct stash **ret, struct err *e) must_check;
void stash_free(struct stash *s);
DEFINE_AUTO(stash);

/* -ENOSPC: full. `key` is not empty; *ret_id may be NULL. */
int stash_event(struct stash *s, const char *key, const char *id, const void *body, size_t n,
		uint64_t *ret_id, struct err *e) must_check;
int stash_note(struct stash *s, const char *name, const void *body, size_t n, uint64_t *ret_id,
	       struct err *e) must_check;
void stash_forget(struct stash *s, uint64_t id); /* a note */
void stash_drop(struct stash *s, uint64_t id);   /* an event */

/* The next durable event with a number above *id; *id becomes its number, `ret` is valid until the
 * next call. Returns 1, 0 if there is none (yet). A record that is not of this program has no key. */
struct stash_record {
	const char *key, *id;
	const void *body;
	size_t n;
};
int stash_next(struct stash *s, uint64_t *id, struct stash_record *ret, struct err *e) must_check;

/* An event that can never be sent: into the folder "parked", and dropped. Stays if that fails. */
int stash_park(struct stash *s, uint64_t id, struct err *e) must_check;

uint64_t stash_waiting(const struct stash *s); /* events */
int stash_sync(struct stash *s, struct err *e) must_check;

#endif

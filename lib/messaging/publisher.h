/* SPDX-License-Identifier: MIT */
/*
 * Events on their way to the broker: a spool and a publish-only connection. Durable events are
 * written and synced first, published in the order of their numbers, published again after a
 * reconnect or restart, and forgotten when the broker has confirmed them. Receivers see an event at
 * least once. One that no queue takes yet waits on disk and is tried again. Others are sent if the broker is there, and else dropped.
 */
#ifndef ZR_MESSAGING_PUBLISHER_H
#define ZR_MESSAGING_PUBLISHER_H

#include "base/attr.h"
#include "base/err.h"
#include "base/loop.h"
#include "messaging/broker.h"

struct publisher;
struct stash;

struct publisher_ops {
	/* Durable events up to `id` are on disk. May be NULL, as the others. */
	void (*on_durable)(void *user, uint64_t id);
	/* The durable event is the broker's. Numbers come in any order. */
	void (*on_confirmed)(void *user, uint64_t id);
	/* It can never be sent (too long, not ours): moved to the folder "parked" of the spool. */
	void (*on_parked)(void *user, const char *routing_key, const char *why);
	/* `why` is NULL when up; its kind tells a wrong configuration from a bad moment. */
	void (*on_state)(void *user, bool up, const struct err *why);
	/* Something is odd and handled: for the log. */
	void (*on_warning)(void *user, const char *text);
	/* A note that was found; only within publisher_new(). False: it is not needed any more. NULL:
	 * none is. */
	bool (*on_note)(void *user, uint64_t id, const char *name, const void *body, size_t n);
};

/* `dir` is made if it is missing; records found there are published first. Sibling folders of
 * `dir` that no process has locked are emptied into it: a host with fewer workers than before
 * still sends everything. */
int publisher_new(struct loop *l, const struct broker_conf *conf, const char *dir,
		  uint64_t bytes_max, const struct publisher_ops *ops, void *user,
		  struct publisher **ret, struct err *e) must_check;
void publisher_free(struct publisher *p);
DEFINE_AUTO(publisher);

/* To the exchange of the events. *ret_id (may be NULL) numbers durable ones. -ENOSPC: the spool is
 * full: stop taking work. An event that is not durable returns 0 though it may be dropped. */
int publisher_event(struct publisher *p, const char *routing_key, const char *message_id,
		    const void *body, size_t n, bool durable, uint64_t *ret_id,
		    struct err *e) must_check;

/* Publishes something else on the same connection; `done` is called exactly once, also on loss.
 * -EAGAIN as broker_publish(). */
typedef void (*publisher_done_fn)(void *user, enum broker_outcome o, const char *why);
int publisher_send(struct publisher *p, const struct publication *pub, publisher_done_fn done,
		   void *user, struct err *e) must_check;

bool publisher_is_up(const struct publisher *p);
/* Where the events wait: for notes beside them, and to count or sync them. The publisher's. */
struct stash *publisher_stash(const struct publisher *p);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Takes requests out of several queues with an order among them (high before normal, but one in
 * seventeen of a queue that has been left behind so often), and never
 * more of them than there are places: what is held without a place could run elsewhere, and giving
 * it back costs it one of its deliveries. The broker's connection is the caller's.
 */
#ifndef ZR_MESSAGING_FEED_H
#define ZR_MESSAGING_FEED_H

#include <stdbool.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/loop.h"
#include "messaging/broker.h"

struct feed;

struct feed_ops {
	/* A request of `queue`. True: it takes one of the places. Settle it here or later. */
	bool (*on_request)(void *user, const struct delivery *d, const char *queue);
	/* No place is wanted, and what was on its way when that was said has come. */
	void (*on_idle)(void *user);
	void (*on_report)(void *user, int level, const char *text);
};

/* `queues` in their order; copied. `ops` and `b` outlive it. */
int feed_new(struct loop *l, struct broker *b, char *const *queues, const struct feed_ops *ops,
	     void *user, struct feed **ret, struct err *e) must_check;
/* Touches the broker no more. NULL is fine. */
void feed_free(struct feed *f);

/* So many places are free now. */
void feed_want(struct feed *f, unsigned n);
/* The broker can be asked, or not (any more). */
void feed_up(struct feed *f, bool up);
/* A delivery of the broker that is not of another consumer of the caller's. */
void feed_delivery(struct feed *f, const struct delivery *d);
/* Instead of broker_ack(). */
int feed_ack(struct feed *f, struct delivery_ref ref) must_check;
/* More of a batch is on its way, for a few milliseconds at most. */
bool feed_brings_more(const struct feed *f);
/* Nothing is on its way. */
bool feed_is_idle(const struct feed *f);

#endif

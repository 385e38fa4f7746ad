/* SPDX-License-Identifier: MIT */
/* One delivery on its way into the database. */
#ifndef ZR_CMD_ZR_UPDATE_ITEM_H
#define ZR_CMD_ZR_UPDATE_ITEM_H

#include <sys/queue.h>

#include "messaging/broker.h"
#include "messaging/message.h"
#include "store/events.h"

enum item_state {
	ITEM_WAITING, /* for a batch */
	ITEM_SENT,    /* in one */
	ITEM_DEAD,    /* goes to the dead queue; `letter` says when it is there */
	ITEM_DONE,    /* to be acknowledged */
};

struct item {
	TAILQ_ENTRY(item) arrival; /* all, in the order in which the broker counts them */
	TAILQ_ENTRY(item) turn;    /* ITEM_WAITING */
	enum item_state state;
	struct intake *intake;
	struct delivery_ref ref;
	uint64_t arrived_usec; /* monotonic */
	char *routing_key, *message_id;
	void *body;
	size_t size;

	struct message *message; /* texts of `event` are its */
	struct store_event event;
	int64_t evaluation; /* batches are sorted by it, so that they lock rows in one order */
	char at[TIME_TEXT_MAX];
	char *json; /* body of the event, or the whole message */

	bool alone;          /* in a transaction of its own: it, or one beside it, was refused */
	bool locked;         /* the same, and it waits for locks a moment only */
	uint64_t not_before; /* monotonic; somebody holds its row */
	const char *park;    /* reason: it is not applied but parked */
	char detail[480];    /* why */
	struct letter *letter;
};

/* Copies a delivery and understands it. Not MESSAGE_GOOD: `why` says what is wrong with it; the item
 * is there all the same. NULL: no memory. */
struct item *item_new(const struct delivery *d, size_t max, enum message_bad *ret_bad,
		      struct err *why);
void item_free(struct item *it);

/* Well-formed, and nothing that the database wants. */
bool item_is_moot(const struct item *it);
/* To be joined into its evaluation; others are heartbeats or ticks, or are parked. */
bool item_is_event(const struct item *it);

/* The statement of an item that is not applied as an event: a heartbeat or tick, or it is parked. */
const struct db_stmt *item_statement(struct item *it, struct db_args *a);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * What zr-update publishes: dead messages, and rows of the outbox. A letter is kept until the broker
 * has confirmed it, through every loss of the connection. And ticks, which are not.
 */
#ifndef ZR_CMD_ZR_UPDATE_OUTLET_H
#define ZR_CMD_ZR_UPDATE_OUTLET_H

#include "messaging/broker.h"
#include "update.h"

int outlet_new(struct update *u, struct outlet **ret, struct err *e) must_check;
void outlet_free(struct outlet *o);
DEFINE_AUTO(outlet);

struct letter;
/* confirmed, or `why` not. */
typedef void (*letter_fn)(void *user, bool confirmed, const char *why);

/* A message that nobody can use, with its original bytes; `reason` is a code, `detail` a sentence. */
int outlet_dead(struct outlet *o, const char *queue, const char *routing_key,
		const char *message_id, const char *reason, const char *detail, const void *body,
		size_t n, letter_fn done, void *user, struct letter **ret,
		struct err *e) must_check;
/* The sender does not wait any longer; the letter may still go out. */
void letter_forget(struct letter *l);

/* A message once more, for this queue alone. ERR_TRANSIENT: there are too many. */
int outlet_copy(struct outlet *o, const char *queue, const char *message_id, const void *body,
		size_t n, letter_fn done, void *user, struct err *e) must_check;

/* A row of the outbox: published, then the row is deleted. Its body is copied. */
void outlet_row(struct outlet *o, int64_t outbox_id, const char *exchange, const char *routing_key,
		const char *message_id, const char *body);
/* Publishes rows that stay: their writers died before they could. */
void outlet_sweep(struct outlet *o);

/* Publishes what is owed for these evaluations by this process, now: '{1,2}'. */
void outlet_again(struct outlet *o, const char *evaluations);

/* Now or never. False: one is still on its way to the broker, or there is no connection. */
bool outlet_tick(struct outlet *o, const char *routing_key, const char *body, size_t n);

/* Asks how many messages are ready in a queue, on the connection of the outlet. */
int outlet_count(struct outlet *o, const char *queue, broker_reply_fn fn, void *user,
		 struct err *e) must_check;

bool outlet_is_idle(const struct outlet *o);

#endif

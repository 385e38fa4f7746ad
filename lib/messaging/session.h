/* SPDX-License-Identifier: MIT */
/*
 * The broker for tools: calls that wait. A session connects on first use with a connection per role,
 * gives up at its deadline, and does not reconnect. Not for daemons.
 */
#ifndef ZR_MESSAGING_SESSION_H
#define ZR_MESSAGING_SESSION_H

#include "base/attr.h"
#include "base/err.h"
#include "base/settings.h"
#include "messaging/broker.h"

struct session;

/* `timeout_usec` bounds each call below. INPUT: settings that cannot work. */
int session_new(const struct settings *s, const char *name, uint64_t timeout_usec,
		struct session **ret, struct err *e) must_check;
void session_free(struct session *s);
DEFINE_AUTO(session);

/* Publishes n messages and waits for every confirm. Fails with the first that was not confirmed;
 * ERR_INPUT if no queue takes its routing key, TRANSIENT if the broker is away or refuses. */
int session_publish(struct session *s, const struct publication *pubs, size_t n,
		    struct err *e) must_check;

/* Declares, binds, looks. A refusal of the broker is 0 with ret->code set; texts live until the next
 * call. */
int session_call(struct session *s, const struct broker_call *call, struct broker_reply *ret,
		 struct err *e) must_check;

/* Gets up to `max` messages of a queue; each is handed to `fn` and stays unsettled: fn may keep its
 * ref for session_settle(). What is not settled returns to the queue. fn returns 0, or non-zero to
 * stop. Returns how many. */
int session_get(struct session *s, const char *queue, size_t max,
		int (*fn)(void *user, const struct delivery *d), void *user,
		struct err *e) must_check;
/* ack true: taken from the queue; else given back. */
int session_settle(struct session *s, struct delivery_ref ref, bool ack, struct err *e) must_check;

#endif

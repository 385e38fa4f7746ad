/* SPDX-License-Identifier: MIT */
/*
 * Messages that a change in the database owes the broker. The row is written in the transaction of
 * the change, and deleted after the broker's confirm; zr-update publishes again what stays. Sent
 * twice is normal: receivers know the message id.
 */
#ifndef ZR_STORE_OUTBOX_H
#define ZR_STORE_OUTBOX_H

#include "store/db.h"
#include "store/db_pipe.h"

struct outbox_msg {
	const char *exchange, *routing_key;
	const char *message_id; /* uuid */
	const char *body;       /* JSON */
	size_t len;
};

/* After the confirm: deletes the row, and marks its evaluation `queued` if it was `created`. */
int outbox_sent(struct db *d, int64_t outbox_id, struct err *e) must_check;
extern const struct db_stmt outbox_sent_stmt; /* $1: id */

/* Rows older than $1 µs, oldest first, at most $2: id, exchange, routing_key, message_id, body, age
 * in µs. A row that could not be routed is tried again after a growing time. */
extern const struct db_stmt outbox_due_stmt;
/* The same columns: what is owed now for evaluations, and was not tried yet. $1: their ids, an array. */
extern const struct db_stmt outbox_again_stmt;
extern const struct db_stmt outbox_failed_stmt; /* $1: id, $2: why */

/* --- requests that no queue holds any more (migrations/0107) --- */

/* $1: lease in µs. Routing keys of requests that have waited for longer. */
extern const struct db_stmt outbox_queues_stmt;
/* $1: routing key, $2: how many messages are ready in its queue, negative: there is none. */
extern const struct db_stmt outbox_saw_stmt;
/* $1: lease in µs, $2: how many at most. What the looks at queues say is gone, and what was looked
 * for since (store/sought), is owed again: evaluation, attempt, routing key. */
extern const struct db_stmt outbox_resend_stmt;

#endif

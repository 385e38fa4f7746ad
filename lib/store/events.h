/* SPDX-License-Identifier: MIT */
/*
 * Applying events. An event has a natural key and a monotone join, so neither repetition nor order
 * matters, and any number of them can be one statement:
 *  - the key (evaluation, attempt, attempt_id, seq) makes a repeat a no-op;
 *  - an evaluation that has ended never leaves an end; among ends the one of the highest attempt is
 *    in force (ties: the greater attempt_id; within an attempt the first end, by seq);
 *  - `lost` and `infrastructure` end an attempt; the evaluation only when it was begun anew so often
 *    as event_policy says. A failure of the evaluation's own is final, unless the end says that its
 *    evaluator allows `retries`. Neither counts for the other;
 *  - the second attempt of a request that is `lost` because its keeper died ends the evaluation: `poison`;
 *  - what does not end the evaluation asks for the next attempt: an outbox row with the evaluation's
 *    request, in the same transaction, due after a pause;
 *  - a cancel accepted by the database beats every outcome that was not recorded before it.
 * What lost is kept in `event` and `attempt` and changes nothing else.
 */
#ifndef ZR_STORE_EVENTS_H
#define ZR_STORE_EVENTS_H

#include "base/str.h"
#include "store/db.h"
#include "store/db_pipe.h"

enum event_answer {
	EVENT_UNKNOWN,   /* no such evaluation: not recorded, to be parked */
	EVENT_DUPLICATE, /* was recorded already */
	EVENT_STALE,     /* recorded; it changed nothing of the evaluation */
	EVENT_APPLIED,   /* recorded, and its attempt is the one in force */
};

struct store_event {
	const char *evaluation; /* decimal */
	int attempt;
	const char *attempt_id;
	int64_t seq;
	const char *kind; /* started progress completed failed canceled */
	const char *at;   /* RFC 3339 */
	const char *host, *worker;
	const char *body; /* JSON object as text */
};

/* What PostgreSQL would refuse, with the field's name, before it is sent. INPUT. */
int events_check(const struct store_event *ev, struct err *e) must_check;

/*
 * A batch is text that grows: add events to an empty buffer, then make it the one parameter of
 * events_apply_stmt, whose rows answer event by event. Batches of one kind of order (by evaluation)
 * do not deadlock with each other. A failed add (INPUT) leaves the batch as it was.
 */
int events_add(struct buf *batch, const struct store_event *ev, struct err *e) must_check;
struct event_policy {
	uint64_t infrastructure_retries;
	uint64_t retry_delay_usec; /* before the first; doubled for each further one, to 10 min */
};
int events_args(struct buf *batch, const struct event_policy *p, struct db_args *a,
		struct err *e) must_check;
extern const struct db_stmt events_apply_stmt;

struct event_result {
	enum event_answer answer;
	bool ended;   /* the evaluation's outcome changed: boards and waiters care */
	bool collect; /* a result waits to be collected */
	int again;    /* the attempt that was asked for; 0: none */
};
void events_result(const struct db_rows *r, int i, struct event_result *ret);

/* A message that cannot be applied: original bytes and why. Reasons: unknown-evaluation, data,
 * malformed. The same message id is parked once. */
extern const struct db_stmt events_park_stmt;
void events_park_args(struct db_args *a, const char *message_id, const char *routing_key,
		      const char *reason, const char *detail, const void *body, size_t len);
/* List of {id, message_id, routing_key, reason, detail, bytes, parked_at}, newest first. `reason` NULL:
 * any; `limit` 0: 100. */
int events_parked(struct db *d, const char *reason, int64_t limit, json_t **ret,
		  struct err *e) must_check;
/* Their numbers, all, oldest first. */
int events_parked_ids(struct db *d, const char *reason, json_t **ret, struct err *e) must_check;

struct events_taken {
	char *message_id; /* NULL: it had none */
	struct buf body;
};
void events_taken_done(struct events_taken *p);
DEFINE_AUTO_DONE(events_taken);
/* Deletes a parked event and gives its bytes. -ENOENT, ERR_INPUT: there is none of this number. */
int events_take(struct db *d, int64_t id, struct events_taken *ret, struct err *e) must_check;

/* A step of removing what is older than `keep_usec`; see migrations/0104. */
extern const struct db_stmt events_prune_stmt;
void events_prune_args(struct db_args *a, uint64_t keep_usec, int64_t after, int evaluations,
		       int events);
struct events_pruned {
	bool more;       /* go on with after = reached */
	int64_t reached; /* evaluation */
	int64_t removed, parked;
};
void events_pruned(const struct db_rows *r, struct events_pruned *ret);

#endif

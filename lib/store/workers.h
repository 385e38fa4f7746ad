/* SPDX-License-Identifier: MIT */
/* Who was heard of, what they hold and how long it is theirs, and the evaluators they offer. */
#ifndef ZR_STORE_WORKERS_H
#define ZR_STORE_WORKERS_H

#include "store/db.h"
#include "store/db_pipe.h"
#include "store/events.h"

/* List of {worker, host, pid, state, alive, lost, lease_usec, since, at, jobs: [{evaluation, attempt,
 * phase, since}], evaluators: […]}, by name. alive: heard of in the last 30 s and not gone. lost: silent
 * for longer than its lease, while somebody listened; lease_usec null: it never is. */
int workers_list(struct db *d, json_t **ret, struct err *e) must_check;
/* Forgets workers not heard of for so long; returns how many. */
int workers_forget(struct db *d, uint64_t older_usec, struct err *e) must_check;

/* A worker's heartbeat; an older one than what is known only says that it lives. `body` is the message. */
extern const struct db_stmt workers_beat_stmt;
void workers_beat_args(struct db_args *a, const char *worker, const char *host, const char *at,
		       const char *body);

/* --- leases (migrations/0106 has the rules) --- */

/* A tick has come back; $1: the time of this database at which it was sent. */
extern const struct db_stmt workers_tick_stmt;
/* $1 takes events, and all that was delivered to it before $2, an earlier answer, is committed (null: it
 * cannot say). Answers the time of the database. */
extern const struct db_stmt workers_listen_stmt;
/* Ends what lost workers hold. Rows: see workers_lost(). */
extern const struct db_stmt workers_audit_stmt;
/* patience_usec: a process that has not said for so long that it takes events has lost what it had. */
void workers_audit_args(struct db_args *a, uint64_t patience_usec, const struct event_policy *p);
struct worker_lost {
	const char *evaluation, *attempt_id;
	int attempt;
	const char *detail; /* sentence with the worker's name */
	bool ended;         /* the evaluation's outcome changed */
	int again;          /* the attempt that was asked for; 0: none */
};
void workers_lost(const struct db_rows *r, int i, struct worker_lost *ret);
/* Does anybody look for lost workers now? */
int workers_are_audited(struct db *d, bool *ret, struct err *e) must_check;

/* What `evaluators:discover` found on a host: replaces that host's rows. `found` is a list of
 * {name, description, …}; the whole object is kept. */
int evaluators_set(struct db *d, const char *host, const json_t *found, struct err *e) must_check;
/* List of {name, host, description, seen_at, …}; of what only the host's workers told {name, host,
 * seen_at}. */
int evaluators_list(struct db *d, json_t **ret, struct err *e) must_check;

#endif

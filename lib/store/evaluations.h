/* SPDX-License-Identifier: MIT */
/*
 * Evaluations, for the CLI. Objects have these keys, stable: id, status, reason, detail, exit_code,
 * signal, attempt, attempt_id, scores, results {state, path}, host, worker, submission, challenge,
 * author, evaluator, pool, priority, args, progress {done, total, fraction, text, phase}|null,
 * settled (ended, and no retry is under way), created_at, queued_at, started_at, finished_at.
 * status: created queued running completed failed canceled. results.state: none pending stored
 * refused.
 */
#ifndef ZR_STORE_EVALUATIONS_H
#define ZR_STORE_EVALUATIONS_H

#include "store/db.h"
#include "store/outbox.h"

struct evaluation_filter {
	const char *challenge, *author, *status, *host, *evaluator; /* NULL: any */
	const char *since;  /* created at or after, RFC 3339; NULL: any */
	int64_t submission; /* 0: any */
	int64_t before;     /* ids below; 0: any */
	int limit;          /* 0: 100 */
};
/* Newest first. `results_dir` makes results.path absolute. */
int evaluations_list(struct db *d, const struct evaluation_filter *f, const char *results_dir,
		     json_t **ret, struct err *e) must_check;
/* The object, with more: attempts [{attempt, attempt_id, host, worker, status, reason, detail,
 * exit_code, signal, scores, results, usage, log, isolation, started_at, finished_at}], limits, cancel {by,
 * at}|null, outbox {age_seconds, tries, error, due_at}|null, max_attempts, wanted_attempt (the first of
 * the last request by hand), asked_attempt (the highest asked for), version. -ENOENT, ERR_INPUT. */
int evaluations_show(struct db *d, int64_t id, const char *results_dir, json_t **ret,
		     struct err *e) must_check;
/* The recorded events of one evaluation after `event_id` (0: all), oldest first. */
int evaluations_events(struct db *d, int64_t id, int64_t after, json_t **ret,
		       struct err *e) must_check;

struct evaluation_new {
	int64_t id; /* from evaluations_next_id(), as the request names it */
	int64_t submission;
	const char *evaluator, *pool, *host, *priority; /* pool and host may be NULL */
	const json_t *args, *limits;                    /* may be NULL */
	/* Attempts for failures of its own, whatever its evaluator allows; 0: 1. */
	int max_attempts;
};
int evaluations_next_id(struct db *d, int64_t *ret_id, struct err *e) must_check;
/* The evaluation and the request that it owes, in one transaction. The caller then publishes and
 * calls outbox_sent(), or leaves that to zr-update. */
int evaluations_create(struct db *d, const struct evaluation_new *n, const struct outbox_msg *m,
		       int64_t *ret_outbox_id, struct err *e) must_check;

/* Accepts a cancel: from here on every other outcome loses. `m` is the control message. Returns 1
 * accepted, 0 it had ended already (*ret_outbox_id 0). -ENOENT, ERR_INPUT: no such evaluation. */
int evaluations_cancel(struct db *d, int64_t id, const char *by, const struct outbox_msg *m,
		       int64_t *ret_outbox_id, struct err *e) must_check;

/* The ordinal that a retry by hand gets. -EBUSY, ERR_INPUT: it has not ended. */
int evaluations_next_attempt(struct db *d, int64_t id, int *ret_attempt, struct err *e) must_check;
/* Records the retry with the request it owes; -EBUSY if somebody else was faster. */
int evaluations_retry(struct db *d, int64_t id, int attempt, const struct outbox_msg *m,
		      int64_t *ret_outbox_id, struct err *e) must_check;

#endif

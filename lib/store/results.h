/* SPDX-License-Identifier: MIT */
/*
 * Results that wait on eval hosts. The database is the queue: a result is pending from the event
 * that announced it until it is stored, or refused because it is not what was announced.
 */
#ifndef ZR_STORE_RESULTS_H
#define ZR_STORE_RESULTS_H

#include "store/db_pipe.h"
#include "store/outbox.h"

struct result_due {
	int64_t evaluation;
	int attempt;
	const char *attempt_id, *host, *root_hash, *path; /* path: beneath the results folder */
};

/* $1: JSON list of hosts to leave out, $2: at most so many, $3: the root hash of results for which
 * the host does not matter. */
extern const struct db_stmt results_due_stmt;
void results_due_row(const struct db_rows *r, int row, struct result_due *ret);

/* `detail`: why it is refused; NULL: it is stored. `release` is the control message owed to the
 * host, or NULL. One row: the outbox id of the release, 0 without one, or NULL if it was not pending
 * any more. */
extern const struct db_stmt results_done_stmt;
void results_done_args(struct db_args *a, const struct result_due *d, const char *detail,
		       const struct outbox_msg *release);

#endif

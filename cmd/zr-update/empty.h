/* SPDX-License-Identifier: MIT */
/*
 * Results without a file. Their hosts sealed nothing and are not asked: each is an empty folder,
 * made here. All that one look found become durable and are recorded together.
 */
#ifndef ZR_CMD_ZR_UPDATE_EMPTY_H
#define ZR_CMD_ZR_UPDATE_EMPTY_H

#include "store/results.h"
#include "update.h"

bool empty_is(const struct result_due *d);

/*
 * Publishes those that are empty among the rows of results_due_stmt, and sends what records them;
 * `done` hears of the commit, unless there is none to record. One whose folder cannot be made stays
 * pending while the others go on; then the call fails in the end.
 */
int empty_publish(struct update *u, const struct db_rows *rows, db_done_fn done, void *user,
		  struct err *e) must_check;

#endif

/* SPDX-License-Identifier: MIT */
/*
 * From the queue to committed rows. Deliveries wait in a window (the prefetch), go to the database in
 * batches of what has arrived, two batches at a time, and are acknowledged in the order of arrival
 * once the transaction that holds them is committed.
 */
#ifndef ZR_CMD_ZR_UPDATE_INTAKE_H
#define ZR_CMD_ZR_UPDATE_INTAKE_H

#include "update.h"

int intake_new(struct update *u, struct intake **ret, struct err *e) must_check;
void intake_free(struct intake *in);
DEFINE_AUTO(intake);

/* No further deliveries; what is at the database is finished, the rest goes back. */
void intake_drain(struct intake *in);
/* When idle: the last acknowledgements reach the broker before `done`. */
void intake_close(struct intake *in, void (*done)(void *user), void *user);
bool intake_is_idle(const struct intake *in);
/* The database is there and has our schema. */
bool intake_has_schema(const struct intake *in);
bool intake_is_up(const struct intake *in);
/* Whether all that was delivered before this monotonic time is committed or certainly back in the queue. */
bool intake_is_clear(const struct intake *in, uint64_t usec);

#endif

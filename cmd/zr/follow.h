/* SPDX-License-Identifier: MIT */
/* Watching evaluations: the database is asked twice a second, and again when it has been away. */
#ifndef ZR_CMD_ZR_FOLLOW_H
#define ZR_CMD_ZR_FOLLOW_H

#include "base/str.h"
#include "base/time.h"
#include "cli.h"
#include "store/db.h"
#include "store/evaluations.h"

#define FOLLOW_USEC (500 * USEC_PER_MSEC)

/* A connection that comes back. */
struct follow {
	const struct settings *settings;
	struct db *db; /* NULL while the database is away */
	bool told;     /* that it is away */
};
void follow_done(struct follow *f);
DEFINE_AUTO_DONE(follow);

/* -EAGAIN: the database is away (said once on stderr), ask again later. */
int follow_show(struct follow *f, int64_t id, json_t **ret, struct err *e) must_check;
int follow_list(struct follow *f, const struct evaluation_filter *filter, json_t **ret,
		struct err *e) must_check;
int follow_events(struct follow *f, int64_t id, int64_t after, json_t **ret,
		  struct err *e) must_check;
/* Sleeps FOLLOW_USEC, or until `deadline` on the monotonic clock. False: that has come. */
bool follow_pause(uint64_t deadline);

/*
 * Waits until the evaluation is, or has been, in `state`: one of the statuses, "ended" (settled in
 * any of the last three), or "stored" (its result is here). Shows progress on stderr if `show`. The
 * exit status: 0; 1, it cannot come to that any more; 75, the deadline has passed.
 */
int follow_until(const struct cli *c, struct follow *f, int64_t id, const char *state,
		 uint64_t deadline, bool show);
bool follow_is_state(const char *state);

#endif

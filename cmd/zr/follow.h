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

/* "running on oberon/1, run: 15 of 200 words"; foreign bytes are escaped. `width` > 0: a bar of so
 * many columns instead of the place. */
int follow_text(const json_t *evaluation, int width, struct buf *b) must_check;
/* The progress alone: "15/200", "40 %", or "-". */
int follow_progress(const json_t *evaluation, struct buf *b) must_check;
/* 0 to 1, or negative if it is not known. */
double follow_fraction(const json_t *evaluation);

/* What was last shown of an evaluation where lines stay for ever: the steps of the progress are
 * thinned out, a change of status, worker or attempt always counts. Starts as { .fraction = -1 }. */
struct follow_shown {
	json_t *head;
	double fraction;
	uint64_t at;
};
void follow_shown_done(struct follow_shown *s);
bool follow_worth_a_line(struct follow_shown *s, const json_t *evaluation);

/* Columns of the terminal at `fd`; 80 if it does not say. */
int follow_columns(int fd);
/* Cuts a line to so many columns. */
void follow_cut(struct buf *b, int columns);

/*
 * Waits until the evaluation is, or has been, in `state`: one of the statuses, "ended" (settled in
 * any of the last three), or "stored" (its result is here). Shows progress on stderr if `show`. The
 * exit status: 0; 1, it cannot come to that any more; 75, the deadline has passed.
 */
int follow_until(const struct cli *c, struct follow *f, int64_t id, const char *state,
		 uint64_t deadline, bool show);
bool follow_is_state(const char *state);

#endif

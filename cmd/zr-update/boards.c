/* SPDX-License-Identifier: MIT */
#include "boards.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "leader.h"
#include "store/leaderboards.h"

#define QUIET_USEC  (200 * USEC_PER_MSEC)
#define LATEST_USEC (2 * USEC_PER_SEC)

struct mark {
	int64_t id, challenge;
};

struct boards {
	struct update *update;
	struct loop_src *timer;
	uint64_t first_poke; /* 0: none since the last round */
	bool running;
	struct mark *marks; /* of this round */
	size_t n, at;
	bool keep_mark; /* a board of the challenge at hand could not be written */
};

static void next_challenge(struct boards *b);

static void round_over(struct boards *b)
{
	free(b->marks);
	b->marks = NULL;
	b->n = b->at = 0;
	b->running = false;
	if (b->first_poke)
		loop_timer_set(b->timer, QUIET_USEC);
}

static bool failed(struct boards *b, const char *what, const struct db_outcome *o)
{
	if (o->class == DB_OK)
		return false;
	(void)update_failed(b->update, what, o);
	round_over(b);
	return true;
}

static void on_recorded(void *user, const struct db_outcome *o)
{
	struct boards *b = user;

	if (failed(b, "record a leaderboard", o))
		return;
	b->at++;
	next_challenge(b);
}

/* One board of the challenge at hand; a bad definition or a full disk concerns only it. */
static int build_one(struct boards *b, const struct db_rows *rows, int i, struct err *e)
{
	auto_done(leaderboard_report) report = { 0 };
	json_auto_t *def = NULL, *entries = NULL;
	auto_free char *text = NULL;
	const char *label = db_text(rows, i, 0);
	struct db_args a = { 0 };
	struct err why = { 0 };
	int r = db_json(rows, i, 1, &def, &why);

	if (r == 0)
		r = db_json(rows, i, 2, &entries, &why);
	if (r == 0)
		r = leaderboard_publish(def, entries, b->update->settings->leaderboards_dir,
					&report, &why);
	if (r < 0)
		log_err("leaderboard %s: %s", label, why.msg);
	else
		log_info("leaderboard %s: %zu entries, %zu left out", label, report.entries,
			 json_array_size(report.skipped));
	b->keep_mark |= r < 0 && why.kind != ERR_INPUT;
	r = leaderboards_built_args(&a, label, &report, r < 0 ? why.msg : NULL, &text, e);
	return r < 0 ? r : db_pipe_add(b->update->work, &leaderboards_built_stmt, &a, e);
}

static int record(struct boards *b, struct err *e)
{
	const struct mark *m = &b->marks[b->at];
	struct db_args a = { 0 };
	int r;

	db_arg_int(&a, m->challenge);
	db_arg_int(&a, b->keep_mark ? 0 : m->id);
	r = db_pipe_add(b->update->work, &leaderboards_clean_stmt, &a, e);
	return r < 0 ? r : db_pipe_sync(b->update->work, on_recorded, b, e);
}

static void on_loaded(void *user, const struct db_outcome *o)
{
	struct boards *b = user;
	struct err e = { 0 };
	int r = 0;

	if (failed(b, "read a leaderboard", o))
		return;
	b->keep_mark = false;
	for (int i = 0; r == 0 && i < db_rows_n(o->rows[0]); i++)
		r = build_one(b, o->rows[0], i, &e);
	if (r == 0)
		r = record(b, &e);
	if (r < 0) {
		log_warning("leaderboards: %s; trying again", e.msg);
		round_over(b);
	}
}

static void next_challenge(struct boards *b)
{
	struct db_args a = { 0 };

	if (!b->marks || b->at == b->n || !leader_is_me(b->update->leader)) {
		round_over(b);
		return;
	}
	db_arg_text(&a, NULL);
	db_arg_int(&a, b->marks[b->at].challenge);
	if (db_pipe_send(b->update->work, &leaderboards_load_stmt, &a, on_loaded, b, NULL) < 0)
		round_over(b);
}

static void on_marks(void *user, const struct db_outcome *o)
{
	struct boards *b = user;

	if (failed(b, "look for leaderboards to build", o))
		return;
	b->n = (size_t)db_rows_n(o->rows[0]);
	b->marks = calloc(b->n + 1, sizeof(*b->marks));
	if (!b->marks)
		b->n = 0;
	for (size_t i = 0; i < b->n; i++)
		b->marks[i] = (struct mark){ db_int(o->rows[0], (int)i, 0),
					     db_int(o->rows[0], (int)i, 1) };
	next_challenge(b);
}

static void on_timer(void *user)
{
	struct boards *b = user;

	b->first_poke = 0;
	if (b->update->draining || !leader_is_me(b->update->leader))
		return;
	b->running = db_pipe_send(b->update->work, &leaderboards_dirty_stmt, NULL, on_marks, b,
				  NULL) == 0;
}

void boards_poke(struct boards *b)
{
	uint64_t now = time_mono_usec(), latest;

	if (!b->first_poke)
		b->first_poke = now;
	if (b->running)
		return; /* round_over() goes on */
	latest = b->first_poke + LATEST_USEC;
	loop_timer_set(b->timer,
		       latest < now + QUIET_USEC ? (latest > now ? latest - now : 0) : QUIET_USEC);
}

int boards_new(struct update *u, struct boards **ret, struct err *e)
{
	auto_obj(boards) b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return err_nomem(e);
	b->update = u;
	r = loop_timer(u->loop, USEC_INFINITY, on_timer, b, &b->timer, e);
	if (r == 0)
		*ret = take_ptr(b);
	return r;
}

void boards_free(struct boards *b)
{
	if (!b)
		return;
	loop_src_free(b->timer);
	free(b->marks);
	free(b);
}

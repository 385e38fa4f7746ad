/* SPDX-License-Identifier: MIT */
/* A round: what earlier looks say is sent again; then each queue that matters is looked at, one by one. */
#include "resend.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "leader.h"
#include "messaging/topology.h"
#include "outlet.h"
#include "store/outbox.h"

/* Not more often: between two looks everything that was told before the first must have been applied. */
#define ROUND_MIN (5 * USEC_PER_SEC)
#define ROUND_MAX (15 * USEC_PER_SEC)
#define ROWS      200

struct resend {
	struct update *update;
	bool running;
	uint64_t next_usec; /* no round before */
	char **keys;        /* of the queues of this round */
	size_t at;          /* the one that is looked at */
};

static void round_over(struct resend *r)
{
	uint64_t pause = r->update->settings->lease_usec / 3;

	strv_free(r->keys);
	r->keys = NULL;
	r->running = false;
	pause = pause < ROUND_MIN ? ROUND_MIN : pause;
	/* A little less, for it is asked every 5 s. */
	r->next_usec = time_mono_usec() + (pause > ROUND_MAX ? ROUND_MAX : pause) - USEC_PER_SEC;
}

static bool failed(struct resend *r, const struct db_outcome *o)
{
	if (o->class == DB_OK)
		return false;
	(void)update_failed(r->update, "look for lost requests", o);
	round_over(r);
	return true;
}

/* --- looks ----------------------------------------------------------------------------------- */

static void look_next(struct resend *r);

static void on_saved(void *user, const struct db_outcome *o)
{
	struct resend *r = user;

	if (failed(r, o))
		return;
	r->at++;
	look_next(r);
}

static void on_count(void *user, const struct broker_reply *reply)
{
	struct resend *r = user;
	struct db_args a = { 0 };
	bool answered = reply->code == 0 || reply->code == 404;

	db_arg_text(&a, r->keys[r->at]);
	db_arg_int(&a, reply->code == 0 ? (int64_t)reply->messages : -1);
	if (!answered || db_pipe_send(r->update->work, &outbox_saw_stmt, &a, on_saved, r, NULL) < 0)
		round_over(r);
}

static void look_next(struct resend *r)
{
	auto_free char *queue = NULL;

	while (r->keys[r->at] && topology_request_queue(r->keys[r->at], &queue) == -EINVAL)
		r->at++;
	if (!queue || !leader_is_me(r->update->leader) ||
	    outlet_count(r->update->outlet, queue, on_count, r, NULL) < 0)
		round_over(r);
}

static void on_queues(void *user, const struct db_outcome *o)
{
	struct resend *r = user;
	int n;

	if (failed(r, o))
		return;
	n = db_rows_n(o->rows[0]);
	r->keys = calloc((size_t)n + 1, sizeof(*r->keys));
	for (int i = 0; r->keys && i < n; i++)
		if (!(r->keys[i] = strdup(db_text(o->rows[0], i, 0))))
			break;
	r->at = 0;
	if (r->keys)
		look_next(r);
	else
		round_over(r);
}

/* --- a round --------------------------------------------------------------------------------- */

static int ask(struct resend *r, const struct db_stmt *s, int rows, db_done_fn done)
{
	struct db_args a = { 0 };

	db_arg_int(&a, (int64_t)r->update->settings->lease_usec);
	if (rows)
		db_arg_int(&a, rows);
	return db_pipe_send(r->update->work, s, &a, done, r, NULL);
}

static void on_resent(void *user, const struct db_outcome *o)
{
	struct resend *r = user;

	if (failed(r, o))
		return;
	for (int i = 0; i < db_rows_n(o->rows[0]); i++) {
		const char *evaluation = db_text(o->rows[0], i, 0);
		const struct log_ctx ctx = { .evaluation = evaluation };

		log_ctx(&ctx, LOG_NOTICE,
			"evaluation %s: no queue and no worker has its request for attempt %d any "
			"more; it is sent to %s again",
			evaluation, (int)db_int(o->rows[0], i, 1),
			STR_ESC(db_text(o->rows[0], i, 2)));
	}
	if (ask(r, &outbox_queues_stmt, 0, on_queues) < 0)
		round_over(r);
}

void resend_poke(struct resend *r)
{
	if (r->running || time_mono_usec() < r->next_usec)
		return;
	r->running = ask(r, &outbox_resend_stmt, ROWS, on_resent) == 0;
}

int resend_new(struct update *u, struct resend **ret, struct err *e)
{
	struct resend *r = calloc(1, sizeof(*r));

	if (!r)
		return err_nomem(e);
	r->update = u;
	*ret = r;
	return 0;
}

void resend_free(struct resend *r)
{
	if (!r)
		return;
	strv_free(r->keys);
	free(r);
}

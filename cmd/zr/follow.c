/* SPDX-License-Identifier: MIT */
#include "follow.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "line.h"
#include "reach.h"

void follow_done(struct follow *f)
{
	db_close(f->db);
	f->db = NULL;
}

/* The answer to a failed call: the connection goes if it was at fault. */
static int lost(struct follow *f, int r, struct err *e)
{
	if (r >= 0 || e->kind != ERR_TRANSIENT)
		return r;
	db_close(f->db);
	f->db = NULL;
	if (!f->told)
		cli_say("zr: %s; trying again", e->msg);
	f->told = true;
	return -EAGAIN;
}

static int reach(struct follow *f, struct err *e)
{
	int r = f->db ? 0 : lost(f, reach_database(f->settings, &f->db, e), e);

	if (r == 0 && f->told) {
		cli_say("zr: the database is back");
		f->told = false;
	}
	return r;
}

int follow_show(struct follow *f, int64_t id, json_t **ret, struct err *e)
{
	int r = reach(f, e);

	return r < 0 ? r
		     : lost(f, evaluations_show(f->db, id, f->settings->results_dir, ret, e), e);
}

int follow_list(struct follow *f, const struct evaluation_filter *filter, json_t **ret,
		struct err *e)
{
	int r = reach(f, e);

	return r < 0 ? r
		     : lost(f, evaluations_list(f->db, filter, f->settings->results_dir, ret, e),
			    e);
}

int follow_events(struct follow *f, int64_t id, int64_t after, json_t **ret, struct err *e)
{
	int r = reach(f, e);

	return r < 0 ? r : lost(f, evaluations_events(f->db, id, after, ret, e), e);
}

bool follow_pause(uint64_t deadline)
{
	uint64_t now = time_mono_usec();
	uint64_t left = deadline > now ? deadline - now : 0;

	if (left == 0)
		return false;
	usleep((useconds_t)(left < FOLLOW_USEC ? left : FOLLOW_USEC));
	return true;
}

/* --- waiting ------------------------------------------------------------------------------------ */

static const char *text_of(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

enum reached {
	REACHED_NOT_YET,
	REACHED,
	REACHED_NEVER,
};

static const char *const states[] = { "created", "queued",   "running", "completed",
				      "failed",  "canceled", "ended",   "stored" };

bool follow_is_state(const char *state)
{
	for (size_t i = 0; i < ARRAY_LEN(states); i++)
		if (str_eq(states[i], state))
			return true;
	return false;
}

/* How far a status is: what is further has passed what is before. */
static int rank(const char *status)
{
	return str_eq(status, "created")   ? 0
	       : str_eq(status, "queued")  ? 1
	       : str_eq(status, "running") ? 2
					   : 3;
}

static enum reached judge_stored(const json_t *v, bool settled)
{
	const char *state = text_of(json_object_get(v, "results"), "state");

	if (str_eq(state, "stored"))
		return REACHED;
	if (str_eq(state, "refused") || (settled && str_eq(state, "none")))
		return REACHED_NEVER;
	return REACHED_NOT_YET;
}

static enum reached judge(const json_t *v, const char *state)
{
	const char *status = text_of(v, "status");
	bool settled = json_is_true(json_object_get(v, "settled"));

	if (str_eq(state, "stored"))
		return judge_stored(v, settled);
	if (str_eq(state, "ended"))
		return settled ? REACHED : REACHED_NOT_YET;
	if (rank(state) == 3) {
		if (!settled)
			return REACHED_NOT_YET;
		return str_eq(status, state) ? REACHED : REACHED_NEVER;
	}
	/* It may end without ever having run. */
	if (str_eq(state, "running") && settled && !text_of(v, "started_at"))
		return REACHED_NEVER;
	return rank(status) >= rank(state) ? REACHED : REACHED_NOT_YET;
}

static int give_up(const struct cli *c, int64_t id, const char *state, const json_t *last)
{
	auto_buf struct buf b = { 0 };

	if (last && line_text(last, 0, &b) == 0)
		cli_say("zr %s: evaluation %lld will not be '%s': it is %s", c->command->name,
			(long long)id, state, b.data);
	return CLI_FAILED;
}

int follow_until(const struct cli *c, struct follow *f, int64_t id, const char *state,
		 uint64_t deadline, bool show_it)
{
	auto_done(line) l = LINE_NEW;
	char title[40];

	snprintf(title, sizeof(title), "evaluation %lld", (long long)id);
	for (;;) {
		json_auto_t *v = NULL;
		struct err e = { 0 };
		int r = follow_show(f, id, &v, &e);
		enum reached reached = REACHED_NOT_YET;

		if (r < 0 && r != -EAGAIN)
			return cli_fail(c, &e);
		if (r >= 0) {
			if (show_it)
				line_show(&l, title, v);
			reached = judge(v, state);
		}
		if (reached == REACHED)
			return CLI_DONE;
		if (reached == REACHED_NEVER)
			return show_it ? CLI_FAILED : give_up(c, id, state, v);
		if (!follow_pause(deadline)) {
			cli_say("zr %s: evaluation %lld is not '%s' yet", c->command->name,
				(long long)id, state);
			return CLI_AGAIN;
		}
	}
}

/* SPDX-License-Identifier: MIT */
#include "follow.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/json.h"
#include "reach.h"

/* A progress line that is not on a terminal comes at these steps. */
#define LINE_FRACTION 0.1
#define LINE_USEC     (10 * USEC_PER_SEC)

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

static const char *text_of(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

double follow_fraction(const json_t *evaluation)
{
	const json_t *p = json_object_get(evaluation, "progress");
	const json_t *fraction = json_object_get(p, "fraction");
	double done = json_number_value(json_object_get(p, "done"));
	double total = json_number_value(json_object_get(p, "total"));
	double f = -1;

	if (json_is_number(fraction))
		f = json_number_value(fraction);
	else if (total > 0)
		f = done / total;
	return f > 1 ? 1 : f;
}

int follow_progress(const json_t *evaluation, struct buf *b)
{
	const json_t *p = json_object_get(evaluation, "progress");
	const json_t *done = json_object_get(p, "done"), *total = json_object_get(p, "total");
	double f = follow_fraction(evaluation);

	if (json_is_integer(done) && json_is_integer(total))
		return buf_fmt(b, "%lld of %lld", (long long)json_integer_value(done),
			       (long long)json_integer_value(total));
	if (json_is_integer(done))
		return buf_fmt(b, "%lld", (long long)json_integer_value(done));
	if (f >= 0)
		return buf_fmt(b, "%.0f %%", f * 100);
	return buf_str(b, "-");
}

static int add_bar(struct buf *b, double fraction, int width)
{
	int full = (int)(fraction * width + 0.5), r = buf_str(b, " [");

	for (int i = 0; i < width && r == 0; i++)
		r = buf_str(b, i < full ? "#" : ".");
	return r == 0 ? buf_str(b, "]") : r;
}

/* How an ended one ended. */
static int add_outcome(const json_t *v, struct buf *b)
{
	const char *reason = text_of(v, "reason"), *detail = text_of(v, "detail");
	int r = 0;

	if (reason && !str_eq(reason, "ok") && !str_eq(reason, text_of(v, "status")))
		r = buf_fmt(b, " (%s)", STR_ESC(reason));
	return r == 0 && detail ? buf_fmt(b, ": %s", STR_ESC(detail)) : r;
}

/* A bar leaves no room for the place. */
static int add_work(const json_t *v, int width, struct buf *b)
{
	const json_t *p = json_object_get(v, "progress");
	const char *text = text_of(p, "text"), *phase = text_of(p, "phase");
	const char *where = text_of(v, "worker");
	double f = follow_fraction(v);
	int r = 0;

	if (!width && where)
		r = buf_fmt(b, " on %s", STR_ESC(where));
	if (r == 0 && !width && phase)
		r = buf_fmt(b, ", %s", STR_ESC(phase));
	if (r == 0 && width && f >= 0)
		r = add_bar(b, f, width);
	if (r == 0 && json_is_object(p))
		r = buf_str(b, width ? " " : ": ");
	if (r == 0 && json_is_object(p))
		r = follow_progress(v, b);
	return r == 0 && text && *text ? buf_fmt(b, ", %s", STR_ESC(text)) : r;
}

int follow_text(const json_t *evaluation, int width, struct buf *b)
{
	const char *status = text_of(evaluation, "status");
	int r = buf_str(b, STR_ESC(status));

	if (r < 0)
		return r;
	return str_eq(status, "running") ? add_work(evaluation, width, b)
					 : add_outcome(evaluation, b);
}

void follow_shown_done(struct follow_shown *s)
{
	json_decref(s->head);
	s->head = NULL;
}

bool follow_worth_a_line(struct follow_shown *s, const json_t *evaluation)
{
	json_t *head = json_pack("[O?, O?, O?]", json_object_get(evaluation, "status"),
				 json_object_get(evaluation, "worker"),
				 json_object_get(evaluation, "attempt"));
	double f = follow_fraction(evaluation);
	uint64_t now = time_mono_usec();
	const char *status = json_string_value(json_object_get(evaluation, "status"));
	bool running = status && strcmp(status, "running") == 0;
	bool worth = !json_equal(head, s->head) || f - s->fraction >= LINE_FRACTION ||
		     (running && now - s->at >= LINE_USEC);

	follow_shown_done(s);
	s->head = head;
	if (worth) {
		s->fraction = f;
		s->at = now;
	}
	return worth;
}

int follow_columns(int fd)
{
	struct winsize w = { 0 };

	return ioctl(fd, TIOCGWINSZ, &w) == 0 && w.ws_col > 0 ? w.ws_col : 80;
}

void follow_cut(struct buf *b, int columns)
{
	for (size_t i = 0; i < b->len; i++) {
		/* Continuation bytes of UTF-8 take no room. */
		if (((unsigned char)b->data[i] & 0xc0) == 0x80)
			continue;
		if (columns-- > 0)
			continue;
		b->data[i] = '\0';
		b->len = i;
	}
}

/* --- waiting ------------------------------------------------------------------------------------ */

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

/* The one line on stderr that shows an evaluation. */
struct line {
	bool tty;
	struct buf text;
	struct follow_shown shown;
};

static void line_done(struct line *l)
{
	if (l->tty && l->text.len)
		fputc('\n', stderr);
	buf_done(&l->text);
	follow_shown_done(&l->shown);
}
DEFINE_AUTO_DONE(line);

static void show(struct line *l, int64_t id, const json_t *v)
{
	auto_buf struct buf b = { 0 };

	if (follow_text(v, l->tty ? 24 : 0, &b) < 0 ||
	    (l->text.data && str_eq(b.data, l->text.data)))
		return;
	if (l->tty) {
		auto_buf struct buf line = { 0 };

		if (buf_fmt(&line, "evaluation %lld: %s", (long long)id, b.data) < 0)
			return;
		follow_cut(&line, follow_columns(STDERR_FILENO) - 1);
		fprintf(stderr, "\r\033[K%s", line.data);
	} else if (follow_worth_a_line(&l->shown, v))
		fprintf(stderr, "evaluation %lld: %s\n", (long long)id, b.data);
	buf_done(&l->text);
	l->text = b;
	b = (struct buf){ 0 };
}

static int give_up(const struct cli *c, int64_t id, const char *state, const json_t *last)
{
	auto_buf struct buf b = { 0 };

	if (last && follow_text(last, 0, &b) == 0)
		cli_say("zr %s: evaluation %lld will not be '%s': it is %s", c->command->name,
			(long long)id, state, b.data);
	return CLI_FAILED;
}

int follow_until(const struct cli *c, struct follow *f, int64_t id, const char *state,
		 uint64_t deadline, bool show_it)
{
	auto_done(line) l = { .tty = isatty(STDERR_FILENO) == 1, .shown = { .fraction = -1 } };

	for (;;) {
		json_auto_t *v = NULL;
		struct err e = { 0 };
		int r = follow_show(f, id, &v, &e);
		enum reached reached = REACHED_NOT_YET;

		if (r < 0 && r != -EAGAIN)
			return cli_fail(c, &e);
		if (r >= 0) {
			if (show_it)
				show(&l, id, v);
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

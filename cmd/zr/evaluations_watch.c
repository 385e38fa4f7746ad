/* SPDX-License-Identifier: MIT */
/* evaluations:watch and evaluations:wait. */
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/json.h"
#include "commands.h"
#include "db.h"
#include "follow.h"
#include "line.h"
#include "reach.h"

#define BAR_COLUMNS 20

struct watch {
	struct follow follow;
	struct evaluation_filter filter;
	int64_t *ids;
	int n_ids; /* 0: the filter's */
	bool json, tty;
	json_t *seen; /* id → the object last printed */
	struct shown {
		json_int_t id;
		struct line_shown shown;
		struct buf text; /* the line last printed */
	} * shown;
	size_t n_shown;
	int drawn; /* lines on the terminal that the next drawing replaces */
};

static void shown_done(struct shown *s)
{
	line_shown_done(&s->shown);
	buf_done(&s->text);
}

static void watch_done(struct watch *w)
{
	follow_done(&w->follow);
	json_decref(w->seen);
	for (size_t i = 0; i < w->n_shown; i++)
		shown_done(&w->shown[i]);
	free(w->shown);
	free(w->ids);
}
DEFINE_AUTO_DONE(watch);

static int ask(struct watch *w, json_t **ret, struct err *e)
{
	json_auto_t *rows = NULL;

	if (!w->n_ids)
		return follow_list(&w->follow, &w->filter, ret, e);
	rows = json_array();
	for (int i = 0; i < w->n_ids; i++) {
		json_t *v = NULL;
		int r = follow_show(&w->follow, w->ids[i], &v, e);

		if (r < 0)
			return r;
		if (json_array_append_new(rows, v) < 0)
			return err_nomem(e);
	}
	*ret = json_incref(rows);
	return 0;
}

static bool all_settled(const json_t *rows)
{
	const json_t *v;
	size_t i;

	json_array_foreach(rows, i,
			   v) if (!json_is_true(json_object_get(v, "settled"))) return false;
	return true;
}

/* --- three ways to show ------------------------------------------------------------------------- */

static int print_changes(struct watch *w, const json_t *v)
{
	auto_free char *text = NULL;
	char key[24];

	snprintf(key, sizeof(key), "%lld", (long long)json_integer_value(json_object_get(v, "id")));
	if (json_equal(json_object_get(w->seen, key), v))
		return 0;
	text = js_text(v);
	if (!text || json_object_set_new(w->seen, key, json_deep_copy(v)) < 0)
		return -ENOMEM;
	puts(text);
	return 0;
}

static struct shown *find_shown(struct watch *w, json_int_t id)
{
	struct shown *more;

	for (size_t i = 0; i < w->n_shown; i++)
		if (w->shown[i].id == id)
			return &w->shown[i];
	more = reallocarray(w->shown, w->n_shown + 1, sizeof(*more));
	if (!more)
		return NULL;
	w->shown = more;
	more[w->n_shown] = (struct shown){ .id = id, .shown = { .fraction = -1 } };
	return &more[w->n_shown++];
}

static int print_line(struct watch *w, const json_t *v)
{
	json_int_t id = json_integer_value(json_object_get(v, "id"));
	struct shown *shown = find_shown(w, id);
	auto_buf struct buf b = { 0 };

	if (!shown || line_text(v, 0, &b) < 0)
		return -ENOMEM;
	if (str_eq(shown->text.data, b.data) || !line_is_worth(&shown->shown, v))
		return 0;
	printf("%lld %s\n", (long long)id, b.data);
	buf_done(&shown->text);
	shown->text = b;
	b = (struct buf){ 0 };
	return 0;
}

static const char *text_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "-";
}

static int draw_row(const json_t *v, int columns)
{
	auto_buf struct buf b = { 0 };
	int r = buf_fmt(&b, "%6lld  %-14.14s  %-10.10s  ",
			(long long)json_integer_value(json_object_get(v, "id")),
			STR_ESC(text_of(v, "challenge")), STR_ESC(text_of(v, "author")));

	if (r == 0)
		r = line_text(v, BAR_COLUMNS, &b);
	if (r < 0)
		return r;
	line_cut(&b, columns);
	printf("%s\033[K\n", b.data);
	return 0;
}

/* Rows that the terminal has no room for are counted: a redrawn table must not scroll. */
static int draw(struct watch *w, const json_t *rows)
{
	struct winsize size = { 0 };
	size_t n = json_array_size(rows), room = 20;
	int columns = line_columns(STDOUT_FILENO) - 1;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 4)
		room = size.ws_row - 3u;
	if (w->drawn)
		printf("\033[%dF", w->drawn);
	printf("%6s  %-14s  %-10s  %s\033[K\n", "ID", "CHALLENGE", "AUTHOR", "STATUS");
	for (size_t i = 0; i < n && i < room; i++)
		if (draw_row(json_array_get(rows, i), columns) < 0)
			return -ENOMEM;
	w->drawn = 1 + (int)(n < room ? n : room);
	if (n > room) {
		printf("and %zu more\033[K\n", n - room);
		w->drawn++;
	}
	fputs("\033[J", stdout);
	return 0;
}

static int print_rows(struct watch *w, const json_t *rows)
{
	const json_t *v;
	size_t i;
	int r = 0;

	if (w->tty && !w->json)
		r = draw(w, rows);
	else
		json_array_foreach(rows, i, v) if (r == 0) r =
			w->json ? print_changes(w, v) : print_line(w, v);
	/* A reader that has gone away ends the watch. */
	return r == 0 && fflush(stdout) != 0 ? -errno : r;
}

static int watch(const struct cli *c, struct watch *w)
{
	for (bool first = true;; first = false) {
		json_auto_t *rows = NULL;
		struct err e = { 0 };
		int r = ask(w, &rows, &e);

		if (r == 0) {
			r = print_rows(w, rows);
			if (r < 0)
				err_errno(&e, r, "write to standard output");
		}
		if (r < 0 && r != -EAGAIN)
			return cli_fail(c, &e);
		if (r == 0 && first && json_array_size(rows) == 0)
			cli_say("zr %s: no evaluation matches", c->command->name);
		if (r == 0 && all_settled(rows))
			return CLI_DONE;
		(void)follow_pause(USEC_INFINITY);
	}
}

int cmd_evaluations_watch(struct cli *c)
{
	auto_done(watch) w = { .tty = isatty(STDOUT_FILENO) == 1, .seen = json_object() };
	auto_obj(settings) s = NULL;
	const char *since = NULL;
	char since_text[TIME_TEXT_MAX];
	uint64_t limit = 20;
	const struct cli_opt opts[] = {
		{ "challenge", 0, CLI_TEXT, &w.filter.challenge, "LABEL", "of this challenge" },
		{ "author", 0, CLI_TEXT, &w.filter.author, "AUTHOR",
		  "of submissions by this author" },
		{ "status", 0, CLI_TEXT, &w.filter.status, "STATUS", "in this state" },
		{ "since", 0, CLI_TEXT, &since, "TIME",
		  "made since then: 2h, 2026-11-21, RFC 3339" },
		{ "limit", 'n', CLI_COUNT, &limit, "N", "the newest N (default 20)" },
		{ "json", 0, CLI_FLAG, &w.json, NULL, "print each change as a line of JSON" },
		{ 0 },
	};

	if (!cli_parse(c, opts, 0, -1) || !cli_status(c, w.filter.status) ||
	    !cli_since(c, since, since_text, &w.filter.since))
		return c->status;
	if (limit < 1 || limit > 10000)
		return cli_usage(c, "want a --limit of 1 to 10000");
	if (!cli_ids(c, "evaluation", &w.ids) || !cli_db(c, &s, &w.follow.db))
		return c->status;
	w.follow.settings = s;
	w.filter.limit = (int)limit;
	w.n_ids = c->argc;
	return watch(c, &w);
}

int cmd_evaluations_wait(struct cli *c)
{
	auto_done(follow) f = { 0 };
	auto_obj(settings) s = NULL;
	const char *state = "ended";
	uint64_t timeout = USEC_INFINITY, deadline = USEC_INFINITY;
	auto_free int64_t *ids = NULL;
	int status = CLI_DONE;
	const struct cli_opt opts[] = {
		{ "state", 0, CLI_TEXT, &state, "STATE", "the state to wait for (default ended)" },
		{ "timeout", 0, CLI_SPAN, &timeout, "TIME", "give up after this time" },
		{ 0 },
	};

	if (!cli_parse(c, opts, 1, -1))
		return c->status;
	if (!follow_is_state(state))
		return cli_usage(c, "there is no state '%s'", STR_ESC(state));
	if (!cli_ids(c, "evaluation", &ids))
		return c->status;
	if (timeout < USEC_INFINITY - time_mono_usec())
		deadline = time_mono_usec() + timeout;
	if (!cli_db(c, &s, &f.db))
		return c->status;
	f.settings = s;
	for (int i = 0; i < c->argc; i++) {
		int one = follow_until(c, &f, ids[i], state, deadline, false);

		if (one == CLI_FAILED || status == CLI_DONE)
			status = one;
	}
	return status;
}

/* SPDX-License-Identifier: MIT */
/* Evaluations: the table of their verbs, listing and showing. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"
#include "commands.h"
#include "db.h"
#include "line.h"
#include "reach.h"
#include "stderr_tail.h"
#include "store/evaluations.h"

/* --- listing ------------------------------------------------------------------------------------ */

static const struct cli_col list_cols[] = {
	{ "id", "ID", COL_TEXT },
	{ "submission", "SUBMISSION", COL_TEXT },
	{ "challenge", "CHALLENGE", COL_TEXT },
	{ "author", "AUTHOR", COL_TEXT },
	{ "evaluator", "EVALUATOR", COL_TEXT },
	{ "status", "STATUS", COL_TEXT },
	{ "reason", "REASON", COL_TEXT },
	{ "progress_text", "PROGRESS", COL_TEXT },
	{ "results.state", "RESULTS", COL_TEXT },
	{ "host", "HOST", COL_TEXT },
	{ "created_at", "CREATED", COL_TIME },
	{ 0 },
};

/* For people alone: the JSON of an object keeps the keys of the database's side. */
static int add_progress_texts(json_t *rows)
{
	json_t *v;
	size_t i;

	json_array_foreach(rows, i, v)
	{
		auto_buf struct buf b = { 0 };
		bool running = str_eq(json_string_value(json_object_get(v, "status")), "running");

		if ((running ? line_progress(v, &b) : buf_str(&b, "")) < 0 ||
		    json_object_set_new(v, "progress_text", js_from_bytes(b.data, b.len)) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int run_list(struct cli *c)
{
	struct evaluation_filter f = { 0 };
	auto_obj(settings) s = NULL;
	auto_obj(db) d = NULL;
	json_auto_t *rows = NULL;
	const char *since = NULL;
	char since_text[TIME_TEXT_MAX];
	bool json = false;
	struct err e = { 0 };
	uint64_t limit = 100, submission = 0;
	const struct cli_opt opts[] = {
		{ "challenge", 0, CLI_TEXT, &f.challenge, "LABEL", "of this challenge" },
		{ "author", 0, CLI_TEXT, &f.author, "AUTHOR", "of submissions by this author" },
		{ "submission", 0, CLI_COUNT, &submission, "ID", "of this submission" },
		{ "evaluator", 0, CLI_TEXT, &f.evaluator, "NAME", "by this evaluator" },
		{ "status", 0, CLI_TEXT, &f.status, "STATUS", "in this state" },
		{ "host", 0, CLI_TEXT, &f.host, "HOST", "at this host" },
		{ "since", 0, CLI_TEXT, &since, "TIME",
		  "made since then: 2h, 2026-11-21, RFC 3339" },
		{ "limit", 'n', CLI_COUNT, &limit, "N", "the newest N (default 100)" },
		{ "json", 0, CLI_FLAG, &json, NULL, "print JSON" },
		{ 0 },
	};

	if (!cli_parse(c, opts, 0, 0) || !cli_status(c, f.status) ||
	    !cli_since(c, since, since_text, &f.since))
		return c->status;
	if (limit < 1 || limit > 1000000 || submission > INT64_MAX)
		return cli_usage(c, "want a --limit of 1 to 1000000");
	if (!cli_db(c, &s, &d))
		return c->status;
	f.limit = (int)limit;
	f.submission = (int64_t)submission;
	if (evaluations_list(d, &f, s->results_dir, &rows, &e) < 0)
		return cli_fail(c, &e);
	if (!json && add_progress_texts(rows) < 0) {
		err_nomem(&e);
		return cli_fail(c, &e);
	}
	return cli_list(c, rows, list_cols, json);
}

/* --- one ---------------------------------------------------------------------------------------- */

static const struct cli_col show_cols[] = {
	{ "id", "id", COL_TEXT },
	{ "status", "status", COL_TEXT },
	{ "reason", "reason", COL_TEXT },
	{ "detail", "detail", COL_TEXT },
	{ "exit_code", "exit code", COL_TEXT },
	{ "signal", "signal", COL_TEXT },
	{ "attempt", "attempt", COL_TEXT },
	{ "progress_text", "progress", COL_TEXT },
	{ "scores", "scores", COL_TEXT },
	{ "violations_text", "violations", COL_TEXT },
	{ "conditions_text", "measured", COL_TEXT },
	{ "results.state", "results", COL_TEXT },
	{ "results.path", "results path", COL_TEXT },
	{ "used_text", "used", COL_TEXT },
	{ "host", "host", COL_TEXT },
	{ "worker", "worker", COL_TEXT },
	{ "submission", "submission", COL_TEXT },
	{ "challenge", "challenge", COL_TEXT },
	{ "author", "author", COL_TEXT },
	{ "evaluator", "evaluator", COL_TEXT },
	{ "args", "arguments", COL_TEXT },
	{ "pool", "pool", COL_TEXT },
	{ "priority", "priority", COL_TEXT },
	{ "created_at", "created", COL_TIME },
	{ "queued_at", "queued", COL_TIME },
	{ "started_at", "started", COL_TIME },
	{ "finished_at", "finished", COL_TIME },
	{ 0 },
};
static const struct cli_col attempt_cols[] = {
	{ "attempt", "ATTEMPT", COL_TEXT },
	{ "status", "STATUS", COL_TEXT },
	{ "reason", "REASON", COL_TEXT },
	{ "exit_code", "EXIT", COL_TEXT },
	{ "worker", "WORKER", COL_TEXT },
	{ "results.state", "RESULTS", COL_TEXT },
	{ "started_at", "STARTED", COL_TIME },
	{ "finished_at", "FINISHED", COL_TIME },
	{ 0 },
};

/* "0.058 s of time, 0.015 s of CPU, 12 MiB of memory" of the attempt in force. */
static int add_used_text(json_t *v)
{
	const json_t *a, *attempts = json_object_get(v, "attempts");
	auto_buf struct buf b = { 0 };
	char size[32];
	size_t i;
	int r = buf_str(&b, "");

	json_array_foreach(attempts, i, a)
	{
		const json_t *used = json_object_get(a, "usage");
		const json_t *memory = json_object_get(used, "memory_peak_bytes");

		if (r < 0 || !json_is_object(used) || !json_is_true(json_object_get(a, "in_force")))
			continue;
		r = buf_fmt(&b, "%.3f s of time, %.3f s of CPU",
			    json_number_value(json_object_get(used, "wall_usec")) / 1e6,
			    json_number_value(json_object_get(used, "cpu_usec")) / 1e6);
		if (r == 0 && json_is_integer(memory))
			r = buf_fmt(&b, ", %s of memory",
				    str_size_text(size, sizeof(size),
						  (uint64_t)json_integer_value(memory)));
	}
	return r < 0 ? r : json_object_set_new(v, "used_text", js_from_bytes(b.data, b.len));
}

/* "2 of unshare, 1 of mount" */
static int add_calls(struct buf *b, const json_t *violations)
{
	json_t *calls = json_object_get(violations, "calls"), *n;
	const char *name;
	int r = 0;

	json_object_foreach(calls, name, n) if (r == 0) r =
		buf_fmt(b, "%sforbidden system call %s %lld times", b->len ? ", " : "",
			STR_ESC(name), (long long)json_integer_value(n));
	return r;
}

static int add_near(struct buf *b, const json_t *violations)
{
	json_t *limits = json_object_get(violations, "limits"), *l;
	const char *name;
	int r = 0;

	json_object_foreach(limits, name, l) if (r == 0) r =
		buf_fmt(b, "%slimit %s %s", b->len ? ", " : "", STR_ESC(name),
			json_is_true(json_object_get(l, "hit")) ? "hit" : "near");
	return r;
}

/* Of the attempt in force; nothing if it did nothing of the kind. */
static int add_violations_text(json_t *v)
{
	const json_t *a, *attempts = json_object_get(v, "attempts");
	auto_buf struct buf b = { 0 };
	size_t i;
	int r = 0;

	json_array_foreach(attempts, i, a)
	{
		const json_t *seen = json_object_get(a, "violations");
		long long network = json_integer_value(json_object_get(seen, "network"));

		if (r < 0 || !json_is_true(json_object_get(a, "in_force")))
			continue;
		r = add_calls(&b, seen);
		if (r == 0 && network)
			r = buf_fmt(&b, "%s%lld attempts to reach a network", b.len ? ", " : "",
				    network);
		if (r == 0)
			r = add_near(&b, seen);
	}
	if (r < 0 || !b.len)
		return r;
	return json_object_set_new(v, "violations_text", js_from_bytes(b.data, b.len));
}

static int add_load(struct buf *b, const json_t *conditions)
{
	const json_t *start = json_object_get(conditions, "start");
	const json_t *load = json_array_get(json_object_get(start, "load"), 0);
	const json_t *boxes = json_object_get(start, "other_boxes");
	int r = 0;

	if (json_is_number(load))
		r = buf_fmt(b, "load %.2f", json_number_value(load));
	if (r == 0 && json_is_integer(boxes))
		r = buf_fmt(b, "%s%lld other jobs", b->len ? ", " : "",
			    (long long)json_integer_value(boxes));
	return r;
}

static int add_clock(struct buf *b, const json_t *conditions)
{
	const json_t *clock = json_object_get(conditions, "clock");
	const json_t *claim = json_object_get(clock, "claimed_usec");
	const char *why = json_string_value(json_object_get(clock, "why"));
	bool bad = why && json_is_true(json_object_get(clock, "contradiction"));

	if (!json_is_number(claim))
		return 0;
	return buf_fmt(b, "%sit claims %.3f s, run took %.3f s%s%s", b->len ? ", " : "",
		       json_number_value(claim) / 1e6,
		       json_number_value(json_object_get(clock, "run_wall_usec")) / 1e6,
		       bad ? ": " : "", bad ? STR_ESC(why) : "");
}

/* Under which conditions the attempt in force was measured, if somebody looked. */
static int add_conditions_text(json_t *v)
{
	const json_t *a, *attempts = json_object_get(v, "attempts");
	auto_buf struct buf b = { 0 };
	size_t i;
	int r = 0;

	json_array_foreach(attempts, i, a)
	{
		const json_t *c = json_object_get(a, "conditions");

		if (r < 0 || !json_is_true(json_object_get(a, "in_force")))
			continue;
		r = add_load(&b, c);
		if (r == 0)
			r = add_clock(&b, c);
	}
	if (r < 0 || !b.len)
		return r;
	return json_object_set_new(v, "conditions_text", js_from_bytes(b.data, b.len));
}

static int show_for_people(const struct cli *c, json_t *v)
{
	const json_t *attempts = json_object_get(v, "attempts");
	json_auto_t *one = json_pack("[O]", v);
	struct err e = { 0 };
	int status;

	if (!one || add_progress_texts(one) < 0 || add_used_text(v) < 0 ||
	    add_violations_text(v) < 0 || add_conditions_text(v) < 0) {
		err_nomem(&e);
		return cli_fail(c, &e);
	}
	status = cli_show(c, v, show_cols, false);
	if (status == CLI_DONE)
		stderr_tail_print(v, stdout);
	if (status != CLI_DONE || json_array_size(attempts) < 2)
		return status;
	putchar('\n');
	return cli_list(c, attempts, attempt_cols, false);
}

static int run_show(struct cli *c)
{
	auto_obj(settings) s = NULL;
	auto_obj(db) d = NULL;
	json_auto_t *v = NULL;
	bool json = false;
	struct err e = { 0 };
	int64_t id;
	const struct cli_opt opts[] = {
		{ "json", 0, CLI_FLAG, &json, NULL, "print JSON" },
		{ 0 },
	};

	if (!cli_parse(c, opts, 1, 1) || !cli_id(c, "evaluation", c->argv[0], &id) ||
	    !cli_db(c, &s, &d))
		return c->status;
	if (evaluations_show(d, id, s->results_dir, &v, &e) < 0 || stderr_tail_add(v, &e) < 0)
		return cli_fail(c, &e);
	return json ? cli_show(c, v, show_cols, true) : show_for_people(c, v);
}

static const struct command commands[] = {
	{ "evaluations", "[FILTERS] [--json]", "List evaluations, newest first",
	  "zr evaluations --challenge matmul --status failed --since 2h", run_list, NULL },
	{ "evaluations:show", "ID [--json]", "Show an evaluation and its attempts",
	  "zr evaluations:show 42 --json", run_show, NULL },
	{ "evaluations:watch", "[ID...] [FILTERS] [--json]", "Show evaluations live",
	  "zr evaluations:watch --challenge matmul", cmd_evaluations_watch,
	  "Ends when all that it shows have ended. With --json each change is a line." },
	{ "evaluations:wait", "ID... [--state STATE] [--timeout TIME]",
	  "Wait until evaluations are in a state", "zr evaluations:wait 42 --timeout 10m",
	  cmd_evaluations_wait,
	  "STATE is created, queued, running, completed, failed, canceled, ended (any of the last\n"
	  "three, the default) or stored (the result is here). Exit status 1: it will not come to\n"
	  "that; 75: not within the time." },
	{ "evaluations:logs", "ID [-f] [--stream out|err] [--attempt N]",
	  "Print what the evaluation's commands wrote", "zr evaluations:logs 42 -f",
	  cmd_evaluations_logs,
	  "Prints the logs of the stored result; while it is not there, what the broker keeps of\n"
	  "the log events." },
	{ "evaluations:cancel", "ID...", "Cancel evaluations", "zr evaluations:cancel 42",
	  cmd_evaluations_cancel,
	  "From here on no other outcome counts. What runs is ended by its worker." },
	{ "evaluations:retry", "ID", "Evaluate again under the same number",
	  "zr evaluations:retry 42", cmd_evaluations_retry,
	  "A new request with the next attempt number, for an evaluation that has ended. Its\n"
	  "outcome replaces the present one, which stays on record." },
	{ "evaluations:why", "ID [--json]", "Say why it is in its state", "zr evaluations:why 42",
	  cmd_evaluations_why, NULL },
	{ 0 },
};

const struct command_group evaluation_group = { "evaluations", commands };

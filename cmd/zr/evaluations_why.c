/* SPDX-License-Identifier: MIT */
/* evaluations:why: the state of an evaluation in one or two sentences, and what can be done. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/json.h"
#include "commands.h"
#include "db.h"
#include "line.h"
#include "reach.h"
#include "store/evaluations.h"
#include "store/workers.h"

/* As long as `zr workers` counts a worker as alive. */
#define SILENT_USEC (30 * USEC_PER_SEC)

/* Text that grows; a failed allocation is remembered. */
struct words {
	struct buf b;
	int failed;
};
static void words_done(struct words *w)
{
	buf_done(&w->b);
}
DEFINE_AUTO_DONE(words);

static void say(struct words *w, const char *fmt, ...) printf_like(2, 3);
static void say(struct words *w, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (buf_str(&w->b, text) < 0)
		w->failed = -ENOMEM;
}

static const char *text_of(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

static long long int_of(const json_t *o, const char *key)
{
	return (long long)json_integer_value(json_object_get(o, key));
}

/* "for 5m" since an RFC 3339 time; "" if there is none. */
static const char *for_how_long(const char *since, char *out, size_t size)
{
	uint64_t then, now = time_wall_usec();
	char span[32];

	out[0] = '\0';
	if (since && time_parse(since, &then) == 0 && then + USEC_PER_SEC <= now) {
		uint64_t sec = (now - then) / USEC_PER_SEC;

		/* Exact seconds of a day ago tell nobody anything. */
		sec = sec < 600 ? sec : sec / 60 * 60;
		str_span_text(span, sizeof(span), sec * USEC_PER_SEC);
		snprintf(out, size, " for %s", span);
	}
	return out;
}

/* " 5m ago"; "" if it was just now. */
static const char *ago(const char *when, char *out, size_t size)
{
	char text[48];

	for_how_long(when, text, sizeof(text));
	out[0] = '\0';
	if (text[0])
		snprintf(out, size, " %s ago", text + strlen(" for "));
	return out;
}

/* The attempt that the evaluation's state comes from. */
static const json_t *attempt_in_force(const json_t *v)
{
	const json_t *a, *attempts = json_object_get(v, "attempts");
	const char *id = text_of(v, "attempt_id");
	size_t i;

	json_array_foreach(attempts, i, a) if (str_eq(text_of(a, "attempt_id"), id)) return a;
	return NULL;
}

/* Says when the next attempt follows; false if its request is on its way already. */
static bool say_next(struct words *w, const json_t *v)
{
	const json_t *debt = json_object_get(v, "outbox");
	const char *due_at = text_of(debt, "due_at"), *error = text_of(debt, "error");
	uint64_t due, now = time_wall_usec();
	char span[32];

	if (!due_at || time_parse(due_at, &due) < 0)
		return false;
	say(w, " Attempt %lld follows", int_of(v, "asked_attempt"));
	if (due > now + USEC_PER_SEC)
		say(w, " in %s",
		    str_span_text(span, sizeof(span), (due - now) / USEC_PER_SEC * USEC_PER_SEC));
	else
		say(w, " as soon as an update worker ('zr worker:run:update') sends its request");
	if (error)
		say(w, "; the last try to send it failed: %s", STR_ESC(error));
	say(w, ".");
	return true;
}

static const json_t *find_worker(const json_t *workers, const char *name)
{
	const json_t *w;
	size_t i;

	json_array_foreach(workers, i, w) if (name && str_eq(text_of(w, "worker"), name)) return w;
	return NULL;
}

/* How many workers are alive, and how many of them are free; of one host, or of all. */
static int count_alive(const json_t *workers, const char *host, int *ret_idle)
{
	const json_t *w;
	size_t i;
	int n = 0;

	*ret_idle = 0;
	json_array_foreach(workers, i, w)
	{
		if (!json_is_true(json_object_get(w, "alive")) ||
		    (host && !str_eq(text_of(w, "host"), host)))
			continue;
		n++;
		*ret_idle += str_eq(text_of(w, "state"), "idle");
	}
	return n;
}

/* "Attempt 1 ended with 'lost': …". */
static void say_ended(struct words *w, const json_t *attempt)
{
	const char *detail = text_of(attempt, "detail");

	say(w, "Attempt %lld ended with '%s'%s%s.", int_of(attempt, "attempt"),
	    STR_ESC(text_of(attempt, "reason")), detail ? ": " : "", detail ? STR_ESC(detail) : "");
}

static void why_created(struct words *w, const json_t *v)
{
	const json_t *debt = json_object_get(v, "outbox");
	const char *error = text_of(debt, "error");
	char since[48];

	if (!json_is_object(debt)) {
		say(w, "It was recorded, and no request for it is on its way. Cancel it and "
		       "evaluate the submission again.");
		return;
	}
	say(w, "Its request has not reached the broker yet; it waits%s in the database.",
	    for_how_long(text_of(v, "created_at"), since, sizeof(since)));
	if (error)
		say(w, " The last try failed: %s.", STR_ESC(error));
	say(w, " An update worker ('zr worker:run:update') sends it as soon as the broker takes "
	       "it.");
}

static void why_queued(struct words *w, const json_t *v, const json_t *workers)
{
	const json_t *before = attempt_in_force(v);
	const char *pool = text_of(v, "pool"), *host = pool ? NULL : text_of(v, "host");
	char since[48];
	int idle, alive = count_alive(workers, host, &idle);

	if (before) {
		say_ended(w, before);
		if (say_next(w, v))
			return;
		say(w, " Attempt %lld was asked for. ", int_of(v, "asked_attempt"));
	}
	say(w, "It waits%s for a free worker of %s '%s'.",
	    for_how_long(text_of(v, "queued_at"), since, sizeof(since)), host ? "host" : "pool",
	    STR_ESC(host ? host : pool));
	if (text_of(v, "resent_at"))
		say(w, " No queue and no worker had its request, so it was sent again%s.",
		    ago(text_of(v, "resent_at"), since, sizeof(since)));
	if (alive == 0)
		say(w,
		    " No worker%s was heard of in the last 30 seconds: start one with "
		    "'zr worker:run:eval'.",
		    host ? " of that host" : "");
	else if (idle == 0)
		say(w, " All %d workers that were heard of are busy.", alive);
	else
		say(w,
		    " %d of %d workers are idle: does one of them serve that %s ('pool' in its "
		    "zr.conf)?",
		    idle, alive, host ? "host" : "pool");
}

/* One that was never heard of may just have started; the record of one that is silent is removed in
 * the end. */
static bool is_silent(const json_t *worker, const char *since)
{
	uint64_t then;

	if (worker)
		return !json_is_true(json_object_get(worker, "alive"));
	return since && time_parse(since, &then) == 0 && then + SILENT_USEC < time_wall_usec();
}

/* What is going to happen to an attempt whose worker is silent. */
static void say_silent(struct words *w, const json_t *v, const json_t *worker, bool audited)
{
	uint64_t lease_usec = (uint64_t)int_of(worker, "lease_usec");
	char heard[48], span[32];

	say(w, " But that worker has been silent%s",
	    for_how_long(worker ? text_of(worker, "seen_at") : NULL, heard, sizeof(heard)));
	if (!lease_usec) {
		say(w,
		    ": if its host is gone for good, 'zr evaluations:cancel %lld' ends it, and "
		    "'zr evaluations:retry %lld' then runs it elsewhere.",
		    int_of(v, "id"), int_of(v, "id"));
		return;
	}
	str_span_text(span, sizeof(span), lease_usec);
	if (audited)
		say(w, ": after %s of silence it counts as lost, and another attempt follows.",
		    span);
	else
		say(w,
		    ". It would count as lost after %s, but no update worker looks: start one with "
		    "'zr worker:run:update'.",
		    span);
}

static const json_t *last_ended(const json_t *v)
{
	const json_t *a, *found = NULL, *attempts = json_object_get(v, "attempts");
	size_t i;

	json_array_foreach(attempts, i, a)
	{
		if (text_of(a, "reason") && int_of(a, "attempt") < int_of(v, "attempt"))
			found = a;
	}
	return found;
}

static void why_running(struct words *w, const json_t *v, const json_t *workers, bool audited)
{
	const json_t *before = last_ended(v);
	const char *name = text_of(v, "worker");
	const json_t *worker = find_worker(workers, name);
	auto_buf struct buf progress = { 0 };
	char since[48];

	say(w, "Attempt %lld runs%s on %s", int_of(v, "attempt"),
	    for_how_long(text_of(v, "started_at"), since, sizeof(since)),
	    name ? STR_ESC(name) : "an unknown worker");
	if (json_is_object(json_object_get(v, "progress")) && line_progress(v, &progress) == 0)
		say(w, ": %s", progress.data);
	say(w, ".");
	if (is_silent(worker, text_of(v, "started_at")))
		say_silent(w, v, worker, audited);
	if (before) {
		say(w, " ");
		say_ended(w, before);
	}
}

/* What each reason of a failed evaluation means; %s is the phase's command. */
static void say_reason(struct words *w, const json_t *v, const json_t *attempt)
{
	static const struct {
		const char *reason, *text;
	} texts[] = {
		{ "cpu-limit", "used more CPU time than it may" },
		{ "wall-limit", "ran longer than it may" },
		{ "memory", "needed more memory than it may use" },
		{ "output-limit", "wrote more than it may" },
		{ "disk", "found no disk space" },
		{ "violation", "did what it may not do" },
		{ "pids", "started more processes than it may" },
	};
	const char *reason = text_of(v, "reason"), *phase = text_of(attempt, "phase");
	const char *command = phase ? STR_ESC(phase) : "run";

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		if (str_eq(reason, texts[i].reason))
			say(w, "The evaluator's '%s' command %s", command, texts[i].text);
	if (str_eq(reason, "exit") && int_of(v, "exit_code") == 0)
		say(w, "The evaluator's commands ended well, but what they left does not count");
	else if (str_eq(reason, "exit"))
		say(w, "The evaluator's '%s' command ended with exit status %lld", command,
		    int_of(v, "exit_code"));
	else if (str_eq(reason, "signal"))
		say(w, "The evaluator's '%s' command was killed by signal %lld (%s)", command,
		    int_of(v, "signal"), strsignal((int)int_of(v, "signal")));
	else if (str_eq(reason, "setup"))
		say(w, "The run could not be set up as its evaluator or request asks");
	else if (str_eq(reason, "infrastructure"))
		say(w, "The eval host had a fault of its own");
	else if (str_eq(reason, "lost"))
		say(w, "The worker or host that ran it was lost");
	else if (str_eq(reason, "poison"))
		say(w, "More than one attempt took its keeper down, so it is not tried again");
	else if (w->b.len == 0)
		say(w, "It ended with '%s'", reason ? STR_ESC(reason) : "no reason");
}

/* The detail of an ordinary end is what say_reason() has said already. */
static bool says_more(const json_t *v, const char *detail)
{
	const char *reason = text_of(v, "reason");

	if (!detail || !*detail)
		return false;
	if (str_eq(reason, "exit"))
		return !strstr(detail, " exited with status ");
	return !str_eq(reason, "signal") || !strstr(detail, " was ended by signal ");
}

static void why_failed(struct words *w, const json_t *v)
{
	const json_t *attempt = attempt_in_force(v);
	const json_t *log = json_object_get(attempt, "log");
	const char *detail = text_of(v, "detail");
	const char *reason = text_of(v, "reason");

	say_reason(w, v, attempt);
	if (says_more(v, detail))
		say(w, ": %s", STR_ESC(detail));
	say(w, "%s", w->b.len && w->b.data[w->b.len - 1] == '.' ? "" : ".");
	if (int_of(v, "attempt") > int_of(v, "wanted_attempt"))
		say(w, " It was attempt %lld, the last of %lld.", int_of(v, "attempt"),
		    int_of(v, "attempt") - int_of(v, "wanted_attempt") + 1);
	if (str_eq(reason, "infrastructure") || str_eq(reason, "lost"))
		say(w, " 'zr evaluations:retry %lld' tries again.", int_of(v, "id"));
	else if (int_of(log, "out_bytes") + int_of(log, "err_bytes") > 0)
		say(w, " 'zr evaluations:logs %lld' shows what it wrote.", int_of(v, "id"));
}

static void why_completed(struct words *w, const json_t *v)
{
	const char *error = text_of(v, "scores_error");

	say(w, "Attempt %lld ran to its end with exit status 0.", int_of(v, "attempt"));
	if (error)
		say(w, " It has no scores: %s.", STR_ESC(error));
}

static void why_canceled(struct words *w, const json_t *v)
{
	const json_t *cancel = json_object_get(v, "cancel");
	const char *by = text_of(cancel, "by"), *at = text_of(cancel, "at");
	const json_t *attempt = attempt_in_force(v);
	const char *ended = text_of(attempt, "finished_at");
	const char *when = " while it ran";

	/* Both are UTC with all digits. */
	if (!text_of(v, "started_at"))
		when = " before it started";
	else if (at && ended && strcmp(ended, at) < 0)
		when = " after that attempt had ended, when a further one was due";
	say(w, "It was canceled%s%s%s.", by ? " by " : "", by ? STR_ESC(by) : "", when);
}

static void why_results(struct words *w, const json_t *v)
{
	const json_t *results = json_object_get(v, "results");
	const char *state = text_of(results, "state"), *detail = text_of(results, "detail");

	if (str_eq(state, "pending"))
		say(w, " Its result has not been collected from %s yet.",
		    text_of(v, "host") ? STR_ESC(text_of(v, "host")) : "its host");
	else if (str_eq(state, "refused"))
		say(w, " Its result was refused%s%s.", detail ? ": " : "",
		    detail ? STR_ESC(detail) : "");
}

static void explain(struct words *w, const json_t *v, const json_t *workers, bool audited)
{
	const char *status = text_of(v, "status");
	bool ended = false;

	if (str_eq(status, "created"))
		why_created(w, v);
	else if (str_eq(status, "queued"))
		why_queued(w, v, workers);
	else if (str_eq(status, "running"))
		why_running(w, v, workers, audited);
	else
		ended = true;
	if (str_eq(status, "completed"))
		why_completed(w, v);
	else if (str_eq(status, "failed"))
		why_failed(w, v);
	else if (str_eq(status, "canceled"))
		why_canceled(w, v);
	if (ended)
		why_results(w, v);
	if (ended && !json_is_true(json_object_get(v, "settled")) && !say_next(w, v))
		say(w, " A further attempt was asked for and has not ended.");
}

int cmd_evaluations_why(struct cli *c)
{
	static const struct cli_col cols[] = { { "why", "why", COL_TEXT }, { 0 } };
	auto_done(words) w = { 0 };
	auto_obj(settings) s = NULL;
	auto_obj(db) d = NULL;
	json_auto_t *v = NULL, *workers = NULL, *answer = NULL;
	struct err e = { 0 };
	bool json = false, audited = false;
	int64_t id;
	const struct cli_opt opts[] = {
		{ "json", 0, CLI_FLAG, &json, NULL, "print JSON" },
		{ 0 },
	};

	if (!cli_parse(c, opts, 1, 1) || !cli_id(c, "evaluation", c->argv[0], &id) ||
	    !cli_db(c, &s, &d))
		return c->status;
	if (evaluations_show(d, id, s->results_dir, &v, &e) < 0 ||
	    workers_list(d, &workers, &e) < 0 || workers_are_audited(d, &audited, &e) < 0)
		return cli_fail(c, &e);
	explain(&w, v, workers, audited);
	if (!w.failed)
		answer = json_pack("{s:I, s:O?, s:O?, s:s}", "id", (json_int_t)id, "status",
				   json_object_get(v, "status"), "reason",
				   json_object_get(v, "reason"), "why", w.b.data);
	if (!answer) {
		err_nomem(&e);
		return cli_fail(c, &e);
	}
	if (json)
		return cli_show(c, answer, cols, true);
	printf("%lld is %s. %s\n", (long long)id, STR_ESC(text_of(v, "status")), w.b.data);
	return CLI_DONE;
}

/* SPDX-License-Identifier: MIT */
/*
 * submissions:eval. The order of things: the queue is looked for, so that a misspelt pool is refused
 * before anything is recorded; the files are pushed, if they are; evaluation and request are recorded
 * together; the number is printed; the request is published. From the record on nothing is lost.
 */
#include <stdio.h>
#include <string.h>

#include "base/id.h"
#include "base/json.h"
#include "base/str.h"
#include "commands.h"
#include "db.h"
#include "follow.h"
#include "letters.h"
#include "reach.h"
#include "stderr_tail.h"
#include "store/challenges.h"
#include "store/evaluations.h"
#include "store/submissions.h"

#define DEFAULT_POOL "default"
/* After the end the result comes; so long it is waited for. */
#define RESULT_USEC (5 * USEC_PER_SEC)

struct eval {
	const char *evaluator, *pool, *host, *priority; /* options */
	char **extra;
	bool wait;
	int64_t submission;
	json_t *row, *challenge, *args;
	bool broker_away;
	struct err away; /* why */
};
static void eval_done(struct eval *v)
{
	strv_free(v->extra);
	json_decref(v->row);
	json_decref(v->challenge);
	json_decref(v->args);
}
DEFINE_AUTO_DONE(eval);

static const char *text_of(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

/* False: said, c->status is set. */
static bool check_options(struct cli *c, const struct eval *v)
{
	if (v->pool && v->host)
		c->status = cli_usage(c, "--pool and --host exclude each other");
	else if (v->pool && (!id_valid(v->pool) || strchr(v->pool, '.')))
		c->status = cli_usage(c, "'%s' cannot name a pool", STR_ESC(v->pool));
	else if (v->host && !id_valid(v->host))
		c->status = cli_usage(c, "'%s' cannot name a host", STR_ESC(v->host));
	else if (v->evaluator && !id_valid(v->evaluator))
		c->status = cli_usage(c, "'%s' cannot name an evaluator", STR_ESC(v->evaluator));
	else if (v->priority && !str_eq(v->priority, "normal") && !str_eq(v->priority, "high"))
		c->status = cli_usage(c, "bad value for --priority: '%s' (want normal or high)",
				      STR_ESC(v->priority));
	else if (c->argc > 1)
		c->status =
			cli_usage(c, "unexpected argument '%s' (-e takes one argument: repeat it)",
				  STR_ESC(c->argv[1]));
	else
		return true;
	return false;
}

/* The challenge's arguments, then ours. */
static int join_args(struct eval *v, struct err *e)
{
	const json_t *first = json_object_get(v->challenge, "args");

	v->args = json_is_array(first) ? json_copy((json_t *)(uintptr_t)first) : json_array();
	if (!v->args)
		return err_nomem(e);
	for (char **a = v->extra; a && *a; a++) {
		json_t *text = json_string(*a);

		if (!text)
			return err_input(e, "argument '%s' is not valid UTF-8", STR_ESC(*a));
		if (json_array_append_new(v->args, text) < 0)
			return err_nomem(e);
	}
	return 0;
}

/* What the options leave open the challenge says. */
static int fill_in(struct db *d, struct eval *v, struct err *e)
{
	const char *status;
	int r = submissions_show(d, v->submission, &v->row, e);

	if (r < 0)
		return r;
	status = text_of(v->row, "status");
	if (str_eq(status, "uploading") || str_eq(status, "deleted"))
		return err_input(e, "submission %lld cannot be evaluated: it is %s",
				 (long long)v->submission,
				 str_eq(status, "deleted") ? "deleted" : "not complete");
	r = challenges_show(d, text_of(v->row, "challenge"), &v->challenge, e);
	if (r == 0)
		r = join_args(v, e);
	if (r < 0)
		return r;
	if (!v->evaluator)
		v->evaluator = text_of(v->challenge, "evaluator");
	if (!v->pool && !v->host) {
		v->host = text_of(v->challenge, "host");
		v->pool = v->host ? NULL : text_of(v->challenge, "pool");
	}
	if (!v->pool && !v->host)
		v->pool = DEFAULT_POOL;
	return 0;
}

/* A broker that is away does not keep anybody from handing in work. */
static int look_for_queue(struct eval *v, struct session *b, struct err *e)
{
	bool high = str_eq(v->priority, "high");
	int r = letters_check_queue(b, v->pool, v->host, high, &v->away);

	v->broker_away = r < 0 && v->away.kind == ERR_TRANSIENT;
	if (r < 0 && !v->broker_away)
		*e = v->away;
	return v->broker_away ? 0 : r;
}

static int record(const struct settings *s, struct db *d, const struct eval *v, struct letter *l,
		  int64_t *ret_id, int64_t *ret_outbox, struct err *e)
{
	auto_free char *source = NULL;
	struct evaluation_new n = {
		.submission = v->submission,
		.evaluator = v->evaluator,
		.pool = v->pool,
		.host = v->host,
		.priority = v->priority ? v->priority : "normal",
		.args = v->args,
	};
	struct order o = {
		.submission = v->submission,
		.attempt = 1,
		.digest = text_of(v->row, "digest"),
		.evaluator = v->evaluator,
		.pool = v->pool,
		.host = v->host,
		.high = str_eq(v->priority, "high"),
		.args = v->args,
	};
	int r = letters_source(s, v->host, v->submission, &source, e);

	if (r < 0)
		return r;
	o.source = source;
	r = evaluations_next_id(d, &n.id, e);
	o.evaluation = n.id;
	if (r == 0)
		r = letter_request(&o, l, e);
	if (r == 0)
		r = evaluations_create(d, &n, &l->msg, ret_outbox, e);
	*ret_id = n.id;
	return r;
}

static void publish(const struct cli *c, struct eval *v, struct session *b, struct db *d,
		    const struct letter *l, int64_t outbox_id)
{
	if (!v->broker_away && letter_send(b, d, l, outbox_id, &v->away) == 0)
		return;
	cli_say("zr %s: recorded, but not sent yet: %s; zr-update will send it", c->command->name,
		v->away.msg);
}

static void say_why(struct follow *f, int64_t id)
{
	uint64_t deadline = time_mono_usec() + RESULT_USEC;
	json_t *v = NULL;
	struct err e = { 0 };
	bool pending;

	do {
		json_decref(v);
		v = NULL;
		if (follow_show(f, id, &v, &e) < 0)
			return;
		pending = str_eq(text_of(json_object_get(v, "results"), "state"), "pending");
	} while (pending && follow_pause(deadline));
	if (stderr_tail_add(v, &e) == 0)
		stderr_tail_print(v, stderr);
	json_decref(v);
}

static int wait_for_end(const struct cli *c, const struct settings *s, int64_t id)
{
	auto_done(follow) f = { .settings = s };
	int status = follow_until(c, &f, id, "completed", USEC_INFINITY, true);

	if (status == CLI_FAILED)
		say_why(&f, id);
	return status;
}

static int evaluate(struct cli *c, struct eval *v)
{
	auto_done(letter) l = { 0 };
	auto_obj(settings) s = NULL;
	auto_obj(session) b = NULL;
	auto_obj(db) d = NULL;
	int64_t id = 0, outbox_id = 0;
	struct err e = { 0 };
	int r;

	if (!cli_db(c, &s, &d))
		return c->status;
	r = fill_in(d, v, &e);
	if (r == 0)
		r = letters_open(s, "zr", LETTERS_USEC, &b, &e);
	if (r == 0)
		r = look_for_queue(v, b, &e);
	if (r == 0)
		r = record(s, d, v, &l, &id, &outbox_id, &e);
	if (r < 0)
		return cli_fail_setup(c, &e);
	printf("evaluation %lld\n", (long long)id);
	fflush(stdout);
	publish(c, v, b, d, &l, outbox_id);
	return v->wait ? wait_for_end(c, s, id) : CLI_DONE;
}

int cmd_submissions_eval(struct cli *c)
{
	auto_done(eval) v = { 0 };
	const struct cli_opt opts[] = {
		{ "evaluator", 0, CLI_TEXT, &v.evaluator, "NAME", "instead of the challenge's" },
		{ "pool", 0, CLI_TEXT, &v.pool, "POOL", "to the workers of this pool" },
		{ "host", 0, CLI_TEXT, &v.host, "HOST", "to the workers of this host" },
		{ "priority", 0, CLI_TEXT, &v.priority, "PRIORITY", "normal or high" },
		{ "extra-arg", 'e', CLI_LIST, &v.extra, "ARG", "one more argument" },
		{ "wait", 0, CLI_FLAG, &v.wait, NULL,
		  "show progress; exit status 0 only if it completes" },
		{ 0 },
	};

	if (!cli_parse(c, opts, 1, -1) || !check_options(c, &v) ||
	    !cli_id(c, "submission", c->argv[0], &v.submission))
		return c->status;
	return evaluate(c, &v);
}

/* SPDX-License-Identifier: MIT */
/* evaluations:cancel and evaluations:retry. */
#include <stdio.h>

#include "base/json.h"
#include "base/str.h"
#include "commands.h"
#include "db.h"
#include "letters.h"
#include "reach.h"
#include "store/evaluations.h"
#include "store/submissions.h"

/* --- canceling ---------------------------------------------------------------------------------- */

/* What the workers were not told now zr-update tells them; the outcome is decided already. */
static void tell_workers(const struct cli *c, struct session *b, struct db *d,
			 const struct letter *l, int64_t outbox_id)
{
	struct err e = { 0 };

	if (letter_send(b, d, l, outbox_id, &e) < 0)
		cli_say("zr %s: recorded, but not sent yet: %s; zr-update will send it",
			c->command->name, e.msg);
}

/* Returns the exit status. */
static int cancel_one(const struct cli *c, const struct settings *s, struct db *d,
		      struct session *b, int64_t id)
{
	auto_done(letter) l = { 0 };
	json_auto_t *v = NULL;
	struct err e = { 0 };
	char by[200];
	const char *status;
	int64_t outbox_id = 0;
	int r = letter_cancel(id, cli_caller(s, by, sizeof(by)), &l, &e);

	if (r == 0)
		r = evaluations_cancel(d, id, by, &l.msg, &outbox_id, &e);
	if (r < 0)
		return cli_fail(c, &e);
	if (r > 0) {
		tell_workers(c, b, d, &l, outbox_id);
		printf("canceled %lld\n", (long long)id);
		return CLI_DONE;
	}
	if (evaluations_show(d, id, s->results_dir, &v, &e) < 0)
		return cli_fail(c, &e);
	status = json_string_value(json_object_get(v, "status"));
	if (str_eq(status, "canceled")) {
		cli_say("zr %s: evaluation %lld was canceled already", c->command->name,
			(long long)id);
		return CLI_DONE;
	}
	cli_say("zr %s: evaluation %lld has ended already: %s", c->command->name, (long long)id,
		STR_ESC(status));
	return CLI_FAILED;
}

int cmd_evaluations_cancel(struct cli *c)
{
	auto_obj(settings) s = NULL;
	auto_obj(session) b = NULL;
	auto_obj(db) d = NULL;
	struct err e = { 0 };
	auto_free int64_t *ids = NULL;
	int status = CLI_DONE;
	const struct cli_opt opts[] = { { 0 } };

	if (!cli_parse(c, opts, 1, -1) || !cli_ids(c, "evaluation", &ids) || !cli_db(c, &s, &d))
		return c->status;
	if (letters_open(s, "zr", LETTERS_USEC, &b, &e) < 0)
		return cli_fail_setup(c, &e);
	for (int i = 0; i < c->argc; i++) {
		int one = cancel_one(c, s, d, b, ids[i]);

		status = one ? one : status;
	}
	return status;
}

/* --- trying again ------------------------------------------------------------------------------- */

static const char *text_of(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

/* NULL for a member that is null. */
static json_t *member(const json_t *o, const char *key)
{
	json_t *v = json_object_get(o, key);

	return json_is_null(v) ? NULL : v;
}

/* The request of the evaluation once more, with the next ordinal. */
static int order_again(const struct settings *s, struct db *d, int64_t id, struct letter *ret,
		       int *ret_attempt, struct err *e)
{
	json_auto_t *v = NULL, *sub = NULL;
	auto_free char *source = NULL;
	struct order o = { .evaluation = id };
	int r = evaluations_next_attempt(d, id, &o.attempt, e);

	if (r == 0)
		r = evaluations_show(d, id, s->results_dir, &v, e);
	if (r < 0)
		return r;
	o.submission = json_integer_value(json_object_get(v, "submission"));
	o.evaluator = text_of(v, "evaluator");
	o.pool = text_of(v, "pool");
	/* `host` also says where an evaluation of a pool ran. */
	o.host = o.pool ? NULL : text_of(v, "host");
	o.high = str_eq(text_of(v, "priority"), "high");
	o.args = member(v, "args");
	o.limits = member(v, "limits");
	r = submissions_show(d, o.submission, &sub, e);
	if (r < 0)
		return r;
	if (str_eq(text_of(sub, "status"), "deleted"))
		return err_input(e, "submission %lld was deleted: there is nothing to evaluate",
				 (long long)o.submission);
	o.digest = text_of(sub, "digest");
	r = letters_source(s, o.host, o.submission, &source, e);
	if (r < 0)
		return r;
	o.source = source;
	*ret_attempt = o.attempt;
	return letter_request(&o, ret, e);
}

int cmd_evaluations_retry(struct cli *c)
{
	auto_done(letter) l = { 0 };
	auto_obj(settings) s = NULL;
	auto_obj(session) b = NULL;
	auto_obj(db) d = NULL;
	struct err e = { 0 };
	int64_t id, outbox_id = 0;
	int attempt = 0, r;
	const struct cli_opt opts[] = { { 0 } };

	if (!cli_parse(c, opts, 1, 1) || !cli_id(c, "evaluation", c->argv[0], &id) ||
	    !cli_db(c, &s, &d))
		return c->status;
	r = letters_open(s, "zr", LETTERS_USEC, &b, &e);
	if (r < 0)
		return cli_fail_setup(c, &e);
	r = order_again(s, d, id, &l, &attempt, &e);
	if (r == 0)
		r = evaluations_retry(d, id, attempt, &l.msg, &outbox_id, &e);
	if (r < 0)
		return cli_fail_setup(c, &e);
	tell_workers(c, b, d, &l, outbox_id);
	printf("attempt %d of evaluation %lld\n", attempt, (long long)id);
	return CLI_DONE;
}

/* SPDX-License-Identifier: MIT */
#include "store/evaluations.h"

#include "base/json.h"
#include "base/str.h"
#include "store/rows.h"

static int none(int64_t id, struct err *e)
{
	return err_set(e, ENOENT, ERR_INPUT, "no evaluation %lld", (long long)id);
}

/* "12/1" in results.path becomes "<results_dir>/12/1". */
static int full_path(json_t *o, const char *results_dir, struct err *e)
{
	json_t *results = json_object_get(o, "results");
	const char *path = json_string_value(json_object_get(results, "path"));
	auto_free char *full = NULL;

	if (!path || !results_dir)
		return 0;
	if (str_fmt(&full, "%s/%s", results_dir, path) < 0 ||
	    json_object_set_new(results, "path", json_string(full)) < 0)
		return err_nomem(e);
	return 0;
}

static int full_paths(json_t *list, const char *results_dir, struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < json_array_size(list); i++)
		r = full_path(json_array_get(list, i), results_dir, e);
	return r;
}

int evaluations_list(struct db *d, const struct evaluation_filter *f, const char *results_dir,
		     json_t **ret, struct err *e)
{
	json_auto_t *list = NULL;
	struct db_args a = { 0 };
	int r;

	db_arg_text(&a, f->challenge);
	db_arg_text(&a, f->author);
	db_arg_text(&a, f->status);
	db_arg_text(&a, f->host);
	db_arg_text(&a, f->evaluator);
	db_arg_id(&a, f->submission);
	db_arg_id(&a, f->before);
	db_arg_int(&a, f->limit ? f->limit : ROWS_LIMIT);
	db_arg_text(&a, f->since);
	r = rows_list(d,
		      "select body from evaluation_list where challenge = coalesce($1, challenge)"
		      " and author = coalesce($2, author) and state = coalesce($3, state)"
		      " and ($4::text is null or host = $4) and evaluator = coalesce($5, evaluator)"
		      " and ($6::bigint is null or submission = $6)"
		      " and ($9::timestamptz is null or id in"
		      " (select id from evaluation where created_at >= $9))"
		      " and id < coalesce($7::bigint, 9223372036854775807) order by id desc limit "
		      "$8::int",
		      &a, &list, e);
	if (r == 0)
		r = full_paths(list, results_dir, e);
	if (r == 0)
		*ret = take_ptr(list);
	return r;
}

static const char sql_show[] = "select body from evaluation_list where id = $1::bigint";
static const char sql_more[] =
	"select json_build_object('limits', v.limits, 'max_attempts', v.max_attempts,"
	" 'wanted_attempt', v.wanted_attempt, 'cancel', case when cancel_at is not null then"
	" json_build_object('by', cancel_by, 'at', rfc3339(cancel_at)) end,"
	" 'outbox', (select json_build_object('age_seconds',"
	"  extract(epoch from now() - o.created_at)::bigint, 'tries', o.tries, 'error', o.error,"
	"  'due_at', rfc3339(o.next_at))"
	"  from outbox o where o.evaluation = v.id order by o.id limit 1),"
	" 'asked_attempt', v.asked_attempt, 'resent', v.resent,"
	" 'resent_at', case when v.resent_at > v.queued_at then rfc3339(v.resent_at) end,"
	" 'submission_digest', s.digest, 'version', v.version,"
	" 'attempts', coalesce((select json_agg(l.body order by l.attempt, l.attempt_id)"
	"  from attempt_list l where l.evaluation = v.id), '[]'))"
	" from evaluation v join submission s on s.id = v.submission where v.id = $1::bigint";

int evaluations_show(struct db *d, int64_t id, const char *results_dir, json_t **ret, struct err *e)
{
	json_auto_t *o = NULL, *more = NULL;
	struct db_args a = { 0 };
	int r;

	db_arg_int(&a, id);
	r = rows_one(d, sql_show, &a, "evaluation", &o, e);
	if (r == 0)
		r = rows_one(d, sql_more, &a, "evaluation", &more, e);
	if (r == -ENOENT)
		return none(id, e);
	if (r == 0 && json_object_update(o, more) < 0)
		r = err_nomem(e);
	if (r == 0)
		r = full_path(o, results_dir, e);
	if (r == 0)
		r = full_paths(json_object_get(o, "attempts"), results_dir, e);
	if (r == 0)
		*ret = take_ptr(o);
	return r;
}

int evaluations_events(struct db *d, int64_t id, int64_t after, json_t **ret, struct err *e)
{
	struct db_args a = { 0 };

	db_arg_int(&a, id);
	db_arg_int(&a, after);
	return rows_list(d,
			 "select json_build_object('event', id, 'kind', kind, 'attempt', attempt,"
			 " 'attempt_id', attempt_id, 'seq', seq, 'at', rfc3339(at), 'host', host,"
			 " 'worker', worker, 'body', body) from event where evaluation = $1::bigint"
			 " and id > $2::bigint order by id limit 10000",
			 &a, ret, e);
}

int evaluations_next_id(struct db *d, int64_t *ret_id, struct err *e)
{
	return rows_int(d, "select nextval('evaluation_id')", NULL, "number", ret_id, e);
}

static void arg_outbox(struct db_args *a, const struct outbox_msg *m)
{
	db_arg_text(a, m->exchange);
	db_arg_text(a, m->routing_key);
	db_arg_text(a, m->message_id);
	db_arg_text(a, m->body);
}

int evaluations_create(struct db *d, const struct evaluation_new *n, const struct outbox_msg *m,
		       int64_t *ret_outbox_id, struct err *e)
{
	auto_free char *args = n->args ? js_text(n->args) : NULL;
	auto_free char *limits = n->limits ? js_text(n->limits) : NULL;
	struct db_args a = { 0 };
	int r;

	if ((n->args && !args) || (n->limits && !limits))
		return err_nomem(e);
	db_arg_int(&a, n->id);
	db_arg_int(&a, n->submission);
	db_arg_text(&a, n->evaluator);
	db_arg_text(&a, n->pool);
	db_arg_text(&a, n->host);
	db_arg_text(&a, n->priority ? n->priority : "normal");
	db_arg_text(&a, args);
	db_arg_text(&a, limits);
	db_arg_int(&a, n->max_attempts ? n->max_attempts : 1);
	arg_outbox(&a, m);
	r = rows_int(
		d,
		"with v as (insert into evaluation (id, submission, challenge, evaluator, pool,"
		" host, priority, args, limits, max_attempts, request_exchange, request_key,"
		" request) select $1::bigint, s.id, s.challenge, $3, $4, $5, $6, $7::jsonb,"
		" $8::jsonb, $9::int, $10, $11, $13::jsonb from submission s"
		" where s.id = $2::bigint and s.state = 'uploaded' returning id)"
		" insert into outbox (evaluation, exchange, routing_key, message_id, body)"
		" select id, $10, $11, $12::uuid, $13::text from v returning id",
		&a, "submission", ret_outbox_id, e);
	if (r == -ENOENT)
		return err_set(e, ENOENT, ERR_INPUT, "submission %lld is not there to be evaluated",
			       (long long)n->submission);
	return r;
}

int evaluations_cancel(struct db *d, int64_t id, const char *by, const struct outbox_msg *m,
		       int64_t *ret_outbox_id, struct err *e)
{
	auto_obj(db_rows) rows = NULL;
	struct db_args a = { 0 };
	int r;

	db_arg_int(&a, id);
	db_arg_text(&a, by);
	arg_outbox(&a, m);
	r = db_query(
		d,
		"select was, outbox from cancel_evaluation($1::bigint, $2, $3, $4, $5::uuid, $6)",
		&a, &rows, e);
	if (r < 0)
		return r;
	if (db_is_null(rows, 0, 0))
		return none(id, e);
	*ret_outbox_id = db_int(rows, 0, 1);
	return !db_is_null(rows, 0, 1);
}

int evaluations_next_attempt(struct db *d, int64_t id, int *ret_attempt, struct err *e)
{
	auto_obj(db_rows) rows = NULL;
	struct db_args a = { 0 };
	int r;

	db_arg_int(&a, id);
	r = db_query(d,
		     "select greatest(v.attempt, max_attempts, wanted_attempt, asked_attempt) + 1,"
		     " l.settled"
		     " from evaluation v join evaluation_list l using (id) where v.id = $1::bigint",
		     &a, &rows, e);
	if (r < 0)
		return r;
	if (!db_rows_n(rows))
		return none(id, e);
	if (!db_bool(rows, 0, 1))
		return err_set(e, EBUSY, ERR_INPUT,
			       "evaluation %lld has not ended yet: cancel it first ('zr "
			       "evaluations:cancel %lld')",
			       (long long)id, (long long)id);
	*ret_attempt = (int)db_int(rows, 0, 0);
	return 0;
}

int evaluations_retry(struct db *d, int64_t id, int attempt, const struct outbox_msg *m,
		      int64_t *ret_outbox_id, struct err *e)
{
	auto_obj(db_rows) rows = NULL;
	struct db_args a = { 0 };
	int r;

	db_arg_int(&a, id);
	db_arg_int(&a, attempt);
	arg_outbox(&a, m);
	r = db_query(d,
		     "select accepted, outbox from retry_evaluation($1::bigint, $2::int, $3, $4, "
		     "$5::uuid, $6)",
		     &a, &rows, e);
	if (r < 0)
		return r;
	if (!db_bool(rows, 0, 0))
		return err_set(e, EBUSY, ERR_INPUT,
			       "evaluation %lld changed meanwhile: look at it and try again",
			       (long long)id);
	*ret_outbox_id = db_int(rows, 0, 1);
	return 0;
}

/* SPDX-License-Identifier: MIT */
#include "store/workers.h"

#include "base/json.h"
#include "store/rows.h"

int workers_list(struct db *d, json_t **ret, struct err *e)
{
	return rows_list(
		d,
		"select json_build_object('worker', worker, 'host', host, 'pid', body->'pid',"
		" 'state', body->'state', 'alive', heard_at > now() - interval '30 seconds'"
		" and body->>'state' <> 'gone', 'lost', lost, 'lease_usec',"
		" (extract(epoch from lease) * 1000000)::bigint, 'since', body->'since',"
		" 'at', rfc3339(at), 'seen_at', rfc3339(heard_at),"
		" 'jobs', coalesce(body->'jobs', '[]'),"
		" 'evaluators', coalesce(body->'evaluators', '[]'))"
		" from worker_lease where body->>'role' is null order by worker",
		NULL, ret, e);
}

int workers_forget(struct db *d, uint64_t older_usec, struct err *e)
{
	auto_obj(db_rows) rows = NULL;
	struct db_args a = { 0 };
	int r;

	db_arg_int(&a, (int64_t)older_usec);
	r = db_query(
		d,
		"delete from worker where seen_at < now() - $1::bigint * interval '1 microsecond'",
		&a, &rows, e);
	return r < 0 ? r : (int)db_changed(rows);
}

const struct db_stmt workers_beat_stmt = {
	"workers_beat",
	"select heard_worker($1, $2, $3::timestamptz, $4::jsonb)",
};

void workers_beat_args(struct db_args *a, const char *worker, const char *host, const char *at,
		       const char *body)
{
	db_arg_text(a, worker);
	db_arg_text(a, host);
	db_arg_text(a, at);
	db_arg_text(a, body);
}

const struct db_stmt workers_tick_stmt = {
	"workers_tick",
	"select heard_tick($1::timestamptz)",
};

const struct db_stmt workers_listen_stmt = {
	"workers_listen",
	"insert into listener as l (name, clear_at) values"
	" ($1, coalesce($2::timestamptz, '-infinity')) on conflict (name) do update set"
	" clear_at = coalesce($2::timestamptz, l.clear_at), seen_at = now()"
	" returning rfc3339(now())",
};

const struct db_stmt workers_audit_stmt = {
	"workers_audit",
	"select evaluation, attempt, attempt_id, detail, ended, again from audit_leases("
	"$1::bigint, $2::int, $3::bigint)",
};

void workers_audit_args(struct db_args *a, uint64_t patience_usec, const struct event_policy *p)
{
	db_arg_int(a, (int64_t)patience_usec);
	db_arg_int(a, (int64_t)p->infrastructure_retries);
	db_arg_int(a, (int64_t)p->retry_delay_usec);
}

void workers_lost(const struct db_rows *r, int i, struct worker_lost *ret)
{
	*ret = (struct worker_lost){
		.evaluation = db_text(r, i, 0),
		.attempt = (int)db_int(r, i, 1),
		.attempt_id = db_text(r, i, 2),
		.detail = db_text(r, i, 3),
		.ended = db_bool(r, i, 4),
		.again = (int)db_int(r, i, 5),
	};
}

int workers_are_audited(struct db *d, bool *ret, struct err *e)
{
	auto_obj(db_rows) rows = NULL;
	int r = db_query(d,
			 "select exists (select from listening where sent_at > now() - interval"
			 " '30 seconds')",
			 NULL, &rows, e);

	if (r == 0)
		*ret = db_bool(rows, 0, 0);
	return r;
}

int evaluators_set(struct db *d, const char *host, const json_t *found, struct err *e)
{
	auto_free char *text = js_text(found);
	struct db_args a = { 0 };

	if (!text)
		return err_nomem(e);
	db_arg_text(&a, host);
	db_arg_text(&a, text);
	/* One statement, so that nobody sees half a host. */
	return db_query(
		d,
		"with found as (select f->>'name' as name, f as body"
		" from jsonb_array_elements($2::jsonb) as f), gone as (delete from evaluator"
		" where host = $1 and name not in (select name from found))"
		" insert into evaluator (host, name, body) select $1, name, body from found"
		" on conflict (host, name) do update set body = excluded.body, seen_at = now()",
		&a, NULL, e);
}

int evaluators_list(struct db *d, json_t **ret, struct err *e)
{
	return rows_list(
		d,
		"select body from (select host, name, jsonb_build_object('host', host, 'seen_at',"
		" rfc3339(seen_at)) || body as body from evaluator"
		" union all select w.host, n, jsonb_build_object('host', w.host, 'name', n,"
		" 'seen_at', rfc3339(max(w.seen_at))) from worker w, lateral"
		" jsonb_array_elements_text(case jsonb_typeof(w.body->'evaluators') when 'array'"
		" then w.body->'evaluators' else '[]' end) n where not exists"
		" (select from evaluator e where (e.host, e.name) = (w.host, n))"
		" group by w.host, n) known order by name, host",
		NULL, ret, e);
}

/* SPDX-License-Identifier: MIT */
#include "store/workers.h"

#include "base/json.h"
#include "store/rows.h"

int workers_list(struct db *d, json_t **ret, struct err *e)
{
	return rows_list(
		d,
		"select json_build_object('worker', worker, 'host', host, 'pid', body->'pid',"
		" 'state', body->'state', 'alive', seen_at > now() - interval '30 seconds'"
		" and body->>'state' <> 'gone', 'since', body->'since', 'at', rfc3339(at),"
		" 'seen_at', rfc3339(seen_at), 'jobs', coalesce(body->'jobs', '[]'),"
		" 'evaluators', coalesce(body->'evaluators', '[]')) from worker order by worker",
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

/* SPDX-License-Identifier: MIT */
#include "store/events.h"

#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "base/str.h"
#include "base/time.h"
#include "store/rows.h"

static const char *const kinds[] = { "started",   "progress", "violation",
				     "completed", "failed",   "canceled" };

static int check_text(const char *field, const char *s, size_t max, struct err *e)
{
	size_t n = s ? strlen(s) : 0;

	if (n == 0 || n > max)
		return err_input(e, "'%s' has %zu bytes, want 1 to %zu", field, n, max);
	return str_utf8_valid(s, n) ? 0 : err_input(e, "'%s' is not UTF-8", field);
}

static int check_id(const char *s, int64_t *ret, struct err *e)
{
	if (str_i64(s, ret) < 0 || *ret < 1 || s[0] == '+')
		return err_input(e, "'evaluation' is %s, want a number of this database",
				 STR_ESC(s));
	return 0;
}

static bool known_kind(const char *kind)
{
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		if (str_eq(kind, kinds[i]))
			return true;
	return false;
}

int events_check(const struct store_event *ev, struct err *e)
{
	int64_t id;
	uint64_t t;
	int r = check_id(ev->evaluation, &id, e);

	if (r == 0)
		r = check_text("host", ev->host, 255, e);
	if (r == 0)
		r = check_text("worker", ev->worker, 280, e);
	if (r < 0)
		return r;
	if (!known_kind(ev->kind))
		return err_input(e, "no kind of event: %s", STR_ESC(ev->kind));
	if (!id_is_uuid(ev->attempt_id))
		return err_input(e, "'attempt_id' is not a UUID: %s", STR_ESC(ev->attempt_id));
	if (ev->attempt < 1)
		return err_input(e, "'attempt' is %d, want 1 or more", ev->attempt);
	/* The database keeps a flag in bit 62 of the end's number. */
	if (ev->seq < 0 || ev->seq >= (int64_t)1 << 62)
		return err_input(e, "'seq' is out of range");
	return time_parse(ev->at, &t) == 0 ? 0 : err_input(e, "'at' is not a time");
}

static int add_string(struct buf *b, const char *key, const char *s)
{
	json_auto_t *j = json_string(s);
	auto_free char *text = j ? json_dumps(j, JSON_ENCODE_ANY) : NULL;

	return text ? buf_fmt(b, ",\"%s\":%s", key, text) : -EINVAL;
}

int events_add(struct buf *batch, const struct store_event *ev, struct err *e)
{
	size_t before = batch->len;
	int64_t id = 0;
	int r = events_check(ev, e);

	if (r == 0)
		r = check_id(ev->evaluation, &id, e);
	if (r < 0)
		return r;
	r = buf_fmt(batch,
		    "%s{\"evaluation\":%lld,\"attempt\":%d,\"attempt_id\":\"%s\",\"seq\":%lld,"
		    "\"kind\":\"%s\",\"at\":\"%s\"",
		    before ? "," : "[", (long long)id, ev->attempt, ev->attempt_id,
		    (long long)ev->seq, ev->kind, ev->at);
	if (r >= 0)
		r = add_string(batch, "host", ev->host);
	if (r >= 0)
		r = add_string(batch, "worker", ev->worker);
	if (r >= 0)
		r = buf_fmt(batch, ",\"body\":%s}", ev->body);
	if (r < 0) {
		batch->len = before;
		if (batch->data)
			batch->data[before] = '\0';
		return err_nomem(e);
	}
	return 0;
}

const struct db_stmt events_apply_stmt = {
	"events_apply",
	"select answer, ended, collect, again from apply_events($1::jsonb, $2::int, $3::bigint)",
};

int events_args(struct buf *batch, const struct event_policy *p, struct db_args *a, struct err *e)
{
	if (buf_str(batch, "]") < 0)
		return err_nomem(e);
	db_arg_text(a, batch->data);
	db_arg_int(a, (int64_t)p->infrastructure_retries);
	db_arg_int(a, (int64_t)p->retry_delay_usec);
	return 0;
}

void events_result(const struct db_rows *r, int i, struct event_result *ret)
{
	int64_t answer = db_int(r, i, 0);

	*ret = (struct event_result){
		.answer = answer >= EVENT_UNKNOWN && answer <= EVENT_APPLIED
				  ? (enum event_answer)answer
				  : EVENT_STALE,
		.ended = db_bool(r, i, 1),
		.collect = db_bool(r, i, 2),
		.again = (int)db_int(r, i, 3),
	};
}

const struct db_stmt events_park_stmt = {
	"events_park",
	"insert into parked_event (message_id, routing_key, reason, detail, body)"
	" values ($1, $2, $3, left($4, 1000), $5::bytea) on conflict do nothing",
};

void events_park_args(struct db_args *a, const char *message_id, const char *routing_key,
		      const char *reason, const char *detail, const void *body, size_t len)
{
	db_arg_text(a, message_id && *message_id ? message_id : NULL);
	db_arg_text(a, routing_key);
	db_arg_text(a, reason);
	db_arg_text(a, detail);
	db_arg_bytes(a, body, len);
}

int events_parked(struct db *d, const char *reason, int64_t limit, json_t **ret, struct err *e)
{
	struct db_args a = { 0 };

	db_arg_int(&a, limit ? limit : ROWS_LIMIT);
	db_arg_text(&a, reason);
	return rows_list(
		d,
		"select json_build_object('id', id, 'message_id', message_id, 'routing_key',"
		" routing_key, 'reason', reason, 'detail', detail, 'bytes', length(body),"
		" 'parked_at', rfc3339(parked_at)) from parked_event"
		" where reason = coalesce($2, reason) order by id desc limit $1::bigint",
		&a, ret, e);
}

int events_parked_ids(struct db *d, const char *reason, json_t **ret, struct err *e)
{
	struct db_args a = { 0 };

	db_arg_text(&a, reason);
	return rows_list(d,
			 "select to_json(id) from parked_event where reason = coalesce($1, reason)"
			 " order by id",
			 &a, ret, e);
}

void events_taken_done(struct events_taken *p)
{
	free(p->message_id);
	buf_done(&p->body);
}

int events_take(struct db *d, int64_t id, struct events_taken *ret, struct err *e)
{
	auto_obj(db_rows) rows = NULL;
	struct db_args a = { 0 };
	int r;

	db_arg_int(&a, id);
	r = db_query(d, "delete from parked_event where id = $1::bigint returning message_id, body",
		     &a, &rows, e);
	if (r < 0)
		return r;
	if (!db_rows_n(rows))
		return err_set(e, ENOENT, ERR_INPUT, "no parked event %lld", (long long)id);
	if (!db_is_null(rows, 0, 0) && !(ret->message_id = strdup(db_text(rows, 0, 0))))
		return err_nomem(e);
	return db_bytes(rows, 0, 1, &ret->body, e);
}

const struct db_stmt events_prune_stmt = {
	"events_prune",
	"select reached, removed, parked from prune_events($1::bigint, $2::bigint, $3::int,"
	" $4::int)",
};

void events_prune_args(struct db_args *a, uint64_t keep_usec, int64_t after, int evaluations,
		       int events)
{
	db_arg_int(a, (int64_t)keep_usec);
	db_arg_int(a, after);
	db_arg_int(a, evaluations);
	db_arg_int(a, events);
}

void events_pruned(const struct db_rows *r, struct events_pruned *ret)
{
	*ret = (struct events_pruned){
		.more = !db_is_null(r, 0, 0),
		.reached = db_int(r, 0, 0),
		.removed = db_int(r, 0, 1),
		.parked = db_int(r, 0, 2),
	};
}

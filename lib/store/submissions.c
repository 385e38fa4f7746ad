/* SPDX-License-Identifier: MIT */
#include "store/submissions.h"

#include "base/str.h"
#include "store/challenges.h"
#include "store/rows.h"

static int why_not(struct db *d, const char *challenge, struct err *e)
{
	json_auto_t *c = NULL;
	int r = challenges_show(d, challenge, &c, e);

	if (r == -ENOENT)
		return err_set(e, ENOENT, ERR_INPUT, "no challenge '%s': see 'zr challenges'",
			       STR_ESC(challenge));
	return r < 0 ? r
		     : err_set(e, EPERM, ERR_INPUT, "challenge '%s' is not open for submissions",
			       STR_ESC(challenge));
}

int submissions_add(struct db *d, const char *challenge, const char *author, int64_t *ret_id,
		    struct err *e)
{
	struct db_args a = { 0 };
	int r;

	db_arg_text(&a, challenge);
	db_arg_text(&a, author);
	r = rows_int(d,
		     "insert into submission (challenge, author) select id, $2 from challenge"
		     " where (label = $1 or ($1 ~ '^[0-9]{1,18}$' and id::text = $1"
		     " and not exists (select from challenge where label = $1))) and active"
		     " and now() >= coalesce(starts_at, '-infinity')"
		     " and now() < coalesce(ends_at, 'infinity') returning id",
		     &a, "challenge", ret_id, e);
	return r == -ENOENT ? why_not(d, challenge, e) : r;
}

static int none(int64_t id, struct err *e)
{
	return err_set(e, ENOENT, ERR_INPUT, "no submission %lld", (long long)id);
}

int submissions_seal(struct db *d, int64_t id, const char *digest, int64_t bytes, int64_t files,
		     struct err *e)
{
	struct db_args a = { 0 };
	int r;

	db_arg_int(&a, id);
	db_arg_text(&a, digest);
	db_arg_int(&a, bytes);
	db_arg_int(&a, files);
	r = rows_int(
		d,
		"update submission set digest = $2, bytes = $3::bigint, files = $4::bigint,"
		" state = 'uploaded' where id = $1::bigint and state = 'uploading' returning id",
		&a, "submission", &id, e);
	return r == -ENOENT ? none(id, e) : r;
}

int submissions_drop(struct db *d, int64_t id, struct err *e)
{
	struct db_args a = { 0 };
	int r;

	db_arg_int(&a, id);
	r = rows_int(
		d,
		"delete from submission where id = $1::bigint and state = 'uploading' returning id",
		&a, "submission", &id, e);
	return r == -ENOENT ? none(id, e) : r;
}

int submissions_list(struct db *d, const struct submission_filter *f, json_t **ret, struct err *e)
{
	struct db_args a = { 0 };

	db_arg_text(&a, f->challenge);
	db_arg_text(&a, f->author);
	db_arg_text(&a, f->status);
	db_arg_id(&a, f->before);
	db_arg_int(&a, f->limit ? f->limit : ROWS_LIMIT);
	db_arg_text(&a, f->since);
	return rows_list(
		d,
		"select body from submission_list where challenge = coalesce($1, challenge)"
		" and author = coalesce($2, author) and status = coalesce($3, status)"
		" and ($6::timestamptz is null or id in"
		" (select id from submission where created_at >= $6))"
		" and id < coalesce($4::bigint, 9223372036854775807) order by id desc limit "
		"$5::int",
		&a, ret, e);
}

int submissions_show(struct db *d, int64_t id, json_t **ret, struct err *e)
{
	struct db_args a = { 0 };
	int r;

	db_arg_int(&a, id);
	r = rows_one(d, "select body from submission_list where id = $1::bigint", &a, "submission",
		     ret, e);
	return r == -ENOENT ? none(id, e) : r;
}

int submissions_exclude(struct db *d, int64_t id, bool excluded, struct err *e)
{
	struct db_args a = { 0 };
	int64_t challenge;
	int r;

	db_arg_int(&a, id);
	db_arg_text(&a, excluded ? "t" : "f");
	r = rows_int(d,
		     "with s as (update submission set excluded = $2::boolean where id = $1::bigint"
		     " returning challenge), m as (select mark_boards(challenge) from s)"
		     " select challenge from s, m",
		     &a, "submission", &challenge, e);
	return r == -ENOENT ? none(id, e) : r;
}

int submissions_delete(struct db *d, int64_t id, struct err *e)
{
	json_auto_t *s = NULL;
	struct db_args a = { 0 };
	int64_t challenge;
	int r;

	db_arg_int(&a, id);
	r = rows_int(d,
		     "with s as (update submission set state = 'deleted' where id = $1::bigint"
		     " and not exists (select from evaluation where submission = $1::bigint"
		     " and state in ('created', 'queued', 'running')) returning challenge),"
		     " m as (select mark_boards(challenge) from s) select challenge from s, m",
		     &a, "submission", &challenge, e);
	if (r != -ENOENT)
		return r;
	r = submissions_show(d, id, &s, e);
	return r < 0 ? r
		     : err_set(e, EBUSY, ERR_INPUT,
			       "submission %lld has an evaluation that has not ended: cancel it "
			       "first",
			       (long long)id);
}

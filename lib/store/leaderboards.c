/* SPDX-License-Identifier: MIT */
#include "store/leaderboards.h"

#include <string.h>

#include "base/json.h"
#include "base/str.h"
#include "store/rows.h"

static int create_failed(struct db *d, const json_t *def, int r, struct err *e)
{
	if (r == -ENOENT)
		return err_set(e, ENOENT, ERR_INPUT, "no challenge '%s': see 'zr challenges'",
			       STR_ESC(json_string_value(json_object_get(def, "challenge"))));
	if (r < 0 && db_last_class(d) == DB_DATA && e && strstr(e->msg, "SQLSTATE 23505"))
		return err_set(e, EEXIST, ERR_INPUT, "there is a leaderboard '%s' already",
			       STR_ESC(json_string_value(json_object_get(def, "label"))));
	return r;
}

int leaderboards_create(struct db *d, const json_t *def, bool replace, int64_t *ret_id,
			struct err *e)
{
	static const char
		add[] = "insert into leaderboard (label, challenge, definition)"
			" select $1::jsonb->>'label', c.id, $1::jsonb from challenge c"
			" where c.label = $1::jsonb->>'challenge' returning id",
		put[] = "insert into leaderboard (label, challenge, definition)"
			" select $1::jsonb->>'label', c.id, $1::jsonb from challenge c"
			" where c.label = $1::jsonb->>'challenge' on conflict (label) do update"
			" set challenge = excluded.challenge, definition = excluded.definition"
			" returning id";
	auto_obj(leaderboard) b = NULL;
	auto_free char *text = js_text(def);
	struct db_args a = { 0 };
	int r = text ? leaderboard_parse(def, &b, e) : err_nomem(e);

	if (r < 0)
		return r;
	db_arg_text(&a, text);
	r = rows_int(d, replace ? put : add, &a, "challenge", ret_id, e);
	return create_failed(d, def, r, e);
}

int leaderboards_list(struct db *d, json_t **ret, struct err *e)
{
	return rows_list(
		d,
		"select json_build_object('id', l.id, 'label', l.label, 'challenge', c.label,"
		" 'score', case when l.definition ? 'score' then l.definition->'score' else"
		" '\"score\"' end, 'order', coalesce(l.definition->>'order', 'desc'),"
		" 'entries', l.entries, 'built_at', rfc3339(l.built_at),"
		" 'skipped', coalesce(l.skipped, '[]'), 'error', l.error,"
		" 'definition', l.definition, 'created_at', rfc3339(l.created_at))"
		" from leaderboard l join challenge c on c.id = l.challenge order by l.id",
		NULL, ret, e);
}

static int none(const char *label, struct err *e)
{
	return err_set(e, ENOENT, ERR_INPUT, "no leaderboard '%s': see 'zr leaderboards'",
		       STR_ESC(label));
}

int leaderboards_delete(struct db *d, const char *label, struct err *e)
{
	struct db_args a = { 0 };
	int64_t id;
	int r;

	db_arg_text(&a, label);
	r = rows_int(d, "delete from leaderboard where label = $1 returning id", &a, "board", &id,
		     e);
	return r == -ENOENT ? none(label, e) : r;
}

const struct db_stmt leaderboards_dirty_stmt = {
	"boards_dirty",
	"select max(id), challenge from leaderboard_dirty group by challenge order by challenge",
};

/* Of a submission that was evaluated several times the newest evaluation counts. */
const struct db_stmt leaderboards_load_stmt = {
	"boards_load",
	"select l.label, l.definition, (select coalesce(json_agg(x.body order by x.submission), "
	"'[]')"
	" from (select distinct on (submission) submission, body from leaderboard_entry"
	" where challenge = l.challenge order by submission, evaluation desc) x)"
	" from leaderboard l where label = coalesce($1, label)"
	" and challenge = coalesce($2::bigint, challenge) order by l.id",
};

const struct db_stmt leaderboards_built_stmt = {
	"boards_built",
	"update leaderboard set built_at = case when $4::text is null then now() else built_at end,"
	" entries = coalesce($2::int, entries), skipped = coalesce($3::jsonb, skipped), error = $4"
	" where label = $1",
};

const struct db_stmt leaderboards_clean_stmt = {
	"boards_clean",
	"delete from leaderboard_dirty where challenge = $1::bigint and id <= $2::bigint",
};

int leaderboards_built_args(struct db_args *a, const char *label,
			    const struct leaderboard_report *r, const char *why, char **text,
			    struct err *e)
{
	*text = why ? NULL : js_text(r->skipped);
	if (!why && !*text)
		return err_nomem(e);
	db_arg_text(a, label);
	if (why)
		db_arg_text(a, NULL);
	else
		db_arg_int(a, (int64_t)r->entries);
	db_arg_text(a, *text);
	db_arg_text(a, why);
	return 0;
}

static int load(struct db *d, const char *label, json_t **ret_def, json_t **ret_entries,
		struct err *e)
{
	auto_obj(db_rows) rows = NULL;
	struct db_args a = { 0 };
	int r;

	db_arg_text(&a, label);
	db_arg_text(&a, NULL);
	r = db_query(d, leaderboards_load_stmt.sql, &a, &rows, e);
	if (r < 0)
		return r;
	if (!db_rows_n(rows))
		return none(label, e);
	r = db_json(rows, 0, 1, ret_def, e);
	return r < 0 ? r : db_json(rows, 0, 2, ret_entries, e);
}

/* zr-update may have read before us and write after us: the mark makes it look again. */
static int record(struct db *d, const char *label, const struct leaderboard_report *report,
		  struct err *e)
{
	auto_free char *text = NULL;
	struct db_args a = { 0 }, mark = { 0 };
	int r = leaderboards_built_args(&a, label, report, NULL, &text, e);

	if (r == 0)
		r = db_query(d, leaderboards_built_stmt.sql, &a, NULL, e);
	if (r < 0)
		return r;
	db_arg_text(&mark, label);
	return db_query(d, "select mark_boards(challenge) from leaderboard where label = $1", &mark,
			NULL, e);
}

int leaderboards_build(struct db *d, const char *label, const char *dir,
		       struct leaderboard_report *ret, struct err *e)
{
	json_auto_t *def = NULL, *entries = NULL;
	int r = load(d, label, &def, &entries, e);

	if (r == 0)
		r = leaderboard_publish(def, entries, dir, ret, e);
	return r < 0 ? r : record(d, label, ret, e);
}

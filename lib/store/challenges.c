/* SPDX-License-Identifier: MIT */
#include "store/challenges.h"

#include <string.h>

#include "base/id.h"
#include "base/json.h"
#include "base/str.h"
#include "base/time.h"
#include "store/rows.h"

/* The members of a definition and their columns. */
enum field_type {
	FIELD_NAME,
	FIELD_TEXT,
	FIELD_FLAG,
	FIELD_WORDS,
	FIELD_TIME
};

static const struct field {
	const char *key;
	enum field_type type;
	size_t max;
	bool required;
} fields[] = {
	{ "label", FIELD_NAME, ID_MAX, true }, { "evaluator", FIELD_NAME, ID_MAX, true },
	{ "pool", FIELD_NAME, ID_MAX, false }, { "host", FIELD_TEXT, 255, false },
	{ "args", FIELD_WORDS, 0, false },     { "description", FIELD_TEXT, 10000, false },
	{ "url", FIELD_TEXT, 2000, false },    { "active", FIELD_FLAG, 0, false },
	{ "start", FIELD_TIME, 40, false },    { "end", FIELD_TIME, 40, false },
};

static const struct field *find_field(const char *key)
{
	for (size_t i = 0; i < ARRAY_LEN(fields); i++)
		if (str_eq(fields[i].key, key))
			return &fields[i];
	return NULL;
}

/* "2026-11-21" or RFC 3339. */
static bool is_time(const char *s)
{
	auto_free char *full = NULL;
	uint64_t t;

	if (time_parse(s, &t) == 0)
		return true;
	return strlen(s) == 10 && str_fmt(&full, "%sT00:00:00Z", s) > 0 &&
	       time_parse(full, &t) == 0;
}

static int check_words(const json_t *list, const struct field *f, struct err *e)
{
	for (size_t i = 0; i < json_array_size(list); i++)
		if (!json_is_string(json_array_get(list, i)))
			return err_input(e, "'%s' must be a list of texts", f->key);
	return 0;
}

static int check_field(const json_t *def, const struct field *f, struct err *e)
{
	const char *s = NULL;
	json_t *list = NULL;
	bool flag;
	int r;

	if (f->type == FIELD_FLAG)
		return js_opt_bool(def, f->key, &flag, e);
	if (f->type == FIELD_WORDS) {
		r = js_opt_arr(def, f->key, &list, e);
		return r == 1 ? check_words(list, f, e) : r;
	}
	r = js_opt_str(def, f->key, f->max, &s, e);
	if (r != 1)
		return r;
	if (f->type == FIELD_NAME && !id_valid(s))
		return err_input(e, "'%s' is %s: letters, digits, '.', '_' and '-' only", f->key,
				 STR_ESC(s));
	if (f->type == FIELD_TIME && !is_time(s))
		return err_input(e, "'%s' is %s: want 2026-11-21 or 2026-11-21T12:00:00Z", f->key,
				 STR_ESC(s));
	return 0;
}

/* Unknown members are mistyped ones. */
static int check(const json_t *def, struct err *e)
{
	int r;

	if (!json_is_object(def))
		return err_input(e, "a challenge is a JSON object");
	for (void *it = json_object_iter((json_t *)(uintptr_t)def); it;
	     it = json_object_iter_next((json_t *)(uintptr_t)def, it)) {
		const char *key = json_object_iter_key(it);
		const struct field *f = find_field(key);

		if (!f)
			return err_input(e, "a challenge has no '%s'", STR_ESC(key));
		r = check_field(def, f, e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int explain(struct db *d, const json_t *def, int r, struct err *e)
{
	if (r < 0 && db_last_class(d) == DB_DATA && e && strstr(e->msg, "SQLSTATE 23505"))
		return err_set(e, EEXIST, ERR_INPUT, "there is a challenge '%s' already",
			       json_string_value(json_object_get(def, "label")));
	return r;
}

int challenges_add(struct db *d, const json_t *def, int64_t *ret_id, struct err *e)
{
	auto_free char *text = js_text(def);
	struct db_args a = { 0 };
	int r = text ? check(def, e) : err_nomem(e);

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(fields); i++)
		if (fields[i].required && !json_is_string(json_object_get(def, fields[i].key)))
			r = err_input(e, "a challenge needs '%s'", fields[i].key);
	if (r < 0)
		return r;
	db_arg_text(&a, text);
	r = rows_int(d,
		     "insert into challenge (label, evaluator, pool, host, args, description, url,"
		     " active, starts_at, ends_at) select label, evaluator, pool, host,"
		     " coalesce(args, '[]'), coalesce(description, ''), coalesce(url, ''),"
		     " coalesce(active, true), start, \"end\" from jsonb_to_record($1::jsonb) as j"
		     " (label text, evaluator text, pool text, host text, args jsonb,"
		     " description text, url text, active boolean, start timestamptz,"
		     " \"end\" timestamptz) returning id",
		     &a, "challenge", ret_id, e);
	return explain(d, def, r, e);
}

/* By label, else by number: a label may consist of digits. */
#define WHICH                                                                                      \
	"(label = $1 or ($1 ~ '^[0-9]{1,18}$' and id::text = $1"                                   \
	" and not exists (select from challenge where label = $1)))"

int challenges_set(struct db *d, const char *label_or_id, const json_t *change, struct err *e)
{
	auto_free char *text = js_text(change);
	struct db_args a = { 0 };
	int64_t id;
	int r = text ? check(change, e) : err_nomem(e);

	if (r < 0)
		return r;
	db_arg_text(&a, label_or_id);
	db_arg_text(&a, text);
	r = rows_int(
		d,
		"update challenge c set label = case when j ? 'label' then j->>'label' else label "
		"end,"
		" evaluator = case when j ? 'evaluator' then j->>'evaluator' else evaluator end,"
		" pool = case when j ? 'pool' then j->>'pool' else pool end,"
		" host = case when j ? 'host' then j->>'host' else host end,"
		" args = case when j ? 'args' then coalesce(nullif(j->'args', 'null'), '[]') else "
		"args end,"
		" description = case when j ? 'description' then coalesce(j->>'description', '')"
		" else description end,"
		" url = case when j ? 'url' then coalesce(j->>'url', '') else url end,"
		" active = case when j ? 'active' then (j->>'active')::boolean else active end,"
		" starts_at = case when j ? 'start' then (j->>'start')::timestamptz else starts_at "
		"end,"
		" ends_at = case when j ? 'end' then (j->>'end')::timestamptz else ends_at end"
		" from (select $2::jsonb as j) as change where " WHICH " returning id",
		&a, "such challenge", &id, e);
	return explain(d, change, r, e);
}

int challenges_show(struct db *d, const char *label_or_id, json_t **ret, struct err *e)
{
	struct db_args a = { 0 };

	db_arg_text(&a, label_or_id);
	return rows_one(d, "select body from challenge_list where " WHICH, &a, "such challenge",
			ret, e);
}

int challenges_list(struct db *d, bool only_open, json_t **ret, struct err *e)
{
	struct db_args a = { 0 };

	db_arg_text(&a, only_open ? "t" : "f");
	return rows_list(d,
			 "select l.body from challenge_list l join challenge c on c.id = l.id"
			 " where not $1::boolean or (c.active and now() >= coalesce(c.starts_at, "
			 "'-infinity')"
			 " and now() < coalesce(c.ends_at, 'infinity')) order by l.id",
			 &a, ret, e);
}

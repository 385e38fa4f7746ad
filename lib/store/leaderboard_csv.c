/* SPDX-License-Identifier: MIT */
/* A board as CSV (RFC 4180). */
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "store/leaderboard.h"

#define CELL_MAX    8000
#define COLUMNS_MAX 400 /* flattened score keys */

static bool needs_quotes(const char *s)
{
	return strpbrk(s, ",\"\r\n") != NULL || s[0] == ' ' || (s[0] && s[strlen(s) - 1] == ' ');
}

/* A spreadsheet runs a text that begins like a formula. */
static bool looks_like_formula(const char *s)
{
	return s[0] && strchr("=+-@\t\r", s[0]) != NULL;
}

static int cell_text(struct buf *b, const char *s)
{
	auto_buf struct buf raw = { 0 };
	bool quotes;
	int r = 0;

	if (looks_like_formula(s) && buf_str(&raw, "'") < 0)
		return -ENOMEM;
	if (buf_add(&raw, s, strnlen(s, CELL_MAX)) < 0)
		return -ENOMEM;
	quotes = raw.data && needs_quotes(raw.data);
	if (quotes)
		r = buf_str(b, "\"");
	for (size_t i = 0; r >= 0 && raw.data && i < raw.len; i++) {
		if (raw.data[i] == '"')
			r = buf_str(b, "\"");
		if (r >= 0)
			r = buf_add(b, raw.data + i, 1);
	}
	return r >= 0 && quotes ? buf_str(b, "\"") : r;
}

static int cell(struct buf *b, const json_t *v)
{
	auto_free char *text = NULL;

	if (!v || json_is_null(v))
		return 0;
	if (json_is_string(v))
		return cell_text(b, json_string_value(v));
	text = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(15));
	if (!text)
		return -ENOMEM;
	return json_is_number(v) || json_is_boolean(v) ? buf_str(b, text) : cell_text(b, text);
}

/* Adds "a.b" = value for each leaf of a score. Recursion is bounded by the parser's depth. */
static void flatten(json_t *flat, const char *prefix, json_t *v)
{
	if (!json_is_object(v)) {
		(void)json_object_set(flat, prefix, v);
		return;
	}
	for (void *it = json_object_iter(v); it; it = json_object_iter_next(v, it)) {
		auto_free char *name = NULL;

		if (str_fmt(&name, "%s%s%s", prefix, *prefix ? "." : "",
			    json_object_iter_key(it)) >= 0)
			flatten(flat, name, json_object_iter_value(it));
	}
}

/* The cells of an entry beside the fixed ones: its columns, or its whole score. */
static json_t *cells_of(const json_t *entry)
{
	json_t *columns = json_object_get(entry, "columns"), *flat;

	if (columns)
		return json_incref(columns);
	flat = json_object();
	if (json_is_object(json_object_get(entry, "score")))
		flatten(flat, "", json_object_get(entry, "score"));
	return flat;
}

/* The keys of all entries, in the order in which they are met. */
static json_t *all_keys(const json_t *data)
{
	json_t *keys = json_object();

	for (size_t i = 0; i < json_array_size(data); i++) {
		json_auto_t *cells = cells_of(json_array_get(data, i));

		for (void *it = json_object_iter(cells); it; it = json_object_iter_next(cells, it))
			if (json_object_size(keys) < COLUMNS_MAX)
				(void)json_object_set_new(keys, json_object_iter_key(it),
							  json_null());
	}
	return keys;
}

static const char *const fixed[] = { "index", "author_label", "value", "submission",
				     "submitted_at" };

static int head(struct buf *b, json_t *keys)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < ARRAY_LEN(fixed); i++)
		r = buf_fmt(b, "%s%s", i ? "," : "", fixed[i]);
	for (void *it = json_object_iter(keys); r >= 0 && it;
	     it = json_object_iter_next(keys, it)) {
		r = buf_str(b, ",");
		if (r >= 0)
			r = cell_text(b, json_object_iter_key(it));
	}
	return r >= 0 ? buf_str(b, "\r\n") : r;
}

static int line(struct buf *b, const json_t *entry, json_t *keys)
{
	json_auto_t *cells = cells_of(entry);
	int r = 0;

	for (size_t i = 0; r >= 0 && i < ARRAY_LEN(fixed); i++) {
		if (i)
			r = buf_str(b, ",");
		if (r >= 0)
			r = cell(b, json_object_get(entry, fixed[i]));
	}
	for (void *it = json_object_iter(keys); r >= 0 && it;
	     it = json_object_iter_next(keys, it)) {
		r = buf_str(b, ",");
		if (r >= 0)
			r = cell(b, json_object_get(cells, json_object_iter_key(it)));
	}
	return r >= 0 ? buf_str(b, "\r\n") : r;
}

int leaderboard_csv(const json_t *board, char **ret, struct err *e)
{
	auto_buf struct buf b = { 0 };
	json_t *data = json_object_get(board, "data");
	json_auto_t *keys = all_keys(data);
	int r = head(&b, keys);

	for (size_t i = 0; r >= 0 && i < json_array_size(data); i++)
		r = line(&b, json_array_get(data, i), keys);
	if (r < 0)
		return err_nomem(e);
	*ret = take_ptr(b.data);
	return 0;
}

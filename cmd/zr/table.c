/* SPDX-License-Identifier: MIT */
/* Listings: rows are JSON objects, shown as they are or as a table for people. */
#include "cli.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/json.h"
#include "base/str.h"
#include "base/time.h"

#define COLS_MAX 24

static const json_t *lookup(const json_t *row, const char *key)
{
	const char *dot = strchr(key, '.');
	char first[64];

	if (!dot || json_object_get(row, key))
		return json_object_get(row, key);
	snprintf(first, sizeof(first), "%.*s", (int)(dot - key), key);
	return lookup(json_object_get(row, first), dot + 1);
}

static int put_time(struct buf *b, const char *text, bool age)
{
	uint64_t usec, now = time_wall_usec();
	char span[32], local[32];
	struct tm tm;
	time_t sec;

	if (time_parse(text, &usec) < 0)
		return buf_str(b, STR_ESC(text));
	if (age) {
		uint64_t ago = now > usec ? (now - usec) / USEC_PER_SEC : 0;
		uint64_t unit = ago < 120 ? 1 : ago < 7200 ? 60 : ago < 172800 ? 3600 : 86400;

		str_span_text(span, sizeof(span), ago / unit * unit * USEC_PER_SEC);
		return buf_fmt(b, "%s ago", span);
	}
	sec = (time_t)(usec / USEC_PER_SEC);
	if (!localtime_r(&sec, &tm) || !strftime(local, sizeof(local), "%Y-%m-%d %H:%M:%S", &tm))
		return buf_str(b, STR_ESC(text));
	return buf_str(b, local);
}

static int put_value(struct buf *b, const json_t *v, enum cli_format format)
{
	auto_free char *text = NULL;
	char size[32];

	if (!v || json_is_null(v) || (json_is_string(v) && json_string_length(v) == 0))
		return buf_str(b, "-");
	if (json_is_string(v) && (format == COL_TIME || format == COL_AGE))
		return put_time(b, json_string_value(v), format == COL_AGE);
	if (json_is_string(v))
		return buf_str(b, STR_ESC(json_string_value(v)));
	if (json_is_integer(v) && format == COL_SIZE)
		return buf_str(b,
			       str_size_text(size, sizeof(size), (uint64_t)json_integer_value(v)));
	if (json_is_real(v))
		return buf_fmt(b, "%.6g", json_real_value(v));
	if (json_is_array(v)) {
		const json_t *item;
		size_t i;
		int r = json_array_size(v) ? 0 : buf_str(b, "-");

		json_array_foreach(v, i, item)
		{
			if (r == 0 && i)
				r = buf_str(b, ",");
			if (r == 0)
				r = put_value(b, item, COL_TEXT);
		}
		return r;
	}
	text = js_text(v);
	return text ? buf_str(b, text) : -ENOMEM;
}

/* Columns on a terminal, not bytes: continuation bytes of UTF-8 take no room. */
static size_t width(const char *s)
{
	size_t n = 0;

	for (; s && *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

struct cells {
	char **text; /* rows x cols, the first row holds the titles */
	size_t rows, cols;
};

static void cells_done(struct cells *t)
{
	for (size_t i = 0; t->text && i < t->rows * t->cols; i++)
		free(t->text[i]);
	free(t->text);
}
DEFINE_AUTO_DONE(cells);

static int cells_fill(struct cells *t, const json_t *rows, const struct cli_col *cols)
{
	const json_t *row;
	size_t i;

	while (cols[t->cols].title)
		t->cols++;
	assert(t->cols > 0 && t->cols <= COLS_MAX);
	t->rows = json_array_size(rows) + 1;
	t->text = calloc(t->rows * t->cols, sizeof(char *));
	if (!t->text)
		return -ENOMEM;
	for (size_t k = 0; k < t->cols; k++)
		if (!(t->text[k] = strdup(cols[k].title)))
			return -ENOMEM;
	json_array_foreach(rows, i, row)
	{
		for (size_t k = 0; k < t->cols; k++) {
			struct buf b = { 0 };

			if (put_value(&b, lookup(row, cols[k].key), cols[k].format) < 0)
				return -ENOMEM;
			t->text[(i + 1) * t->cols + k] = b.data;
		}
	}
	return 0;
}

static void cells_print(const struct cells *t)
{
	size_t widths[COLS_MAX] = { 0 };

	for (size_t i = 0; i < t->rows * t->cols; i++)
		if (width(t->text[i]) > widths[i % t->cols])
			widths[i % t->cols] = width(t->text[i]);
	for (size_t i = 0; i < t->rows; i++) {
		for (size_t k = 0; k < t->cols; k++) {
			const char *s = t->text[i * t->cols + k];
			bool last = k + 1 == t->cols;

			printf("%s%*s", s, last ? 0 : (int)(widths[k] - width(s) + 2), "");
		}
		putchar('\n');
	}
}

static int no_memory(const struct cli *c)
{
	struct err e = { 0 };

	err_nomem(&e);
	return cli_fail(c, &e);
}

static int print_json(const struct cli *c, const json_t *j)
{
	auto_free char *text = js_pretty(j);

	if (!text)
		return no_memory(c);
	puts(text);
	return CLI_DONE;
}

int cli_list(const struct cli *c, const json_t *rows, const struct cli_col *cols, bool json)
{
	auto_done(cells) t = { 0 };

	if (json)
		return print_json(c, rows);
	if (cells_fill(&t, rows, cols) < 0)
		return no_memory(c);
	cells_print(&t);
	return CLI_DONE;
}

int cli_show(const struct cli *c, const json_t *row, const struct cli_col *cols, bool json)
{
	size_t widest = 0;

	if (json)
		return print_json(c, row);
	for (const struct cli_col *k = cols; k->title; k++)
		if (strlen(k->title) > widest)
			widest = strlen(k->title);
	for (const struct cli_col *k = cols; k->title; k++) {
		auto_buf struct buf b = { 0 };

		if (put_value(&b, lookup(row, k->key), k->format) < 0)
			return no_memory(c);
		printf("%s:%*s%s\n", k->title, (int)(widest - strlen(k->title) + 1), "", b.data);
	}
	return CLI_DONE;
}

/* SPDX-License-Identifier: MIT */
#include "store/leaderboard.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/json.h"
#include "base/str.h"
#include "base/time.h"
#include "store/expr.h"

#define COLUMNS_MAX   64
#define EXTERNAL_SIZE (16u << 20) /* of a file */
#define EXTERNAL_MAX  10000       /* files */
#define EXTERNAL_DEEP 8           /* folders */

enum keep {
	KEEP_BEST,
	KEEP_LAST,
	KEEP_ALL
};
enum tie {
	TIE_EARLIER,
	TIE_LATER,
	TIE_EXPR
};

struct column {
	char *name;
	struct expr *value;
};

struct leaderboard {
	char *label, *challenge, *external;
	struct expr *score, *tie_value;
	bool desc;
	enum keep keep;
	enum tie tie;
	struct column columns[COLUMNS_MAX];
	size_t n_columns;
	size_t limit; /* 0: none */
};

void leaderboard_free(struct leaderboard *b)
{
	if (!b)
		return;
	for (size_t i = 0; i < b->n_columns; i++) {
		free(b->columns[i].name);
		expr_free(b->columns[i].value);
	}
	expr_free(b->score);
	expr_free(b->tie_value);
	free(b->label);
	free(b->challenge);
	free(b->external);
	free(b);
}

const char *leaderboard_label(const struct leaderboard *b)
{
	return b->label;
}

/* --- definition ------------------------------------------------------------------------------ */

static int parse_label(const json_t *def, const char *key, char **ret, struct err *e)
{
	const char *s;
	int r = js_str(def, key, ID_MAX, &s, e);

	if (r < 0)
		return r;
	if (!id_valid(s))
		return err_input(e, "'%s' is %s: letters, digits, '.', '_' and '-' only", key,
				 STR_ESC(s));
	*ret = strdup(s);
	return *ret ? 0 : err_nomem(e);
}

static int parse_expr(const char *key, const char *text, struct expr **ret, struct err *e)
{
	int r = expr_parse(text, ret, e);

	return r < 0 ? err_wrap(e, "'%s'", key) : 0;
}

/* An optional text out of a list; *ret is its place, or stays. */
static int parse_choice(const json_t *def, const char *key, const char *const *names, size_t n,
			int *ret, struct err *e)
{
	const char *s = NULL;
	int r = js_opt_str(def, key, 64, &s, e);

	if (r != 1)
		return r;
	for (size_t i = 0; i < n; i++)
		if (str_eq(s, names[i])) {
			*ret = (int)i;
			return 0;
		}
	return err_input(e, "'%s' is %s, want '%s' or '%s'", key, STR_ESC(s), names[0],
			 names[n - 1]);
}

static int parse_column(struct leaderboard *b, const json_t *j, struct err *e)
{
	const char *name = json_string_value(j), *value = name;
	struct column *c = &b->columns[b->n_columns];
	int r;

	if (!name) {
		r = js_str(j, "name", 200, &name, e);
		if (r == 0)
			r = js_str(j, "value", EXPR_TEXT_MAX, &value, e);
		if (r < 0)
			return err_wrap(e, "'columns'");
	}
	if (b->n_columns == COLUMNS_MAX)
		return err_input(e, "'columns' has more than %d", COLUMNS_MAX);
	r = parse_expr("columns", value, &c->value, e);
	if (r < 0)
		return r;
	b->n_columns++;
	c->name = strdup(name);
	return c->name ? 0 : err_nomem(e);
}

static int parse_columns(struct leaderboard *b, const json_t *def, struct err *e)
{
	json_t *list = NULL;
	int r = js_opt_arr(def, "columns", &list, e);

	for (size_t i = 0; r >= 0 && i < json_array_size(list); i++)
		r = parse_column(b, json_array_get(list, i), e);
	return r < 0 ? r : 0;
}

static int parse_tie(struct leaderboard *b, const json_t *def, struct err *e)
{
	const char *s = NULL;
	int r = js_opt_str(def, "tie_break", EXPR_TEXT_MAX, &s, e);

	if (r != 1 || str_eq(s, "earlier"))
		return r < 0 ? r : 0;
	b->tie = str_eq(s, "later") ? TIE_LATER : TIE_EXPR;
	return b->tie == TIE_EXPR ? parse_expr("tie_break", s, &b->tie_value, e) : 0;
}

static int parse_score(struct leaderboard *b, const json_t *def, struct err *e)
{
	static const char *const orders[] = { "asc", "desc" }, *const keeps[] = { "best", "last",
										  "all" };
	const char *s = "score";
	bool by_time = json_is_null(json_object_get(def, "score"));
	int order = 1, keep = by_time ? KEEP_LAST : KEEP_BEST;
	int r = js_opt_str(def, "score", EXPR_TEXT_MAX, &s, e);

	if (r >= 0 && !by_time)
		r = parse_expr("score", s, &b->score, e);
	if (r >= 0)
		r = parse_choice(def, "order", orders, ARRAY_LEN(orders), &order, e);
	if (r >= 0)
		r = parse_choice(def, "entries", keeps, ARRAY_LEN(keeps), &keep, e);
	if (r < 0)
		return r;
	b->desc = order == 1;
	b->keep = (enum keep)keep;
	if (b->keep == KEEP_BEST && !b->score)
		return err_input(e, "'entries' is 'best', and 'score' is null: nothing tells");
	return 0;
}

static int parse_rest(struct leaderboard *b, const json_t *def, struct err *e)
{
	const char *external = NULL;
	int64_t limit = 0;
	int r = js_opt_str(def, "external", 4000, &external, e);

	if (r == 1) {
		b->external = strdup(external);
		r = b->external ? 0 : err_nomem(e);
	}
	if (r >= 0)
		r = js_opt_int(def, "limit", 1, 1000000, &limit, e);
	b->limit = (size_t)limit;
	return r < 0 ? r : 0;
}

static int check_keys(const json_t *def, struct err *e)
{
	static const char *const keys[] = { "label",   "challenge", "score",
					    "order",   "entries",   "tie_break",
					    "columns", "external",  "limit" };
	json_t *o = (json_t *)(uintptr_t)def;

	if (!json_is_object(def))
		return err_input(e, "a leaderboard is a JSON object");
	for (void *it = json_object_iter(o); it; it = json_object_iter_next(o, it)) {
		size_t i = 0;

		while (i < ARRAY_LEN(keys) && !str_eq(keys[i], json_object_iter_key(it)))
			i++;
		if (i == ARRAY_LEN(keys))
			return err_input(e, "a leaderboard has no '%s'",
					 STR_ESC(json_object_iter_key(it)));
	}
	return 0;
}

int leaderboard_parse(const json_t *def, struct leaderboard **ret, struct err *e)
{
	auto_obj(leaderboard) b = calloc(1, sizeof(*b));
	int r = b ? check_keys(def, e) : err_nomem(e);

	if (r == 0)
		r = parse_label(def, "label", &b->label, e);
	if (r == 0)
		r = parse_label(def, "challenge", &b->challenge, e);
	if (r == 0)
		r = parse_score(b, def, e);
	if (r == 0)
		r = parse_tie(b, def, e);
	if (r == 0)
		r = parse_columns(b, def, e);
	if (r == 0)
		r = parse_rest(b, def, e);
	if (r == 0)
		*ret = take_ptr(b);
	return r;
}

/* --- ranking --------------------------------------------------------------------------------- */

struct row {
	const struct leaderboard *board;
	const json_t *entry;
	const char *author;
	double value, tie;
	bool has_tie;
	bool external;
	size_t at; /* order of submission */
};

static int compare_doubles(double a, double b, bool desc)
{
	return a == b ? 0 : (a < b) != desc ? -1 : 1;
}

static int compare_ties(const struct row *a, const struct row *b)
{
	/* Without a value: behind those that have one. */
	if (a->has_tie != b->has_tie)
		return a->has_tie ? -1 : 1;
	return a->has_tie ? compare_doubles(a->tie, b->tie, a->board->desc) : 0;
}

static int compare_rows(const void *x, const void *y)
{
	const struct row *a = x, *b = y;
	int c = compare_doubles(a->value, b->value, a->board->desc);

	if (c == 0)
		c = compare_ties(a, b);
	if (c == 0)
		c = a->at < b->at ? -1 : a->at > b->at;
	return a->board->tie == TIE_LATER && a->value == b->value ? -c : c;
}

/* By author, and the one to keep first. */
static int compare_authors(const void *x, const void *y)
{
	const struct row *a = x, *b = y;
	int c = strcmp(a->author, b->author);

	if (c)
		return c;
	if (a->board->keep == KEEP_BEST)
		return compare_rows(a, b);
	return a->at < b->at ? 1 : -1;
}

/* Text for people that names an entry. */
static void name_entry(char out[200], const struct row *row)
{
	int64_t submission = json_integer_value(json_object_get(row->entry, "submission"));
	char author[100];

	str_escape(author, sizeof(author), row->author, strlen(row->author));
	if (submission)
		snprintf(out, 200, "submission %lld of %s", (long long)submission, author);
	else if (!*author)
		snprintf(out, 200, "an entry without an author");
	else
		snprintf(out, 200, "%s", author);
}

static int skip(json_t *skipped, const char *entry, const char *why, struct err *e)
{
	if (json_array_append_new(skipped, json_pack("{s:s, s:s}", "entry", entry, "why", why)) < 0)
		return err_nomem(e);
	return 0;
}

/* 1: it has a place; 0: it was left out. */
static int value_row(struct row *row, json_t *skipped, struct err *e)
{
	const struct leaderboard *b = row->board;
	const json_t *score = json_object_get(row->entry, "score");
	struct err why = { 0 };
	char name[200];

	if (!json_is_object(row->entry))
		(void)err_input(&why, "the entry is not an object");
	else if (b->score && !json_is_object(score))
		(void)err_input(&why, "it has no scores");
	else if (!b->score || expr_eval(b->score, score, &row->value, &why) == 0)
		why.code = 0;
	if (why.code) {
		name_entry(name, row);
		return skip(skipped, name, why.msg, e);
	}
	row->has_tie = b->tie == TIE_EXPR && expr_eval(b->tie_value, score, &row->tie, NULL) == 0;
	return 1;
}

static int add_rows(const struct leaderboard *b, const json_t *list, bool external,
		    struct row *rows, size_t *n, json_t *skipped, struct err *e)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *entry = json_array_get(list, i);
		const char *author = json_string_value(json_object_get(entry, "author_label"));
		struct row row = { .board = b,
				   .entry = entry,
				   .author = author ? author : "",
				   .external = external,
				   .at = *n };
		int r = value_row(&row, skipped, e);

		if (r < 0)
			return r;
		if (r)
			rows[(*n)++] = row;
	}
	return 0;
}

/* Leaves one row of each author, and all that are external. */
static size_t reduce(const struct leaderboard *b, struct row *rows, size_t n)
{
	size_t own = 0, kept = 0;

	if (b->keep == KEEP_ALL)
		return n;
	while (own < n && !rows[own].external)
		own++;
	qsort(rows, own, sizeof(*rows), compare_authors);
	for (size_t i = 0; i < n; i++)
		if (rows[i].external || i == 0 || !str_eq(rows[i].author, rows[i - 1].author))
			rows[kept++] = rows[i];
	return kept;
}

static json_t *column_values(const struct row *row)
{
	const struct leaderboard *b = row->board;
	const json_t *score = json_object_get(row->entry, "score");
	json_t *o = json_object();

	for (size_t i = 0; i < b->n_columns; i++) {
		double v;
		bool ok = expr_eval(b->columns[i].value, score, &v, NULL) == 0;

		(void)json_object_set_new(o, b->columns[i].name, ok ? json_real(v) : json_null());
	}
	return o;
}

static int add_entry(json_t *data, const struct row *row, size_t index, struct err *e)
{
	json_t *o = json_copy((json_t *)(uintptr_t)row->entry);
	int r = json_object_set_new(o, "index", json_integer((json_int_t)index));

	if (r == 0 && row->board->score)
		r = json_object_set_new(o, "value", json_real(row->value));
	if (r == 0 && row->board->n_columns)
		r = json_object_set_new(o, "columns", column_values(row));
	if (r == 0)
		return json_array_append_new(data, o) == 0 ? 0 : err_nomem(e);
	json_decref(o);
	return err_nomem(e);
}

int leaderboard_rank(const struct leaderboard *b, const json_t *entries, const json_t *external,
		     const char *updated_on, json_t **ret_board, json_t *skipped, struct err *e)
{
	size_t max = json_array_size(entries) + json_array_size(external), n = 0;
	auto_free struct row *rows = calloc(max + 1, sizeof(*rows));
	json_auto_t *board = json_pack("{s:s, s:[]}", "updatedOn", updated_on, "data");
	json_t *data = json_object_get(board, "data");
	int r = rows && data ? 0 : err_nomem(e);

	if (r == 0)
		r = add_rows(b, entries, false, rows, &n, skipped, e);
	if (r == 0)
		r = add_rows(b, external, true, rows, &n, skipped, e);
	if (r < 0)
		return r;
	n = reduce(b, rows, n);
	qsort(rows, n, sizeof(*rows), compare_rows);
	if (b->limit && n > b->limit)
		n = b->limit;
	for (size_t i = 0; r == 0 && i < n; i++)
		r = add_entry(data, &rows[i], i + 1, e);
	if (r == 0)
		*ret_board = take_ptr(board);
	return r;
}

/* --- external entries ------------------------------------------------------------------------ */

struct gather {
	json_t *list, *skipped;
	size_t files;
	struct err *e;
};

/* What has no name of its own is named by its place. */
static int take_entry(struct gather *g, const char *path, size_t nr, json_t *entry)
{
	auto_free char *place = NULL;
	const char *author = NULL;
	struct err why = { 0 };

	if (!json_is_object(entry))
		(void)err_input(&why, "the entry is not an object");
	else if (js_str(entry, "author_label", SIZE_MAX, &author, &why) == 0)
		return json_array_append(g->list, entry) < 0 ? err_nomem(g->e) : 0;
	if (str_fmt(&place, "%s, entry %zu", path, nr) < 0)
		return err_nomem(g->e);
	return skip(g->skipped, place, why.msg, g->e);
}

/* One entry, a list of them, or a whole board. */
static int take_entries(struct gather *g, const char *path, json_t *j)
{
	json_t *data = json_is_object(j) ? json_object_get(j, "data") : j;
	int r = 0;

	if (!json_is_array(data))
		return take_entry(g, path, 1, j);
	for (size_t i = 0; r == 0 && i < json_array_size(data); i++)
		r = take_entry(g, path, i + 1, json_array_get(data, i));
	return r;
}

static int take_file(struct gather *g, const char *path)
{
	json_auto_t *j = NULL;
	struct err why = { 0 };

	if (++g->files > EXTERNAL_MAX)
		(void)err_input(&why, "more than %d files", EXTERNAL_MAX);
	else if (js_read_file(AT_FDCWD, path, EXTERNAL_SIZE, &j, &why) == 0)
		return take_entries(g, path, j);
	return skip(g->skipped, path, why.msg, g->e);
}

static int take_path(struct gather *g, const char *path, unsigned depth);

static int take_folder(struct gather *g, const char *path, unsigned depth)
{
	struct dirent **names = NULL;
	int n = scandir(path, &names, NULL, alphasort), r = 0;

	if (n < 0)
		return skip(g->skipped, path, strerrordesc_np(errno), g->e);
	for (int i = 0; i < n; i++) {
		auto_free char *p = NULL;
		bool folder = names[i]->d_type == DT_DIR;

		if (r == 0 && names[i]->d_name[0] != '.' &&
		    (folder || str_ends(names[i]->d_name, ".json")))
			r = str_fmt(&p, "%s/%s", path, names[i]->d_name) < 0
				    ? err_nomem(g->e)
				    : take_path(g, p, depth + 1);
		free(names[i]);
	}
	free(names);
	return r;
}

static int take_path(struct gather *g, const char *path, unsigned depth)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return skip(g->skipped, path, strerrordesc_np(errno), g->e);
	if (!S_ISDIR(st.st_mode))
		return take_file(g, path);
	if (depth > EXTERNAL_DEEP)
		return skip(g->skipped, path, "too many folders deep", g->e);
	return take_folder(g, path, depth);
}

int leaderboard_external(const struct leaderboard *b, const char *dir, json_t *skipped,
			 json_t **ret, struct err *e)
{
	json_auto_t *list = json_array();
	struct gather g = { .list = list, .skipped = skipped, .e = e };
	auto_free char *path = NULL;
	int r = 0;

	if (b->external) {
		r = b->external[0] == '/' ? str_fmt(&path, "%s", b->external)
					  : str_fmt(&path, "%s/%s", dir, b->external);
		r = r < 0 ? err_nomem(e) : take_path(&g, path, 0);
	}
	if (r == 0)
		*ret = take_ptr(list);
	return r;
}

/* --- files ----------------------------------------------------------------------------------- */

void leaderboard_report_done(struct leaderboard_report *r)
{
	free(r->json_path);
	free(r->csv_path);
	json_decref(r->skipped);
	*r = (struct leaderboard_report){ 0 };
}

static int write_text(const char *dir, const char *label, const char *ending, const char *text,
		      char **ret_path, struct err *e)
{
	if (str_fmt(ret_path, "%s/%s.%s", dir, label, ending) < 0)
		return err_nomem(e);
	return fd_write_file(AT_FDCWD, *ret_path, text, strlen(text), 0644, false, e);
}

static int write_board(const struct leaderboard *b, const json_t *board, const char *dir,
		       struct leaderboard_report *ret, struct err *e)
{
	auto_free char *json = js_pretty(board), *csv = NULL;
	int r = json ? fd_mkdirs(dir, 0755, e) : err_nomem(e);

	FAILPOINT("board.write");
	if (r == 0)
		r = write_text(dir, b->label, "json", json, &ret->json_path, e);
	FAILPOINT("board.half");
	if (r == 0)
		r = leaderboard_csv(board, &csv, e);
	if (r == 0)
		r = write_text(dir, b->label, "csv", csv, &ret->csv_path, e);
	FAILPOINT("board.written");
	return r;
}

int leaderboard_publish(const json_t *def, const json_t *entries, const char *dir,
			struct leaderboard_report *ret, struct err *e)
{
	auto_done(leaderboard_report) report = { .skipped = json_array() };
	json_auto_t *external = NULL, *board = NULL;
	auto_obj(leaderboard) b = NULL;
	char now[TIME_TEXT_MAX];
	int r = leaderboard_parse(def, &b, e);

	if (r == 0)
		r = leaderboard_external(b, dir, report.skipped, &external, e);
	if (r == 0)
		r = leaderboard_rank(b, entries, external, time_text(now, time_wall_usec()), &board,
				     report.skipped, e);
	if (r == 0)
		r = write_board(b, board, dir, &report, e);
	if (r < 0)
		return r;
	report.entries = json_array_size(json_object_get(board, "data"));
	*ret = report;
	report = (struct leaderboard_report){ 0 };
	return 0;
}

int leaderboard_unpublish(const char *label, const char *dir, struct err *e)
{
	static const char *const endings[] = { "json", "csv" };

	for (size_t i = 0; i < ARRAY_LEN(endings); i++) {
		auto_free char *path = NULL;

		if (str_fmt(&path, "%s/%s.%s", dir, label, endings[i]) < 0)
			return err_nomem(e);
		if (unlink(path) < 0 && errno != ENOENT)
			return err_sys(e, "remove %s", STR_ESC(path));
	}
	return 0;
}

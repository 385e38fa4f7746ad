/* SPDX-License-Identifier: MIT */
/* Leaderboards: definitions in the database, boards as files. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/id.h"
#include "base/json.h"
#include "base/str.h"
#include "commands.h"
#include "db.h"
#include "reach.h"
#include "store/leaderboards.h"

#define BOARD_MAX (256u << 20)

static int run_list(struct cli *c)
{
	static const struct cli_col cols[] = {
		{ "label", "LABEL", COL_TEXT },
		{ "challenge", "CHALLENGE", COL_TEXT },
		{ "score", "SCORE", COL_TEXT },
		{ "order", "ORDER", COL_TEXT },
		{ "entries", "ENTRIES", COL_TEXT },
		{ "left_out", "LEFT OUT", COL_TEXT },
		{ "built_at", "BUILT", COL_AGE },
		{ "error", "ERROR", COL_TEXT },
		{ 0 },
	};
	auto_obj(settings) s = NULL;
	auto_obj(db) d = NULL;
	json_auto_t *rows = NULL;
	struct err e = { 0 };
	bool json = false;
	const struct cli_opt opts[] = {
		{ "json", 0, CLI_FLAG, &json, NULL, "print JSON" },
		{ 0 },
	};

	if (!cli_parse(c, opts, 0, 0) || !cli_db(c, &s, &d))
		return c->status;
	if (leaderboards_list(d, &rows, &e) < 0)
		return cli_fail(c, &e);
	for (size_t i = 0; i < json_array_size(rows); i++) {
		json_t *o = json_array_get(rows, i);

		(void)json_object_set_new(
			o, "left_out",
			json_integer((json_int_t)json_array_size(json_object_get(o, "skipped"))));
	}
	return cli_list(c, rows, cols, json);
}

/* Entries that were left out are named, and are no failure. */
static int build(struct cli *c, struct db *d, const struct settings *s, const char *label)
{
	auto_done(leaderboard_report) report = { 0 };
	struct err e = { 0 };

	if (leaderboards_build(d, label, s->leaderboards_dir, &report, &e) < 0)
		return cli_fail(c, &e);
	for (size_t i = 0; i < json_array_size(report.skipped); i++) {
		const json_t *o = json_array_get(report.skipped, i);

		cli_say("left out: %s: %s", STR_ESC(json_string_value(json_object_get(o, "entry"))),
			STR_ESC(json_string_value(json_object_get(o, "why"))));
	}
	printf("%s: %zu entries\n", report.json_path, report.entries);
	return CLI_DONE;
}

/* All of them or none; ids[] gets their numbers. */
static int create_all(struct db *d, const json_t *defs, bool replace, int64_t *ids, struct err *e)
{
	int r = db_begin(d, e);

	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < json_array_size(defs); i++) {
		r = leaderboards_create(d, json_array_get(defs, i), replace, &ids[i], e);
		if (r < 0 && json_array_size(defs) > 1)
			err_wrap(e, "definition %zu, so none is made", i + 1);
	}
	if (r == 0)
		return db_commit(d, e);
	db_rollback(d);
	return r;
}

static int create(struct cli *c, struct db *d, const struct settings *s, const json_t *defs,
		  bool replace)
{
	size_t n = json_array_size(defs);
	auto_free int64_t *ids = calloc(n + 1, sizeof(*ids));
	int r, status = CLI_DONE;
	struct err e = { 0 };

	r = ids ? create_all(d, defs, replace, ids, &e) : err_nomem(&e);
	if (r < 0)
		return cli_fail(c, &e);
	for (size_t i = 0; i < n; i++) {
		const json_t *def = json_array_get(defs, i);
		int one;

		printf("leaderboard %lld\n", (long long)ids[i]);
		one = build(c, d, s, json_string_value(json_object_get(def, "label")));
		status = one > status ? one : status;
	}
	return status;
}

static int run_create(struct cli *c)
{
	auto_obj(settings) s = NULL;
	auto_obj(db) d = NULL;
	json_auto_t *defs = NULL, *list = NULL;
	const char *file = NULL;
	struct err e = { 0 };
	bool replace = false;
	const struct cli_opt opts[] = {
		{ "from-file", 'f', CLI_TEXT, &file, "FILE",
		  "a JSON object, or a list of them; '-' is standard input" },
		{ "replace", 0, CLI_FLAG, &replace, NULL,
		  "give a board that exists this definition" },
		{ 0 },
	};

	if (!cli_parse(c, opts, 0, 0))
		return c->status;
	if (!file)
		return cli_usage(c, "which definition? name a file with -f");
	if (cli_read_json(file, &defs, &e) < 0)
		return cli_fail(c, &e);
	list = json_is_array(defs) ? json_incref(defs) : json_pack("[O]", defs);
	if (!list)
		return (err_nomem(&e), cli_fail(c, &e));
	if (json_array_size(list) == 0)
		return cli_usage(c, "%s: an empty list defines nothing", STR_ESC(file));
	if (!cli_db(c, &s, &d))
		return c->status;
	return create(c, d, s, list, replace);
}

static int build_all(struct cli *c, struct db *d, const struct settings *s)
{
	json_auto_t *rows = NULL;
	struct err e = { 0 };
	int status = CLI_DONE;

	if (leaderboards_list(d, &rows, &e) < 0)
		return cli_fail(c, &e);
	for (size_t i = 0; i < json_array_size(rows); i++) {
		const char *label =
			json_string_value(json_object_get(json_array_get(rows, i), "label"));
		int one = build(c, d, s, label);

		status = one > status ? one : status;
	}
	return status;
}

static int run_build(struct cli *c)
{
	auto_obj(settings) s = NULL;
	auto_obj(db) d = NULL;
	const struct cli_opt opts[] = { { 0 } };
	int status = CLI_DONE;

	if (!cli_parse(c, opts, 0, -1) || !cli_db(c, &s, &d))
		return c->status;
	if (!c->argc)
		return build_all(c, d, s);
	for (int i = 0; i < c->argc; i++) {
		int one = build(c, d, s, c->argv[i]);

		status = one > status ? one : status;
	}
	return status;
}

static int run_delete(struct cli *c)
{
	auto_obj(settings) s = NULL;
	auto_obj(db) d = NULL;
	struct err e = { 0 };
	const struct cli_opt opts[] = { { 0 } };

	if (!cli_parse(c, opts, 1, 1) || !cli_db(c, &s, &d))
		return c->status;
	if (leaderboards_delete(d, c->argv[0], &e) < 0)
		return cli_fail(c, &e);
	if (leaderboard_unpublish(c->argv[0], s->leaderboards_dir, &e) < 0) {
		err_wrap(&e, "leaderboard %s is deleted, its files are not", c->argv[0]);
		return cli_fail(c, &e);
	}
	return CLI_DONE;
}

/* --- show ------------------------------------------------------------------------------------ */

/* What there is to do when there is no file. */
static void explain_missing(const struct settings *s, const char *path, const char *label,
			    struct err *e)
{
	json_auto_t *rows = NULL;
	auto_obj(db) d = NULL;
	struct err why = { 0 };

	if (reach_database(s, &d, &why) < 0 || leaderboards_list(d, &rows, &why) < 0) {
		err_set(e, ENOENT, ERR_INPUT, "no board at %s: 'zr leaderboards' lists them", path);
		return;
	}
	for (size_t i = 0; i < json_array_size(rows); i++)
		if (str_eq(json_string_value(json_object_get(json_array_get(rows, i), "label")),
			   label)) {
			err_set(e, ENOENT, ERR_INPUT,
				"no board at %s: 'zr leaderboards:build %s' builds it", path,
				label);
			return;
		}
	err_set(e, ENOENT, ERR_INPUT,
		"no leaderboard '%s': 'zr leaderboards' lists them, 'zr leaderboards:create -f "
		"FILE' defines one",
		label);
}

static int read_board(struct cli *c, const struct settings *s, const char *label, json_t **ret)
{
	auto_free char *path = NULL;
	struct err e = { 0 };
	int r;

	if (!id_valid(label)) {
		err_input(&e, "no leaderboard '%s': see 'zr leaderboards'", STR_ESC(label));
		return cli_fail(c, &e);
	}
	if (str_fmt(&path, "%s/%s.json", s->leaderboards_dir, label) < 0)
		return (err_nomem(&e), cli_fail(c, &e));
	r = js_read_file(AT_FDCWD, path, BOARD_MAX, ret, &e);
	if (r == -ENOENT)
		explain_missing(s, path, label, &e);
	return r < 0 ? cli_fail(c, &e) : CLI_DONE;
}

#define COLS_MAX 32

/* The board's columns come with their values; their names are those of the first entry. */
static size_t add_columns(const json_t *data, struct cli_col *cols, size_t n, char (*keys)[16])
{
	json_t *first = json_object_get(json_array_get(data, 0), "columns");

	for (void *it = json_object_iter(first); it && n < COLS_MAX - 2;
	     it = json_object_iter_next(first, it), n++) {
		snprintf(keys[n], sizeof(keys[n]), "column%zu", n);
		cols[n] = (struct cli_col){ keys[n], json_object_iter_key(it), COL_TEXT };
	}
	return n;
}

static json_t *table_row(const json_t *entry, const struct cli_col *cols, size_t fixed, size_t n)
{
	json_t *o = json_copy((json_t *)(uintptr_t)entry);

	for (size_t i = fixed; i < n; i++)
		(void)json_object_set(
			o, cols[i].key,
			json_object_get(json_object_get(entry, "columns"), cols[i].title));
	return o;
}

static int show_table(const struct cli *c, const json_t *board)
{
	struct cli_col cols[COLS_MAX] = {
		{ "index", "#", COL_TEXT },
		{ "author_label", "AUTHOR", COL_TEXT },
		{ "value", "VALUE", COL_TEXT },
	};
	char keys[COLS_MAX][16];
	json_t *data = json_object_get(board, "data");
	json_auto_t *rows = json_array();
	size_t n = add_columns(data, cols, 3, keys);

	for (size_t i = 0; i < json_array_size(data); i++)
		(void)json_array_append_new(rows, table_row(json_array_get(data, i), cols, 3, n));
	cols[n++] = (struct cli_col){ "submission", "SUBMISSION", COL_TEXT };
	cols[n] = (struct cli_col){ 0 };
	return cli_list(c, rows, cols, false);
}

static int run_show(struct cli *c)
{
	auto_obj(settings) s = NULL;
	json_auto_t *board = NULL;
	bool json = false;
	const struct cli_opt opts[] = {
		{ "json", 0, CLI_FLAG, &json, NULL, "print the board's file" },
		{ "raw-output", 0, CLI_FLAG, &json, NULL, "the same" },
		{ 0 },
	};
	int status;

	if (!cli_parse(c, opts, 1, 1) || !cli_settings(c, &s))
		return c->status;
	status = read_board(c, s, c->argv[0], &board);
	if (status != CLI_DONE)
		return status;
	return json ? cli_show(c, board, NULL, true) : show_table(c, board);
}

static const struct command commands[] = {
	{ "leaderboards", "[--json]", "List the leaderboards", "zr leaderboards", run_list, NULL },
	{ "leaderboards:build", "[LABEL...]", "Rebuild some or all leaderboards now",
	  "zr leaderboards:build matmul", run_build,
	  "zr-update rebuilds them by itself after each completed evaluation." },
	{ "leaderboards:create", "-f FILE [--replace]", "Define a leaderboard and build it",
	  "zr leaderboards:create -f matmul.json", run_create,
	  "FILE holds one JSON object or a list of them:\n"
	  "  label, challenge  required\n"
	  "  score             key (default score) or expression, as speedup or\n"
	  "                    0.5 * (a.clean + a.other); null: entries stand by time\n"
	  "  order             desc (default: the largest score first) or asc\n"
	  "  entries           best, last or all of each author\n"
	  "  tie_break         earlier (default), later, or an expression\n"
	  "  columns           list of expressions, or of {\"name\": …, \"value\": …}\n"
	  "  external          file or folder of entries from elsewhere; a relative path begins\n"
	  "                    at leaderboards_dir. Each .json file holds one entry,\n"
	  "                    {\"author_label\": \"baseline\", \"score\": {\"score\": 0.5}}, a "
	  "list\n"
	  "                    of such, or a board\n"
	  "  limit             how many entries are shown" },
	{ "leaderboards:delete", "LABEL", "Delete a leaderboard and its files",
	  "zr leaderboards:delete matmul", run_delete, NULL },
	{ "leaderboards:show", "LABEL [--json]", "Show a leaderboard as it was built",
	  "zr leaderboards:show matmul", run_show, NULL },
	{ 0 },
};
const struct command_group leaderboard_group = { "leaderboards", commands };

/* SPDX-License-Identifier: MIT */
/* Submissions: what somebody handed in, packed, on this host. */
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/str.h"
#include "commands.h"
#include "db.h"
#include "pack.h"
#include "reach.h"
#include "store/challenges.h"
#include "store/evaluations.h"
#include "store/submissions.h"

#define REFUSED_LINES 5

/* --- listing ------------------------------------------------------------------------------------ */

static const struct cli_col list_cols[] = {
	{ "id", "ID", COL_TEXT },
	{ "challenge", "CHALLENGE", COL_TEXT },
	{ "author", "AUTHOR", COL_TEXT },
	{ "status", "STATUS", COL_TEXT },
	{ "files", "FILES", COL_TEXT },
	{ "bytes", "SIZE", COL_SIZE },
	{ "evaluation", "EVALUATION", COL_TEXT },
	{ "created_at", "CREATED", COL_TIME },
	{ 0 },
};

static int run_list(struct cli *c)
{
	struct submission_filter f = { 0 };
	auto_obj(settings) s = NULL;
	auto_obj(db) d = NULL;
	json_auto_t *rows = NULL;
	char since_text[TIME_TEXT_MAX];
	const char *since = NULL;
	uint64_t limit = 100;
	bool json = false;
	struct err e = { 0 };
	const struct cli_opt opts[] = {
		{ "challenge", 0, CLI_TEXT, &f.challenge, "LABEL", "to this challenge" },
		{ "author", 0, CLI_TEXT, &f.author, "AUTHOR", "by this author" },
		{ "status", 0, CLI_TEXT, &f.status, "STATUS",
		  "uploaded, excluded, deleted, or the status of its newest evaluation" },
		{ "since", 0, CLI_TEXT, &since, "TIME",
		  "made since then: 2h, 2026-11-21, RFC 3339" },
		{ "limit", 'n', CLI_COUNT, &limit, "N", "the newest N (default 100)" },
		{ "json", 0, CLI_FLAG, &json, NULL, "print JSON" },
		{ 0 },
	};

	if (!cli_parse(c, opts, 0, 0) || !cli_since(c, since, since_text, &f.since))
		return c->status;
	if (limit < 1 || limit > 1000000)
		return cli_usage(c, "want a --limit of 1 to 1000000");
	if (!cli_db(c, &s, &d))
		return c->status;
	f.limit = (int)limit;
	if (submissions_list(d, &f, &rows, &e) < 0)
		return cli_fail(c, &e);
	return cli_list(c, rows, list_cols, json);
}

/* --- one ---------------------------------------------------------------------------------------- */

static const struct cli_col show_cols[] = {
	{ "id", "id", COL_TEXT },
	{ "challenge", "challenge", COL_TEXT },
	{ "author", "author", COL_TEXT },
	{ "status", "status", COL_TEXT },
	{ "files", "files", COL_TEXT },
	{ "bytes", "size", COL_SIZE },
	{ "digest", "digest", COL_TEXT },
	{ "created_at", "created", COL_TIME },
	{ 0 },
};
static const struct cli_col evaluation_cols[] = {
	{ "id", "EVALUATION", COL_TEXT },
	{ "evaluator", "EVALUATOR", COL_TEXT },
	{ "status", "STATUS", COL_TEXT },
	{ "reason", "REASON", COL_TEXT },
	{ "host", "HOST", COL_TEXT },
	{ "created_at", "CREATED", COL_TIME },
	{ 0 },
};

static int show(const struct cli *c, const struct settings *s, struct db *d, int64_t id, bool json)
{
	const struct evaluation_filter f = { .submission = id };
	json_auto_t *row = NULL, *evaluations = NULL;
	struct err e = { 0 };
	int status;

	if (submissions_show(d, id, &row, &e) < 0 ||
	    evaluations_list(d, &f, s->results_dir, &evaluations, &e) < 0)
		return cli_fail(c, &e);
	if (json_object_set(row, "evaluations", evaluations) < 0) {
		err_nomem(&e);
		return cli_fail(c, &e);
	}
	status = cli_show(c, row, show_cols, json);
	if (json || status != CLI_DONE || json_array_size(evaluations) == 0)
		return status;
	putchar('\n');
	return cli_list(c, evaluations, evaluation_cols, false);
}

static int run_status(struct cli *c)
{
	auto_obj(settings) s = NULL;
	auto_obj(db) d = NULL;
	bool json = false, exclude = false, include = false;
	struct err e = { 0 };
	int64_t id;
	const struct cli_opt opts[] = {
		{ "exclude", 0, CLI_FLAG, &exclude, NULL, "keep it out of the leaderboards" },
		{ "include", 0, CLI_FLAG, &include, NULL, "let it back in" },
		{ "json", 0, CLI_FLAG, &json, NULL, "print JSON" },
		{ 0 },
	};

	if (!cli_parse(c, opts, 1, 1) || !cli_id(c, "submission", c->argv[0], &id))
		return c->status;
	if (exclude && include)
		return cli_usage(c, "--exclude and --include exclude each other");
	if (!cli_db(c, &s, &d))
		return c->status;
	if ((exclude || include) && submissions_exclude(d, id, exclude, &e) < 0)
		return cli_fail(c, &e);
	return show(c, s, d, id, json);
}

/* --- making ------------------------------------------------------------------------------------- */

/* Said before a long packing, not after it. */
static int check_challenge(const struct settings *s, const char *challenge, struct err *e)
{
	json_auto_t *row = NULL;
	auto_obj(db) d = NULL;
	int r = reach_database(s, &d, e);

	if (r == 0)
		r = challenges_show(d, challenge, &row, e);
	return r == -ENOENT && e->kind == ERR_INPUT
		       ? err_input(e, "no challenge '%s'", STR_ESC(challenge))
		       : r;
}

/* One transaction: nobody sees a submission whose files are not there. */
static int record(struct db *d, struct pack *p, const char *challenge, const char *author,
		  int64_t *ret_id, struct err *e)
{
	int64_t id = 0;
	int r = db_begin(d, e);

	if (r < 0)
		return r;
	r = submissions_add(d, challenge, author, &id, e);
	if (r == 0)
		r = pack_publish(p, id, e);
	if (r == 0)
		r = submissions_seal(d, id, p->sealed.root_text, (int64_t)p->sealed.bytes,
				     (int64_t)p->sealed.files, e);
	if (r < 0) {
		db_rollback(d);
		pack_unpublish(p);
		return r;
	}
	*ret_id = id;
	return db_commit(d, e);
}

void submissions_tell_refused(const struct cli *c, const struct pack *p)
{
	auto_done(manifest) m = { 0 };
	size_t n;

	if (!p->sealed.refused || pack_manifest(p, &m, NULL) < 0)
		return;
	n = m.n_refused < REFUSED_LINES ? m.n_refused : REFUSED_LINES;
	for (size_t i = 0; i < n; i++)
		cli_say("zr %s: left out: %s (%s): %s", c->command->name,
			STR_ESC(m.refused[i].path), m.refused[i].type,
			STR_ESC(m.refused[i].reason));
	if (m.refused_total > n)
		cli_say("zr %s: left out: %llu more", c->command->name,
			(unsigned long long)(m.refused_total - n));
}

static int create(struct cli *c, const struct settings *s, struct pack *p, const char *author)
{
	auto_obj(db) d = NULL;
	struct err e = { 0 };
	int64_t id = 0;
	int r = reach_database(s, &d, &e);

	if (r == 0) {
		pack_sweep(p, d);
		r = record(d, p, c->argv[0], author, &id, &e);
	}
	if (r < 0 && id) {
		/* Only the commit failed. Its outcome is unknown, so the pack stays for the sweep
		 * of a later call to judge. */
		pack_abandon(p);
		cli_say("zr %s: whether submission %lld was recorded is not known: %s; see 'zr "
			"submissions:status %lld'",
			c->command->name, (long long)id, e.msg, (long long)id);
		return CLI_AGAIN;
	}
	if (r < 0)
		return cli_fail(c, &e);
	printf("submission %lld\n", (long long)id);
	return CLI_DONE;
}

static int run_create(struct cli *c)
{
	auto_done(pack) p = PACK_EMPTY;
	auto_obj(settings) s = NULL;
	char user[128];
	const char *author = NULL;
	struct err e = { 0 };
	const struct cli_opt opts[] = {
		{ "author", 0, CLI_TEXT, &author, "AUTHOR", "who hands it in (default: you)" },
		{ 0 },
	};

	if (!cli_parse(c, opts, 2, 2))
		return c->status;
	if (!author)
		author = cli_user(user, sizeof(user));
	if (!*author || strlen(author) > 200 || !str_utf8_valid(author, strlen(author)))
		return cli_usage(c, "--author: want 1 to 200 bytes of UTF-8");
	if (!cli_settings(c, &s))
		return c->status;
	if (check_challenge(s, c->argv[0], &e) < 0)
		return cli_fail_setup(c, &e);
	if (pack_make(s->submissions_dir, c->argv[1], NULL, &p, &e) < 0)
		return cli_fail(c, &e);
	submissions_tell_refused(c, &p);
	return create(c, s, &p, author);
}

/* --- deleting ----------------------------------------------------------------------------------- */

/* The row first: from then on nobody is sent for the files. A second call finishes what a killed
 * one left. */
static int delete_one(const struct cli *c, const struct settings *s, struct db *d, int64_t id)
{
	auto_close int dir = -1;
	struct err e = { 0 };
	char name[24];
	int r;

	if (submissions_delete(d, id, &e) < 0)
		return cli_fail(c, &e);
	snprintf(name, sizeof(name), "%lld", (long long)id);
	r = fd_open_dir(AT_FDCWD, s->submissions_dir, &dir, &e);
	if (r == 0)
		r = fd_rmtree(dir, name, &e);
	if (r < 0 && r != -ENOENT) {
		err_wrap(&e, "submission %s is deleted, its files are not; try again", name);
		return cli_fail(c, &e);
	}
	printf("deleted %lld\n", (long long)id);
	return CLI_DONE;
}

static int run_delete(struct cli *c)
{
	auto_obj(settings) s = NULL;
	auto_obj(db) d = NULL;
	auto_free int64_t *ids = NULL;
	int status = CLI_DONE;
	const struct cli_opt opts[] = { { 0 } };

	if (!cli_parse(c, opts, 1, -1) || !cli_ids(c, "submission", &ids) || !cli_db(c, &s, &d))
		return c->status;
	for (int i = 0; i < c->argc; i++) {
		int one = delete_one(c, s, d, ids[i]);

		status = one ? one : status;
	}
	return status;
}

static const struct command commands[] = {
	{ "submissions", "[FILTERS] [--json]", "List submissions, newest first",
	  "zr submissions --challenge matmul --author ada", run_list, NULL },
	{ "submissions:create", "CHALLENGE PATH [--author AUTHOR]", "Hand in a file or a folder",
	  "zr submissions:create matmul kernel.c --author ada", run_create,
	  "Packs PATH into submissions_dir and prints the new number. Nothing is evaluated yet:\n"
	  "see submissions:eval." },
	{ "submissions:eval", "ID [OPTIONS]", "Have a submission evaluated",
	  "zr submissions:eval 7 --pool hopper --priority high --wait", cmd_submissions_eval,
	  "Prints the number of the new evaluation. Evaluator, pool or host, and the first\n"
	  "arguments are those of the challenge unless options say otherwise; -e adds one more\n"
	  "argument and may be repeated. To a host, the submission is sent at once over SSH.\n"
	  "If the broker is away the request is kept and zr-update sends it." },
	{ "submissions:status", "ID [--exclude | --include] [--json]",
	  "Show a submission and its evaluations", "zr submissions:status 7 --exclude", run_status,
	  NULL },
	{ "submissions:delete", "ID...", "Delete submissions", "zr submissions:delete 7",
	  run_delete,
	  "The files go; the number and its evaluations stay on record. A submission that is\n"
	  "being evaluated cannot be deleted: cancel the evaluation first." },
	{ 0 },
};

const struct command_group submission_group = { "submissions", commands };

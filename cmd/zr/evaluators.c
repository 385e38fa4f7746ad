/* SPDX-License-Identifier: MIT */
/* Evaluators: those of this host's bin folder, and what other hosts say they have. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/str.h"
#include "commands.h"
#include "db.h"
#include "exec/evaluator.h"
#include "exec/gpu.h"
#include "reach.h"
#include "remote.h"
#include "store/workers.h"
#include "transfer/sftp.h"

#define INDEX_MAX ((size_t)4 << 20)

static const struct cli_col columns[] = {
	{ "name", "NAME", COL_TEXT },
	{ "isolation", "ISOLATION", COL_TEXT },
	{ "phases", "PHASES", COL_TEXT },
	{ "gpus", "GPUS", COL_TEXT },
	{ "description", "DESCRIPTION", COL_TEXT },
	{ "error", "ERROR", COL_TEXT },
	{ 0 },
};
static const struct cli_col host_columns[] = {
	{ "host", "HOST", COL_TEXT },           { "name", "NAME", COL_TEXT },
	{ "isolation", "ISOLATION", COL_TEXT }, { "description", "DESCRIPTION", COL_TEXT },
	{ "seen_at", "SEEN", COL_AGE },         { 0 },
};

/* What is well-formed and yet cannot run here is as useless as what is not. */
static int add_unrunnable(const struct settings *s, json_t *index,
			  const struct evaluator_entry *list, size_t n)
{
	auto_obj(gpu_list) gpus = NULL;

	for (size_t i = 0; i < n; i++) {
		struct err why = { 0 };

		if (list[i].ev && gpus_runnable(s, list[i].ev, &gpus, &why) < 0 &&
		    json_object_set_new(json_array_get(index, i), "error",
					js_from_bytes(why.msg, strlen(why.msg))) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int local_index(const struct settings *s, json_t **ret, struct err *e)
{
	struct evaluator_entry *list = NULL;
	json_auto_t *index = NULL;
	size_t n = 0;
	int r = evaluator_list(s->bin_dir, &list, &n, e);

	if (r < 0)
		return r;
	index = evaluator_index(list, n);
	r = index ? add_unrunnable(s, index, list, n) : -ENOMEM;
	evaluator_list_free(list, n);
	if (r < 0)
		return err_nomem(e);
	*ret = json_incref(index);
	return 0;
}

/* --- evaluators --------------------------------------------------------------------------------- */

static int list_hosts(struct cli *c, bool json)
{
	auto_obj(settings) s = NULL;
	auto_obj(db) d = NULL;
	json_auto_t *rows = NULL;
	struct err e = { 0 };

	if (!cli_db(c, &s, &d))
		return c->status;
	if (evaluators_list(d, &rows, &e) < 0)
		return cli_fail(c, &e);
	return cli_list(c, rows, host_columns, json);
}

static int run_list(struct cli *c)
{
	bool json = false, hosts = false;
	auto_obj(settings) s = NULL;
	json_auto_t *rows = NULL;
	struct err e = { 0 };
	const struct cli_opt opts[] = {
		{ "hosts", 0, CLI_FLAG, &hosts, NULL, "those that other hosts have" },
		{ "json", 0, CLI_FLAG, &json, NULL, "print JSON" },
		{ 0 },
	};

	if (!cli_parse(c, opts, 0, 0))
		return c->status;
	if (hosts)
		return list_hosts(c, json);
	if (!cli_settings(c, &s))
		return c->status;
	if (local_index(s, &rows, &e) < 0)
		return cli_fail_setup(c, &e);
	return cli_list(c, rows, columns, json);
}

/* --- evaluators:check --------------------------------------------------------------------------- */

static void say_limits(const struct evaluator *ev)
{
	json_auto_t *o = limits_to_json(&ev->limits);
	auto_free char *text = o ? js_text(o) : NULL;

	printf("  limits: %s\n", text ? text : "?");
}

static void say_commands(const struct evaluator *ev)
{
	for (enum phase p = 0; p < PHASE_N; p++) {
		if (!ev->argv[p])
			continue;
		printf("  %s:", phase_name(p));
		for (char **w = ev->argv[p]; *w; w++)
			printf(" %s", STR_ESC(*w));
		for (char **w = p == PHASE_RUN ? ev->args : NULL; w && *w; w++)
			printf(" %s", STR_ESC(*w));
		printf(" SUBMISSION\n");
	}
}

/* What is legal but perhaps not meant. */
static void say_hints(const struct evaluator *ev)
{
	if (!ev->isolation_given)
		cli_say("%s: no 'isolation': it runs at \"none\", and each result says so",
			ev->file);
	if (ev->isolation == ISOLATION_NONE && ev->mounts)
		cli_say("%s: 'mounts' has no effect at isolation \"none\"", ev->file);
	if (ev->isolation == ISOLATION_NONE && ev->reference)
		cli_say("%s: 'reference' protects nothing at isolation \"none\"", ev->file);
}

int evaluators_load_path(const char *path, struct evaluator **ret, struct err *e)
{
	auto_free char *dir = NULL;
	const char *slash = strrchr(path, '/');
	struct stat st;

	if (lstat(path, &st) < 0 || S_ISDIR(st.st_mode) || (slash && !slash[1]))
		return evaluator_load_dir(path, ret, e);
	dir = slash ? strndup(path, (size_t)(slash - path + 1)) : strdup(".");
	return dir ? evaluator_load(dir, slash ? slash + 1 : path, ret, e) : err_nomem(e);
}

static int run_check(struct cli *c)
{
	auto_obj(evaluator) ev = NULL;
	auto_obj(settings) s = NULL;
	auto_obj(gpu_list) gpus = NULL;
	struct err e = { 0 }, ignored;
	int r;
	const struct cli_opt opts[] = { { 0 } };

	if (!cli_parse(c, opts, 1, 1))
		return c->status;
	if (evaluators_load_path(c->argv[0], &ev, &e) < 0) {
		fprintf(stderr, "%s\n", e.msg);
		return CLI_FAILED;
	}
	/* A file can be checked where there are no settings, or wrong ones. */
	if (settings_load(c->conf, &s, &ignored) < 0)
		s = NULL;
	r = gpus_runnable(s, ev, &gpus, &e);
	printf("%s: %s\n", ev->file, r < 0 ? "well-formed, but not for this host" : "ok");
	say_commands(ev);
	say_limits(ev);
	fflush(stdout);
	say_hints(ev);
	if (r < 0)
		cli_say("%s: this host cannot run it: %s", ev->file, e.msg);
	return r < 0 ? CLI_FAILED : CLI_DONE;
}

/* --- evaluators:discover ------------------------------------------------------------------------ */

static int check_index(const json_t *a, struct err *e)
{
	for (size_t i = 0; i < json_array_size(a); i++) {
		const char *name;

		if (js_str(json_array_get(a, i), "name", 64, &name, e) < 0)
			return err_wrap(e, "entry %zu", i + 1);
	}
	return json_is_array(a) ? 0 : err_input(e, "not a list");
}

static int fetch_index(const struct settings *s, const char *host, struct buf *b, struct err *e)
{
	auto_done(remote) m = { 0 };
	auto_free char *path = NULL;
	int r = remote_open(s, host, &m, e);

	if (r == 0 && str_fmt(&path, "%s/" EVALUATOR_INDEX_FILE, m.host->state_dir) < 0)
		r = err_nomem(e);
	if (r < 0)
		return r;
	r = sftp_read_file(m.ssh, path, INDEX_MAX, b, e);
	return r == -ENOENT ? err_set(e, ENOENT, ERR_HOST,
				      "there is no %s: zr-eval writes it when it starts", path)
			    : r;
}

static int remote_index(const struct settings *s, const char *host, json_t **ret, struct err *e)
{
	auto_buf struct buf b = { 0 };
	json_t *a = NULL;
	int r = fetch_index(s, host, &b, e);

	if (r == 0)
		r = js_parse(b.data ? b.data : "", b.len, JS_DEPTH_MAX, &a, e);
	if (r == 0)
		r = check_index(a, e);
	if (r < 0) {
		json_decref(a);
		return err_wrap(e, "%s", STR_ESC(host));
	}
	*ret = a;
	return 0;
}

/* Only what can be run is offered to others. */
static json_t *usable(const json_t *rows)
{
	json_t *a = json_array();

	for (size_t i = 0; a && i < json_array_size(rows); i++) {
		json_t *o = json_array_get(rows, i);

		if (!json_object_get(o, "error"))
			(void)json_array_append(a, o);
	}
	return a;
}

static int save(struct cli *c, const char *host, const json_t *rows)
{
	auto_obj(settings) s = NULL;
	auto_obj(db) d = NULL;
	json_auto_t *good = usable(rows);
	struct err e = { 0 };

	if (!cli_db(c, &s, &d))
		return c->status;
	if (!good || evaluators_set(d, host, good, &e) < 0)
		return cli_fail(c, &e);
	cli_say("%zu evaluators of %s are recorded", json_array_size(good), host);
	return CLI_DONE;
}

static int run_discover(struct cli *c)
{
	bool json = false, keep = false;
	auto_obj(settings) s = NULL;
	json_auto_t *rows = NULL;
	struct err e = { 0 };
	const char *host;
	int r;
	const struct cli_opt opts[] = {
		{ "save", 0, CLI_FLAG, &keep, NULL, "record them in the database" },
		{ "json", 0, CLI_FLAG, &json, NULL, "print JSON" },
		{ 0 },
	};

	if (!cli_parse(c, opts, 0, 1) || !cli_settings(c, &s))
		return c->status;
	host = c->argc ? c->argv[0] : s->host;
	r = str_eq(host, s->host) ? local_index(s, &rows, &e) : remote_index(s, host, &rows, &e);
	if (r < 0)
		return cli_fail_setup(c, &e);
	r = cli_list(c, rows, columns, json);
	return r || !keep ? r : save(c, host, rows);
}

static const struct command commands[] = {
	{ "evaluators", "[--hosts] [--json]", "List the evaluators of this host",
	  "zr evaluators --json", run_list,
	  "Reads the bin folder (setting bin_dir). With --hosts: what evaluators:discover --save "
	  "and\n"
	  "the workers have told the database." },
	{ "evaluators:check", "PATH", "Check an evaluator: its folder, or a bare executable",
	  "zr evaluators:check ./my-evaluator", run_check,
	  "Reads PATH/evaluator.conf as a worker does, and shows what would run. Exit status 1\n"
	  "with file and line if something is wrong, or if this host cannot run it.\n"
	  "zr-evaluator(5) explains the keys." },
	{ "evaluators:discover", "[HOST] [--save] [--json]", "Read which evaluators a host has",
	  "zr evaluators:discover oberon --save", run_discover,
	  "Without HOST: this host's bin folder. With HOST: the index that zr-eval keeps there, "
	  "read\n"
	  "over SSH. --save records them in the database." },
	{ 0 },
};

const struct command_group evaluator_group = { "evaluators", commands };

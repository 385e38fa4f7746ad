/* SPDX-License-Identifier: MIT */
/* Challenges: which evaluator a submission meets, and where it runs. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"
#include "commands.h"
#include "db.h"
#include "reach.h"
#include "store/challenges.h"

/* The members that both verbs set; an empty text takes a member away. */
struct definition {
	const char *file;
	const char *evaluator, *pool, *host, *description, *url, *start, *end;
	char **args;
	bool active, inactive;
};
static void definition_done(struct definition *d)
{
	strv_free(d->args);
}
DEFINE_AUTO_DONE(definition);

#define DEFINITION_OPTS(d)                                                                         \
	{ "file", 'f', CLI_TEXT, &(d).file, "FILE", "read a JSON object; '-' is standard input" }, \
		{ "evaluator",    0,      CLI_TEXT,                                                \
		  &(d).evaluator, "NAME", "the evaluator that submissions meet" },                 \
		{ "pool", 0, CLI_TEXT, &(d).pool, "POOL", "send requests to this pool" },          \
		{ "host", 0, CLI_TEXT, &(d).host, "HOST", "send requests to this host" },          \
		{ "extra-arg", 'e',   CLI_LIST,                                                    \
		  &(d).args,   "ARG", "an argument for the evaluator; may be repeated" },          \
		{ "description", 0, CLI_TEXT, &(d).description, "TEXT", "what it is about" },      \
		{ "url", 0, CLI_TEXT, &(d).url, "URL", "its page" },                               \
		{ "start", 0, CLI_TEXT, &(d).start, "TIME", "open for submissions from then on" }, \
		{ "end", 0, CLI_TEXT, &(d).end, "TIME", "closed from then on" },                   \
		{ "active", 0, CLI_FLAG, &(d).active, NULL, "open it" },                           \
	{                                                                                          \
		"inactive", 0, CLI_FLAG, &(d).inactive, NULL, "close it"                           \
	}

static int put_text(json_t *o, const char *key, const char *value, struct err *e)
{
	json_t *v;

	if (!value)
		return 0;
	v = *value ? json_string(value) : json_null();
	if (!v)
		return err_input(e, "--%s: not valid UTF-8", key);
	return json_object_set_new(o, key, v) < 0 ? err_nomem(e) : 0;
}

static int put_args(json_t *o, char *const *args, struct err *e)
{
	json_auto_t *list = json_array();

	if (!args)
		return 0;
	for (; *args; args++) {
		json_t *v = json_string(*args);

		if (!v)
			return err_input(e, "--extra-arg: not valid UTF-8");
		if (json_array_append_new(list, v) < 0)
			return err_nomem(e);
	}
	return json_object_set(o, "args", list) < 0 ? err_nomem(e) : 0;
}

/* The file's object with the options laid over it. */
static int build_definition(const struct definition *d, json_t **ret, struct err *e)
{
	const struct {
		const char *key, *value;
	} texts[] = {
		{ "evaluator", d->evaluator },
		{ "pool", d->pool },
		{ "host", d->host },
		{ "url", d->url },
		{ "description", d->description },
		{ "start", d->start },
		{ "end", d->end },
	};
	json_auto_t *o = d->file ? NULL : json_object();
	int r = d->file ? cli_read_object(d->file, &o, e) : 0;

	for (size_t i = 0; i < ARRAY_LEN(texts) && r == 0; i++)
		r = put_text(o, texts[i].key, texts[i].value, e);
	if (r == 0)
		r = put_args(o, d->args, e);
	if (r == 0 && (d->active || d->inactive) &&
	    json_object_set_new(o, "active", json_boolean(d->active)) < 0)
		r = err_nomem(e);
	if (r < 0)
		return r;
	*ret = json_incref(o);
	return 0;
}

/* A value that cannot be is a wrong call. Names the challenge that is not there. */
static int fail(const struct cli *c, const char *challenge, struct err *e)
{
	bool usage = e->kind == ERR_INPUT && e->code == EINVAL;
	int status;

	if (e->code == ENOENT && e->kind == ERR_INPUT)
		err_input(e, "no challenge '%s'", STR_ESC(challenge));
	status = cli_fail(c, e);
	return usage ? CLI_USAGE : status;
}

static int run_add(struct cli *c)
{
	auto_done(definition) def = { 0 };
	auto_obj(settings) s = NULL;
	auto_obj(db) d = NULL;
	json_auto_t *o = NULL;
	struct err e = { 0 };
	int64_t id;
	const struct cli_opt opts[] = { DEFINITION_OPTS(def), { 0 } };

	if (!cli_parse(c, opts, 0, 1))
		return c->status;
	if (def.active && def.inactive)
		return cli_usage(c, "--active and --inactive exclude each other");
	if (build_definition(&def, &o, &e) < 0 ||
	    put_text(o, "label", c->argc ? c->argv[0] : NULL, &e) < 0)
		return fail(c, "", &e);
	if (!json_is_string(json_object_get(o, "label")))
		return cli_usage(c, "which label? name it, or give 'label' in --file");
	if (!json_is_string(json_object_get(o, "evaluator")))
		return cli_usage(c, "which evaluator? name it with --evaluator");
	if (!cli_db(c, &s, &d))
		return c->status;
	if (challenges_add(d, o, &id, &e) < 0)
		return fail(c, "", &e);
	printf("challenge %lld\n", (long long)id);
	return CLI_DONE;
}

static int run_set(struct cli *c)
{
	auto_done(definition) def = { 0 };
	auto_obj(settings) s = NULL;
	auto_obj(db) d = NULL;
	json_auto_t *o = NULL;
	struct err e = { 0 };
	const struct cli_opt opts[] = { DEFINITION_OPTS(def), { 0 } };

	if (!cli_parse(c, opts, 1, 1))
		return c->status;
	if (def.active && def.inactive)
		return cli_usage(c, "--active and --inactive exclude each other");
	if (build_definition(&def, &o, &e) < 0)
		return fail(c, c->argv[0], &e);
	if (json_object_size(o) == 0)
		return cli_usage(c, "nothing to change: give at least one option");
	if (!cli_db(c, &s, &d))
		return c->status;
	if (challenges_set(d, c->argv[0], o, &e) < 0)
		return fail(c, c->argv[0], &e);
	return CLI_DONE;
}

static const struct cli_col list_cols[] = {
	{ "id", "ID", COL_TEXT },
	{ "label", "LABEL", COL_TEXT },
	{ "evaluator", "EVALUATOR", COL_TEXT },
	{ "pool", "POOL", COL_TEXT },
	{ "host", "HOST", COL_TEXT },
	{ "active", "ACTIVE", COL_TEXT },
	{ "end", "END", COL_TIME },
	{ "submissions", "SUBMISSIONS", COL_TEXT },
	{ 0 },
};
static const struct cli_col show_cols[] = {
	{ "id", "id", COL_TEXT },
	{ "label", "label", COL_TEXT },
	{ "description", "description", COL_TEXT },
	{ "url", "url", COL_TEXT },
	{ "evaluator", "evaluator", COL_TEXT },
	{ "args", "arguments", COL_TEXT },
	{ "pool", "pool", COL_TEXT },
	{ "host", "host", COL_TEXT },
	{ "active", "active", COL_TEXT },
	{ "start", "start", COL_TIME },
	{ "end", "end", COL_TIME },
	{ "created_at", "created", COL_TIME },
	{ "submissions", "submissions", COL_TEXT },
	{ "evaluations", "evaluations", COL_TEXT },
	{ 0 },
};

static int run_list(struct cli *c)
{
	auto_obj(settings) s = NULL;
	auto_obj(db) d = NULL;
	json_auto_t *found = NULL;
	bool json = false, all = false;
	struct err e = { 0 };
	const struct cli_opt opts[] = {
		{ "all", 'a', CLI_FLAG, &all, NULL, "closed ones as well" },
		{ "json", 0, CLI_FLAG, &json, NULL, "print JSON" },
		{ 0 },
	};

	if (!cli_parse(c, opts, 0, 1) || !cli_db(c, &s, &d))
		return c->status;
	if (c->argc) {
		if (challenges_show(d, c->argv[0], &found, &e) < 0)
			return fail(c, c->argv[0], &e);
		return cli_show(c, found, show_cols, json);
	}
	if (challenges_list(d, !all, &found, &e) < 0)
		return cli_fail(c, &e);
	return cli_list(c, found, list_cols, json);
}

static const struct command commands[] = {
	{ "challenges", "[-a] [LABEL] [--json]", "List the open challenges, or show one",
	  "zr challenges -a --json", run_list, NULL },
	{ "challenges:add", "LABEL --evaluator NAME [-f FILE] [OPTIONS]", "Add a challenge",
	  "zr challenges:add iris --evaluator predictions --end 2027-01-01", run_add,
	  "FILE holds one JSON object: label, evaluator, pool, host, args, description, url,\n"
	  "active, start, end. An option wins over the same member of the file." },
	{ "challenges:set", "LABEL [-f FILE] [OPTIONS]", "Change a challenge",
	  "zr challenges:set iris --inactive --description ''", run_set,
	  "Only what is named changes; an empty value takes a member away." },
	{ 0 },
};

const struct command_group challenge_group = { "challenges", commands };

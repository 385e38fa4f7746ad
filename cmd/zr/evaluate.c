/* SPDX-License-Identifier: MIT */
/*
 * evaluate: one evaluation here and now, with no broker, no database and no settings. What runs is what
 * a worker would run: the evaluator's plan (exec/evaluator), a box of its own and its keeper
 * (exec/box, zr-box), the submission packed and unpacked, the result sealed and unpacked.
 *
 *	evaluate.c   the verb: what to run, what came of it
 *	room.c       the private folder it happens in
 *	attend.c     the box in the foreground
 *	bindir.c     where evaluators are
 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "attend.h"
#include "base/id.h"
#include "base/json.h"
#include "base/str.h"
#include "bindir.h"
#include "commands.h"
#include "exec/evaluator.h"
#include "exec/gpu.h"
#include "line.h"
#include "room.h"
#include "stderr_tail.h"

struct evaluate {
	struct cli *c;
	struct settings *settings;
	struct evaluator *evaluator;
	struct gpu_list *gpus;
	struct cgroup_host cgroup;
	struct room room;
	struct box_spec *spec;
	struct attended end;
	char attempt_id[UUID_LEN + 1];
	char digest[HASH_TEXT_MAX]; /* the submission's */
	char *target;               /* where the result goes; NULL: nowhere */
	bool stored;

	/* options */
	char **args;
	const char *bin, *output;
	bool json, keep, trust;
};

static void evaluate_done(struct evaluate *v)
{
	attended_done(&v->end);
	spec_free(v->spec);
	/* What a stuck job still uses is left to the next call. */
	if (v->end.left || v->end.stuck)
		room_abandon(&v->room);
	else
		room_done(&v->room);
	cgroup_host_done(&v->cgroup);
	gpu_list_free(v->gpus);
	evaluator_free(v->evaluator);
	settings_free(v->settings);
	free(v->target);
	strv_free(v->args);
}
DEFINE_AUTO_DONE(evaluate);

/* --- what to run -------------------------------------------------------------------------------- */

/* Settings are no condition: a file that is not ours to read is none. */
static int load_settings(struct evaluate *v, struct err *e)
{
	const char *named = v->c->conf ? v->c->conf : getenv("ZR_CONF");
	int r = settings_load(v->c->conf, &v->settings, e);

	if (r != -EACCES || (named && *named))
		return r;
	cli_say("zr evaluate: %s, going on without it", e->msg);
	v->c->conf = "/dev/null";
	return settings_load(v->c->conf, &v->settings, e);
}

/* The name alone is looked for in the bin folder, as in a shell. */
static int load_evaluator(struct evaluate *v, const char *name, struct err *e)
{
	auto_free char *bin = NULL;
	int r;

	if (strchr(name, '/'))
		return evaluators_load_path(name, &v->evaluator, e);
	if (v->bin)
		r = (bin = strdup(v->bin)) ? 0 : err_nomem(e);
	else
		r = bindir_find(v->settings, v->c->conf, &bin, e);
	if (r < 0)
		return r;
	r = evaluator_load(bin, name, &v->evaluator, e);
	if (r == -ENOENT && e->kind == ERR_INPUT && access(name, F_OK) == 0)
		return err_input(e, "there is no evaluator '%s' in %s; for the one here say ./%s",
				 STR_ESC(name), STR_ESC(bin), STR_ESC(name));
	if (r == -ENOENT && e->kind == ERR_INPUT)
		return err_input(e, "there is no evaluator '%s' in %s", STR_ESC(name),
				 STR_ESC(bin));
	return r;
}

/* Before anything is made: can this be run, and may it? */
static int plan(struct evaluate *v, struct err *e)
{
	struct evaluator_job job = { .evaluation = "0",
				     .attempt = 1,
				     .attempt_id = id_uuid7(v->attempt_id),
				     .args = v->args,
				     .cgroup = &v->cgroup,
				     .attended = true };
	auto_free char *submission = NULL;
	int r;

	if (v->trust && v->evaluator->isolation == ISOLATION_SANDBOX)
		v->evaluator->isolation = ISOLATION_NONE;
	r = gpus_runnable(v->settings, v->evaluator, &v->gpus, e);

	if (r == 0)
		r = cgroup_probe(v->settings->cgroup_parent, &v->cgroup, e);
	if (r == 0)
		r = room_make(&v->room, e);
	if (r == 0 && room_submission_dir(&v->room, &submission) < 0)
		r = err_nomem(e);
	if (r < 0)
		return r;
	evaluator_job_settings(&job, v->settings);
	job.state_dir = v->room.path;
	job.submission = submission;
	job.gpus = v->gpus;
	return evaluator_plan(v->evaluator, &job, &v->spec, e);
}

static int find_target(struct evaluate *v, struct err *e)
{
	if (v->output)
		return room_target(v->output, &v->target, e);
	return v->keep ? room_target_new(v->attempt_id, &v->target, e) : 0;
}

/* What is given is at fault, the evaluator of this host included, or the host is at the moment. */
static int refuse(const struct evaluate *v, const struct err *e)
{
	int status = cli_fail(v->c, e);

	return status == CLI_FAILED ? CLI_USAGE : status;
}

/* --- what came of it ---------------------------------------------------------------------------- */

static const char *status_name(const struct box_result *r)
{
	return r->reason == BOX_OK         ? "completed"
	       : r->reason == BOX_CANCELED ? "canceled"
					   : "failed";
}

static int exit_status(const struct evaluate *v)
{
	switch (v->end.result.reason) {
	case BOX_OK:
		return CLI_DONE;
	case BOX_CANCELED:
		return v->end.signal ? 128 + v->end.signal : CLI_FAILED;
	case BOX_SETUP:
		return CLI_USAGE;
	case BOX_INFRASTRUCTURE:
	case BOX_LOST:
		return CLI_AGAIN;
	case BOX_EXIT:
	case BOX_SIGNAL:
	case BOX_CPU_LIMIT:
	case BOX_WALL_LIMIT:
	case BOX_MEMORY:
	case BOX_OUTPUT_LIMIT:
	case BOX_DISK:
	case BOX_PIDS:
	case BOX_POISON:
	case BOX_VIOLATION:
	case BOX_REASON_N:
		break;
	}
	return CLI_FAILED;
}

static json_t *args_json(char *const *args)
{
	json_t *a = json_array();

	for (; a && args && *args; args++)
		if (json_array_append_new(a, js_from_bytes(*args, strlen(*args))) < 0) {
			json_decref(a);
			return NULL;
		}
	return a;
}

/* The keys of `evaluations:show --json`, as far as there is something for them. */
static json_t *describe(const struct evaluate *v)
{
	const struct box_result *r = &v->end.result;
	json_t *ending = box_result_json(r);
	json_t *o = json_pack("{s:s, s:s, s:o, s:{s:s, s:s?, s:s?, s:O}, s:s, s:s, s:o, s:O?}",
			      "status", status_name(r), "attempt_id", v->attempt_id, "args",
			      args_json(v->args), "results", "state", v->stored ? "stored" : "none",
			      "path", v->stored ? v->target : NULL, "root_hash", r->root_hash,
			      "bytes", json_object_get(ending, "result_bytes"), "evaluator",
			      v->evaluator->name, "submission_digest", v->digest, "host",
			      json_string(v->settings->host), "stderr", v->end.err);

	(void)json_object_del(ending, "root_hash");
	(void)json_object_del(ending, "result_bytes");
	if (o && json_object_update_missing(o, ending) == 0) {
		json_decref(ending);
		return o;
	}
	json_decref(ending);
	json_decref(o);
	return NULL;
}

/* Numbers and texts by name; what is deeper is for --json. */
static void print_scores(const json_t *scores)
{
	json_t *o = (json_t *)(uintptr_t)scores;
	const char *key;
	json_t *value;
	int widest = 0;

	json_object_foreach(o, key, value) if (!json_is_object(value) && !json_is_array(value) &&
					       (int)strlen(key) > widest) widest = (int)strlen(key);
	json_object_foreach(o, key, value)
	{
		auto_free char *text = NULL;

		if (json_is_object(value) || json_is_array(value))
			continue;
		text = json_is_string(value) ? strdup(json_string_value(value)) : js_text(value);
		printf("  %-*s  %s\n", widest, STR_ESC(key), STR_ESC(text));
	}
}

static void print_used(const struct box_result *r)
{
	const char *level = json_string_value(json_object_get(r->isolation, "level"));
	char size[32];

	if (!r->started_wall_usec)
		return;
	printf("used: %.3f s of time, %.3f s of CPU", (double)r->wall_usec / 1e6,
	       (double)r->cpu_usec / 1e6);
	if (r->memory_peak_bytes != BOX_UNKNOWN)
		printf(", %s of memory", str_size_text(size, sizeof(size), r->memory_peak_bytes));
	printf("; isolation: %s\n", level ? level : "?");
}

static int print_for_people(const struct evaluate *v, const json_t *o)
{
	auto_buf struct buf b = { 0 };

	if (line_text(o, 0, &b) < 0)
		return -ENOMEM;
	printf("%s\n", b.data);
	print_scores(v->end.result.scores);
	if (v->end.result.scores_error && v->end.result.reason == BOX_OK)
		printf("no scores: %s\n", STR_ESC(v->end.result.scores_error));
	print_used(&v->end.result);
	if (v->stored)
		printf("result: %s\n", STR_ESC(v->target));
	return 0;
}

static int tell(struct evaluate *v)
{
	json_auto_t *o = describe(v);
	struct err e = { 0 };
	int status = exit_status(v);

	if (!o || (!v->json && print_for_people(v, o) < 0)) {
		err_nomem(&e);
		return cli_fail(v->c, &e);
	}
	if (v->json && cli_show(v->c, o, NULL, true) != CLI_DONE)
		return CLI_FAILED;
	return status;
}

/* A job that did not begin has left nothing. */
static int publish(struct evaluate *v, struct err *e)
{
	const char *hash = v->end.result.root_hash;
	int r = v->target && hash ? room_publish(&v->room, v->attempt_id, hash, v->target, e) : 0;

	v->stored = r == 0 && v->target && hash;
	return r;
}

static int run(struct evaluate *v)
{
	struct err e = { 0 };
	int r = attend(v->room.path, v->spec, v->evaluator->name, &v->end, &e);

	if (r < 0) {
		(void)cli_fail(v->c, &e);
		return CLI_AGAIN;
	}
	if (v->end.left)
		return 128 + v->end.signal;
	if (v->end.stuck)
		cli_say("zr evaluate: something of the job cannot be killed; zr-box stays with it");
	if (publish(v, &e) < 0) {
		(void)cli_fail(v->c, &e);
		(void)tell(v);
		return CLI_AGAIN;
	}
	return tell(v);
}

static int run_evaluate(struct cli *c)
{
	auto_done(evaluate) v = { .c = c, .room = ROOM_NEW };
	const volatile sig_atomic_t *stop;
	struct err e = { 0 };
	const struct cli_opt opts[] = {
		{ "extra-arg", 'e', CLI_LIST, &v.args, "ARG", "an argument for the evaluator" },
		{ "bin", 0, CLI_TEXT, &v.bin, "DIR", "look for EVALUATOR there" },
		{ "output", 'o', CLI_TEXT, &v.output, "FOLDER",
		  "keep the result in this new folder" },
		{ "keep", 'k', CLI_FLAG, &v.keep, NULL, "keep the result and say where" },
		{ "trust", 0, CLI_FLAG, &v.trust, NULL,
		  "a submission of your own: without the walls of a sandbox" },
		{ "json", 0, CLI_FLAG, &v.json, NULL, "print JSON" },
		{ 0 },
	};

	if (!cli_parse(c, opts, 2, 2))
		return c->status;
	if (load_settings(&v, &e) < 0 || load_evaluator(&v, c->argv[0], &e) < 0)
		return refuse(&v, &e);
	stop = attend_signals();
	if (plan(&v, &e) == 0 && find_target(&v, &e) == 0 &&
	    room_take(c, &v.room, c->argv[1], stop, v.digest, &e) == 0)
		return run(&v);
	return *stop ? 128 + *stop : refuse(&v, &e);
}

static const struct command commands[] = {
	{ "evaluate", "EVALUATOR SUBMISSION [OPTIONS]", "Evaluate a file or a folder here and now",
	  "zr evaluate c-kernel examples/c-kernel/good", run_evaluate,
	  "Needs no broker, no database and no settings. EVALUATOR is a name in the bin folder, "
	  "or\n"
	  "a path (with a '/') to an evaluator's folder or an executable. What the job writes "
	  "goes\n"
	  "to standard error, the outcome to standard output. Ctrl-C cancels, twice kills.\n"
	  "Exit status: 0 completed, 1 failed, 2 evaluator or submission cannot be used, 75 this\n"
	  "host is at fault." },
	{ 0 },
};

const struct command_group evaluate_group = { "here and now", commands };

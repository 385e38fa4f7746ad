/* SPDX-License-Identifier: MIT */
/* gpus: the GPUs of this host. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"
#include "commands.h"
#include "exec/evaluator.h"
#include "exec/gpu.h"
#include "exec/gpulock.h"

int gpus_runnable(const struct settings *s, const struct evaluator *ev, struct gpu_list **list,
		  struct err *e)
{
	auto_obj(gpu_request) q = NULL;
	int r = evaluator_runnable(ev, e);

	if (r == 0 && ev->gpus && !*list)
		r = gpu_probe(s ? s->cuda_library : NULL, list, e);
	return r < 0 || !ev->gpus ? r : evaluator_gpus(ev, *list, &q, e);
}

static json_t *rows(const struct gpu_list *l, const char *lock_dir)
{
	json_t *a = json_array();
	int r = a ? 0 : -1;

	for (size_t i = 0; i < l->n && r == 0; i++) {
		auto_free char *why = gpu_quarantined(lock_dir, l->gpu[i].uuid);
		json_t *o = gpu_json(&l->gpu[i]);

		r = json_object_set_new(o, "double", json_boolean(l->is_double));
		if (r == 0)
			r = json_object_set_new(o, "quarantine",
						why ? js_from_bytes(why, strlen(why))
						    : json_null());
		r = json_array_append_new(a, o) < 0 ? -1 : r;
	}
	if (r == 0)
		return a;
	json_decref(a);
	return NULL;
}

static int run_list(struct cli *c)
{
	static const struct cli_col cols[] = {
		{ "index", "INDEX", COL_TEXT },
		{ "name", "NAME", COL_TEXT },
		{ "architecture", "ARCHITECTURE", COL_TEXT },
		{ "compute_capability", "CC", COL_TEXT },
		{ "memory_bytes", "MEMORY", COL_SIZE },
		{ "used_bytes", "USED", COL_SIZE },
		{ "processes", "PROCESSES", COL_TEXT },
		{ "uuid", "UUID", COL_TEXT },
		{ "quarantine", "QUARANTINE", COL_TEXT },
		{ 0 },
	};
	auto_obj(settings) s = NULL;
	auto_obj(gpu_list) l = NULL;
	json_auto_t *list = NULL;
	struct err e = { 0 };
	bool json = false;
	const struct cli_opt opts[] = {
		{ "json", 0, CLI_FLAG, &json, NULL, "print JSON" },
		{ 0 },
	};

	if (!cli_parse(c, opts, 0, 0) || !cli_settings(c, &s))
		return c->status;
	if (gpu_probe(s->cuda_library, &l, &e) < 0)
		return cli_fail(c, &e);
	if (l->state != GPUS_READY)
		cli_say("zr gpus: %s", STR_ESC(l->error));
	if (l->is_double)
		cli_say("zr gpus: these are fake GPUs: %s is a test's double",
			s->cuda_library ? s->cuda_library : "the library");
	list = rows(l, s->gpu_lock_dir);
	if (!list)
		return CLI_FAILED;
	if (!json && l->state != GPUS_READY)
		return l->state == GPUS_SICK ? CLI_FAILED : CLI_DONE;
	return cli_list(c, list, cols, json) == CLI_DONE && l->state != GPUS_SICK ? CLI_DONE
										  : CLI_FAILED;
}

static int run_release(struct cli *c)
{
	auto_obj(settings) s = NULL;
	struct err e = { 0 };
	const struct cli_opt opts[] = { { 0 } };

	if (!cli_parse(c, opts, 1, 1) || !cli_settings(c, &s))
		return c->status;
	if (strchr(c->argv[0], '/'))
		return cli_usage(c, "'%s' is no UUID of a GPU", STR_ESC(c->argv[0]));
	if (gpu_release(s->gpu_lock_dir, c->argv[0], &e) < 0)
		return cli_fail(c, &e);
	printf("GPU %s is handed out again\n", c->argv[0]);
	return CLI_DONE;
}

static const struct command commands[] = {
	{ "gpus", "[--json]", "Show the GPUs of this host", "zr gpus", run_list,
	  "Asks the driver through a child that gets 15 seconds. Exit status 1 if there should be\n"
	  "GPUs and none can be used; none at all is no error." },
	{ "gpus:run", "[OPTIONS] -- COMMAND [ARGUMENTS]", "Hold GPUs and run a command on them",
	  "zr gpus:run -n 2 --arch hopper -- python3 train.py", cmd_gpus_run,
	  "Waits until it has all of them, first come, first served with all jobs of this host. "
	  "The\n"
	  "command finds their UUIDs in CUDA_VISIBLE_DEVICES and ZR_GPUS; its exit status is "
	  "ours.\n"
	  "When it has ended they are let go of, whatever it has left running. Exit status 75: "
	  "none\n"
	  "came free in time." },
	{ "gpus:release", "UUID", "Hand out a GPU again that is in quarantine",
	  "zr gpus:release GPU-6bb4a2ce-2a6d-4b0c-9a3e-0c7f2f6f0b11", run_release, NULL },
	{ 0 },
};

const struct command_group gpu_group = { "GPUs", commands };

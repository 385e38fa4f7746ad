/* SPDX-License-Identifier: MIT */
/* gpus: the GPUs of this host. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"
#include "commands.h"
#include "exec/gpu.h"

static json_t *rows(const struct gpu_list *l)
{
	json_t *a = json_array();
	int r = a ? 0 : -1;

	for (size_t i = 0; i < l->n && r == 0; i++) {
		json_t *o = gpu_json(&l->gpu[i]);

		r = json_object_set_new(o, "double", json_boolean(l->is_double));
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
	list = rows(l);
	if (!list)
		return CLI_FAILED;
	if (!json && l->state != GPUS_READY)
		return l->state == GPUS_SICK ? CLI_FAILED : CLI_DONE;
	return cli_list(c, list, cols, json) == CLI_DONE && l->state != GPUS_SICK ? CLI_DONE
										 : CLI_FAILED;
}

static const struct command commands[] = {
	{ "gpus", "[--json]", "Show the GPUs of this host", "zr gpus", run_list,
	  "Asks the driver through a child that gets 15 seconds. Exit status 1 if there should be\n"
	  "GPUs and none can be used; none at all is no error." },
	{ 0 },
};

const struct command_group gpu_group = { "GPUs", commands };

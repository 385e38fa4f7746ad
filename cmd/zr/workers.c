/* SPDX-License-Identifier: MIT */
/* workers: who was heard of, where, doing what. */
#include <stdio.h>

#include "base/json.h"
#include "base/str.h"
#include "commands.h"
#include "db.h"
#include "store/workers.h"

static const struct cli_col cols[] = {
	{ "worker", "WORKER", COL_TEXT }, { "alive", "ALIVE", COL_TEXT },
	{ "state", "STATE", COL_TEXT },   { "doing", "DOING", COL_TEXT },
	{ "pid", "PID", COL_TEXT },       { "since", "SINCE", COL_TIME },
	{ "at", "HEARD", COL_AGE },       { 0 },
};

/* "42 run, 43 prepare" for the table. */
static int add_doing(json_t *worker)
{
	const json_t *job, *jobs = json_object_get(worker, "jobs");
	auto_buf struct buf b = { 0 };
	size_t i;
	int r = buf_str(&b, "");

	json_array_foreach(jobs, i, job)
	{
		const char *id = json_string_value(json_object_get(job, "evaluation"));
		const char *phase = json_string_value(json_object_get(job, "phase"));

		if (r == 0)
			r = buf_fmt(&b, "%s%s %s", i ? ", " : "", id ? id : "?",
				    phase ? phase : "");
	}
	if (r < 0)
		return r;
	return json_object_set_new(worker, "doing",
				   b.len ? js_from_bytes(b.data, b.len) : json_null());
}

int cmd_workers(struct cli *c)
{
	auto_obj(settings) s = NULL;
	auto_obj(db) d = NULL;
	json_auto_t *list = NULL;
	json_t *worker;
	bool json = false;
	struct err e = { 0 };
	size_t i;
	const struct cli_opt opts[] = {
		{ "json", 0, CLI_FLAG, &json, NULL, "print JSON" },
		{ 0 },
	};

	if (!cli_parse(c, opts, 0, 0) || !cli_db(c, &s, &d))
		return c->status;
	if (workers_list(d, &list, &e) < 0)
		return cli_fail(c, &e);
	if (json)
		return cli_list(c, list, cols, true);
	json_array_foreach(list, i, worker)
	{
		if (add_doing(worker) < 0) {
			err_nomem(&e);
			return cli_fail(c, &e);
		}
	}
	return cli_list(c, list, cols, false);
}

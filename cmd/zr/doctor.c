/* SPDX-License-Identifier: MIT */
#include "doctor.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/timex.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/proc.h"
#include "base/str.h"
#include "commands.h"
#include "exec/cgroup.h"
#include "exec/cpus.h"
#include "exec/evaluator.h"
#include "exec/gpu.h"

static const char *const health_names[] = { "ok", "warn", "fail" };

void doctor_line(struct doctor *d, enum health h, const char *check, const char *cure,
		 const char *fmt, ...)
{
	char text[700];
	json_t *line;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	d->failed |= h == HEALTH_FAIL;
	line = json_pack("{s:s, s:s, s:o, s:s?}", "check", check, "status", health_names[h], "text",
			 js_from_bytes(text, strlen(text)), "cure", cure);
	if (!line || json_array_append_new(d->lines, line) < 0)
		d->failed = true;
}

/* --- this host ---------------------------------------------------------------------------------- */

/* A folder that zr writes: there, ours, and with room. */
static void check_folder(struct doctor *d, const char *key, const char *path, bool needed)
{
	char room[32], wanted[32], check[40];
	struct err e = { 0 };
	uint64_t bytes;

	snprintf(check, sizeof(check), "%s", key);
	if (access(path, F_OK) < 0) {
		if (needed)
			doctor_line(d, HEALTH_FAIL, check,
				    "make it, owned by the user that runs zr", "%s does not exist",
				    path);
		return;
	}
	if (access(path, R_OK | W_OK | X_OK) < 0) {
		doctor_line(d, HEALTH_FAIL, check,
			    "chown it to the user that runs zr, or run doctor as that user",
			    "%s cannot be written by this user", path);
		return;
	}
	if (fd_free_bytes(path, &bytes, &e) < 0) {
		doctor_line(d, HEALTH_FAIL, check, NULL, "%s", e.msg);
		return;
	}
	str_size_text(room, sizeof(room), bytes);
	if (bytes < d->settings->spool_reserve)
		doctor_line(d, HEALTH_FAIL, check, "free space, or lower spool_reserve",
			    "%s: %s free, less than spool_reserve (%s): no new work is taken", path,
			    room,
			    str_size_text(wanted, sizeof(wanted), d->settings->spool_reserve));
	else if (bytes < 2 * d->settings->spool_reserve)
		doctor_line(d, HEALTH_WARN, check, "free space soon", "%s: only %s free", path,
			    room);
	else
		doctor_line(d, HEALTH_OK, check, NULL, "%s: %s free", path, room);
}

static void check_disk(struct doctor *d)
{
	const struct settings *s = d->settings;

	check_folder(d, "state_dir", s->state_dir, true);
	check_folder(d, "submissions_dir", s->submissions_dir, false);
	check_folder(d, "results_dir", s->results_dir, false);
	check_folder(d, "leaderboards_dir", s->leaderboards_dir, false);
}

static void check_clock(struct doctor *d)
{
	struct timex t = { 0 };
	int state = adjtimex(&t);

	if (state < 0)
		doctor_line(d, HEALTH_WARN, "clock", NULL, "its state cannot be read: %s",
			    strerror(errno));
	else if (t.status & STA_UNSYNC)
		doctor_line(d, HEALTH_WARN, "clock", "run a time service such as systemd-timesyncd",
			    "not synchronised, says the kernel");
	else
		doctor_line(d, HEALTH_OK, "clock", NULL, "synchronised");
}

/* A list of what is there: "2 × H100 PCIe (Hopper, 80.0 GiB), CUDA 13.0". */
static void say_gpus(const struct gpu_list *l, char *out, size_t size)
{
	size_t len = 0;

	out[0] = '\0';
	for (size_t i = 0, n = 0; i < l->n && len < size; i += n) {
		const struct gpu *g = &l->gpu[i];
		char arch[GPU_ARCH_MAX], memory[32];

		for (n = 1; i + n < l->n && str_eq(l->gpu[i + n].name, g->name) &&
			    l->gpu[i + n].memory_bytes == g->memory_bytes;
		     n++)
			;
		len += (size_t)snprintf(out + len, size - len, "%s%zu x %s (%s, %s)", i ? ", " : "",
					n, STR_ESC(g->name), gpu_arch(arch, g->major, g->minor),
					str_size_text(memory, sizeof(memory), g->memory_bytes));
	}
}

static void check_gpu(struct doctor *d)
{
	const char *dir = d->settings->gpu_lock_dir, *fake;
	auto_obj(gpu_list) l = NULL;
	struct err e = { 0 };
	char what[400];

	if (gpu_probe(d->settings->cuda_library, &l, &e) < 0) {
		doctor_line(d, HEALTH_FAIL, "gpu",
			    "look at dmesg for NVRM and Xid; a reboot may help", "%s", e.msg);
		return;
	}
	fake = l->is_double ? " (fake GPUs)" : "";
	say_gpus(l, what, sizeof(what));
	if (l->state == GPUS_NONE)
		doctor_line(d, HEALTH_OK, "gpu", NULL, "none on this host: %s", l->error);
	else if (l->state == GPUS_SICK)
		doctor_line(d, HEALTH_FAIL, "gpu",
			    "look at dmesg for NVRM and Xid; let the user that runs zr open "
			    "/dev/nvidia* (group video or render)",
			    "none can be used%s: %s", fake, l->error);
	else if (access(dir, W_OK | X_OK) < 0)
		doctor_line(d, HEALTH_FAIL, "gpu", "make it, owned by the user that runs zr",
			    "%s%s, and gpu_lock_dir %s cannot be written", what, fake, dir);
	else
		doctor_line(d, HEALTH_OK, "gpu", NULL, "%s%s, locks in %s", what, fake, dir);
}

/* What zr-eval.service says is its cgroup_parent. */
#define UNIT_GROUP "/zr.slice/zr-boxes.service"

/* The group of the shell in which we run says nothing about workers that have a unit. */
static int probe_groups(struct doctor *d, struct cgroup_host *h, const char **ret_where,
			struct err *e)
{
	const char *parent = d->settings->cgroup_parent;

	*ret_where = "";
	if (!parent && access("/sys/fs/cgroup" UNIT_GROUP, F_OK) == 0) {
		int r = cgroup_probe(UNIT_GROUP, h, e);

		*ret_where = ", in the group of zr-boxes.service";
		if (r < 0 || h->v2)
			return r;
		*ret_where = "";
		cgroup_host_done(h);
	}
	return cgroup_probe(parent, h, e);
}

static void check_cgroup(struct doctor *d)
{
	static const char cure[] =
		"run the worker by its unit (Delegate=yes), or name a writable cgroup_parent";
	auto_done(cgroup_host) h = { 0 };
	struct err e = { 0 };
	const char *where;
	bool memory, pids;

	if (probe_groups(d, &h, &where, &e) < 0) {
		doctor_line(d, HEALTH_FAIL, "cgroup", cure, "%s", e.msg);
		return;
	}
	memory = h.v2_memory || h.v1_memory;
	pids = h.v2_pids || h.v1_pids;
	if (!h.v2 && !memory && !pids)
		doctor_line(d, HEALTH_WARN, "cgroup", cure,
			    "no control group can be made: jobs run without limits of memory and "
			    "processes, and are found by process group alone");
	else if (!memory || !pids)
		doctor_line(d, HEALTH_WARN, "cgroup", cure, "no limits of %s%s%s",
			    memory ? "" : "memory", memory || pids ? "" : " and ",
			    pids ? "" : "processes");
	else
		doctor_line(d, HEALTH_OK, "cgroup", NULL, "%s, limits of memory and processes%s",
			    h.v2_memory ? "version 2" : "version 1", where);
	doctor_levels(d, &h);
}

static void check_timing(struct doctor *d)
{
	const char *cpus = d->settings->timing_cpus;
	cpu_set_t timing, others;
	struct err e = { 0 };

	if (!cpus)
		return;
	if (cpus_reserve(cpus, &timing, &others, &e) < 0)
		doctor_line(d, HEALTH_FAIL, "timing", "correct timing_cpus", "%s", e.msg);
	else
		doctor_line(d, HEALTH_OK, "timing", NULL, "processors %s are for timed runs",
			    STR_ESC(cpus));
}

static void check_evaluators(struct doctor *d)
{
	struct evaluator_entry *list = NULL;
	auto_obj(gpu_list) gpus = NULL;
	size_t n = 0, good = 0;
	struct err e = { 0 };

	if (evaluator_list(d->settings->bin_dir, &list, &n, &e) < 0) {
		doctor_line(d, HEALTH_WARN, "evaluators",
			    "make the bin folder, if this host is to evaluate", "%s", e.msg);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		struct err why = { 0 };

		if (!list[i].ev)
			doctor_line(d, HEALTH_FAIL, "evaluators", "see zr-evaluator(5)", "%s: %s",
				    STR_ESC(list[i].name), STR_ESC(list[i].error));
		else if (gpus_runnable(d->settings, list[i].ev, &gpus, &why) < 0)
			doctor_line(d, HEALTH_WARN, "evaluators",
				    "send its requests to another pool or host (challenges:set), "
				    "or take it out of this bin folder",
				    "%s cannot run here: %s", STR_ESC(list[i].name), why.msg);
		else
			good++;
	}
	evaluator_list_free(list, n);
	doctor_line(d, HEALTH_OK, "evaluators", NULL, "%zu can run, in %s", good,
		    d->settings->bin_dir);
}

static void check_programs(struct doctor *d)
{
	static const char *const names[] = { "zr-box", "zr-eval", "zr-fetch", "zr-update" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		auto_free char *path = NULL;
		struct err e = { 0 };

		if (proc_sister(names[i], &path, &e) < 0 || access(path, X_OK) < 0)
			doctor_line(d, HEALTH_WARN, "programs", "install it beside zr",
				    "%s is not there", names[i]);
	}
}

/* --- the verb ----------------------------------------------------------------------------------- */

static const char *text_of(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

static void print_lines(const json_t *lines)
{
	const json_t *line;
	size_t i;

	json_array_foreach(lines, i, line)
	{
		const char *text = text_of(line, "text"), *cure = text_of(line, "cure");
		auto_free char *safe = text ? malloc(4 * strlen(text) + 8) : NULL;

		if (safe)
			str_escape(safe, 4 * strlen(text) + 8, text, strlen(text));
		printf("%-4s  %-16s  %s\n", text_of(line, "status"), text_of(line, "check"),
		       safe ? safe : "");
		if (cure)
			printf("%-4s  %-16s  %s\n", "", "", cure);
	}
}

int cmd_doctor(struct cli *c)
{
	auto_obj(settings) s = NULL;
	json_auto_t *lines = json_array();
	struct doctor d = { .lines = lines };
	bool json = false;
	const struct cli_opt opts[] = {
		{ "json", 0, CLI_FLAG, &json, NULL, "print JSON" },
		{ 0 },
	};

	if (!cli_parse(c, opts, 0, 0) || !cli_settings(c, &s))
		return c->status;
	d.settings = s;
	doctor_line(&d, HEALTH_OK, "settings", NULL, "%s, host '%s'", s->file, s->host);
	/* Who works from a folder needs neither. */
	if (!doctor_channel(&d)) {
		doctor_broker(&d);
		doctor_database(&d);
	}
	doctor_ssh(&d);
	check_disk(&d);
	check_clock(&d);
	check_gpu(&d);
	check_cgroup(&d);
	check_timing(&d);
	check_evaluators(&d);
	check_programs(&d);
	if (!json)
		print_lines(lines);
	else if (cli_list(c, lines, NULL, true) != CLI_DONE)
		return CLI_FAILED;
	return d.failed ? CLI_FAILED : CLI_DONE;
}

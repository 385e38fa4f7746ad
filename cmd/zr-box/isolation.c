/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stdio.h>

#include "engine.h"
#include "jail.h"
#include "keeper.h"

void refuse(struct keeper *k, const char *fmt, ...)
{
	char why[300];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	verdict(k, BOX_SETUP, "isolation \"%s\" is not possible here: %s",
		isolation_name(k->spec->sandbox.level), why);
}

void isolation_check_limits(struct keeper *k)
{
	const struct limits *l = &k->spec->limits;

	if (!l->memory_bytes || !l->pids || !l->disk_bytes)
		refuse(k, "the evaluator must limit memory, pids and disk");
	else if (k->spec->sandbox.level == ISOLATION_CONTAINER && k->cg.v2 < 0)
		refuse(k, "there is no control group (version 2) to see the container's "
			  "processes with; 'zr doctor' says what to change");
	else if (k->cg.memory < 0 || k->cg.pids < 0)
		refuse(k,
		       "there is no control group to limit %s with; 'zr doctor' says "
		       "what to change",
		       k->cg.memory < 0 ? "memory" : "the number of processes");
}

json_t *gaps_json(const struct gap *g, size_t n)
{
	json_t *a = json_array();

	for (size_t i = 0; a && i < n; i++)
		if (g[i].there &&
		    json_array_append_new(a, json_pack("{s:s, s:s}", "what", g[i].what, "effect",
						       g[i].effect)) < 0) {
			json_decref(a);
			return NULL;
		}
	return a;
}

static json_t *missing(const struct keeper *k)
{
	const struct limits *l = &k->spec->limits;
	const struct gap gaps[] = {
		{ true, "filesystem", "the job reads and writes what its user can" },
		{ true, "network", "the job can use the network" },
		{ true, "uid", "the job runs as the user of its worker" },
		{ k->spec->argv[PHASE_SCORE], "reference",
		  "reference data and scores are not protected from the submission" },
		{ k->cg.v2 < 0, "cgroup2.kill",
		  "processes are killed one by one, which a storm of forks can delay" },
		{ k->cg.v2 < 0 && l->cpu_usec, "cpu.stat",
		  "CPU time is limited per process and counted when processes end" },
		{ k->cg.memory < 0 && l->memory_bytes, "cgroup.memory",
		  "memory is limited per process (RLIMIT_DATA) and its peak unknown" },
		{ k->cg.pids < 0 && l->pids, "cgroup.pids",
		  "the number of processes is unlimited" },
		{ k->no_cpu_group, "cgroup.cpu",
		  "the share of processor time that the evaluator sets is not kept to" },
		{ is_placed_badly(k), "cpuset", TIMING_GAP_CPUSET },
		{ k->spec->timing && !k->spec->timing_cpus, "timing.cpus", TIMING_GAP_CPUS },
		{ l->disk_bytes, "disk.quota",
		  "disk use is sampled, so a job can pass its limit for a moment" },
		{ k->spec->gpus, "gpu-devices",
		  "the job can open every GPU of this host; only its environment names its own" },
		{ !k->landlock, "landlock.scope", "the job can send signals to its worker" },
	};

	return gaps_json(gaps, ARRAY_LEN(gaps));
}

static json_t *mechanisms(const struct keeper *k)
{
	const struct {
		bool there;
		const char *name;
	} m[] = {
		{ true, "session" },
		{ true, "subreaper" },
		{ true, "clean-env" },
		{ true, "closed-fds" },
		{ true, "rlimits" },
		{ k->cg.v2 >= 0, "cgroup2.kill" },
		{ k->cg.memory >= 0 && k->cg.memory == k->cg.v2, "cgroup2.memory" },
		{ k->cg.memory >= 0 && k->cg.memory != k->cg.v2, "cgroup1.memory" },
		{ k->cg.pids >= 0 && k->cg.pids == k->cg.v2, "cgroup2.pids" },
		{ k->cg.pids >= 0 && k->cg.pids != k->cg.v2, "cgroup1.pids" },
		{ k->cg.cpu >= 0, k->cg.cpu == k->cg.v2 ? "cgroup2.cpu" : "cgroup1.cpu" },
		{ k->landlock, "landlock.scope" },
	};
	json_t *a = json_array();

	for (size_t i = 0; a && i < ARRAY_LEN(m); i++)
		if (m[i].there && json_array_append_new(a, json_string(m[i].name)) < 0) {
			json_decref(a);
			return NULL;
		}
	return a;
}

json_t *isolation_describe(const struct keeper *k)
{
	if (k->jail)
		return jail_describe(k);
	if (k->engine)
		return engine_describe(k);
	return json_pack("{s:s, s:o, s:o, s:o, s:s}", "level", "none", "mechanisms", mechanisms(k),
			 "missing", missing(k), "limits", limits_to_json(&k->spec->limits),
			 "network", "host");
}

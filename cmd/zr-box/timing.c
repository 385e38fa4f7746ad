/* SPDX-License-Identifier: MIT */
/*
 * Under which conditions a job was measured, and processors for those that are. Where a host reserves
 * some, the phase `run` of a timed job has them alone: everything else of zr keeps to the others, and
 * timed runs wait for each other, on no clock of theirs.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/str.h"
#include "base/time.h"
#include "exec/cpus.h"
#include "jail.h"
#include "keeper.h"

#define CPU_DIR "/sys/devices/system/cpu"

enum {
	AGAIN_USEC = 20000,
	CLAIM_DEPTH_MAX = 8,
};

/* --- facts of the host ------------------------------------------------------------------------------ */

/* The start of a small file, without its newline; or "". */
static const char *read_word(const char *path, char *out, size_t size)
{
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, out, size - 1);

	out[n > 0 ? n : 0] = '\0';
	out[strcspn(out, "\n")] = '\0';
	return out;
}

static json_t *cpu_model(void)
{
	auto_close int fd = open("/proc/cpuinfo", O_RDONLY | O_CLOEXEC);
	char text[1024], *p;
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = '\0';
	p = strstr(text, "model name");
	p = p ? strchr(p, ':') : NULL;
	if (!p)
		return json_null();
	p += 1 + strspn(p + 1, " ");
	return js_from_bytes(p, strcspn(p, "\n"));
}

static json_t *governor(void)
{
	char text[64];

	read_word(CPU_DIR "/cpu0/cpufreq/scaling_governor", text, sizeof(text));
	return text[0] ? js_from_bytes(text, strlen(text)) : json_null();
}

static json_t *turbo(void)
{
	char text[8];

	if (read_word(CPU_DIR "/intel_pstate/no_turbo", text, sizeof(text))[0])
		return json_boolean(text[0] == '0');
	if (read_word(CPU_DIR "/cpufreq/boost", text, sizeof(text))[0])
		return json_boolean(text[0] == '1');
	return json_null();
}

static json_t *host_facts(void)
{
	return json_pack("{s:o, s:i, s:o, s:o}", "cpu", cpu_model(), "cpus",
			 (int)sysconf(_SC_NPROCESSORS_ONLN), "governor", governor(), "turbo",
			 turbo());
}

/* Control groups of boxes beside our own. */
static json_t *other_boxes(const struct keeper *k)
{
	DIR *d = k->spec->cgroup.v2 ? opendir(k->spec->cgroup.v2) : NULL;
	int n = 0;

	if (!d)
		return json_null();
	for (struct dirent *de; (de = readdir(d));)
		n += str_starts(de->d_name, "zr-") && !str_starts(de->d_name, "zr-probe-") &&
		     !str_eq(de->d_name, k->cg.name);
	closedir(d);
	return json_integer(n);
}

static json_t *now_facts(const struct keeper *k)
{
	double load[3];
	json_t *a = getloadavg(load, 3) == 3 ? json_pack("[f, f, f]", load[0], load[1], load[2])
					     : json_null();

	return json_pack("{s:o, s:o}", "load", a, "other_boxes", other_boxes(k));
}

/* A job without walls that nobody times is spared the looking. */
static bool looks_around(const struct keeper *k)
{
	return k->jail || k->spec->timing;
}

static int set(struct keeper *k, const char *key, json_t *v)
{
	return json_object_set_new(k->conditions, key, v);
}

/* Neither do we ourselves disturb who is timed. */
static void step_aside(const struct keeper *k)
{
	cpu_set_t others;

	if (k->spec->other_cpus && cpus_parse(k->spec->other_cpus, &others, NULL) == 0)
		(void)sched_setaffinity(0, sizeof(others), &others);
}

int timing_begin(struct keeper *k)
{
	step_aside(k);
	/* The governor and its like may change while we live. */
	if (k->host_facts && k->spec->timing) {
		json_decref(k->host_facts);
		k->host_facts = NULL;
	}
	if (!k->host_facts)
		k->host_facts = host_facts();
	k->conditions = json_pack("{s:O?}", "host", k->host_facts);
	if (!k->conditions)
		return -ENOMEM;
	return looks_around(k) && set(k, "start", now_facts(k)) < 0 ? -ENOMEM : 0;
}

/* --- reserved processors ------------------------------------------------------------------------------ */

/* 1: it is ours; 0: there is a verdict. */
static int wait_for_turn(struct keeper *k, int fd)
{
	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		struct pollfd p[POLL_CONTROL];
		size_t n = control_poll(k, p);

		if (errno != EWOULDBLOCK && errno != EINTR)
			return -errno;
		(void)signals_poll(p, n, time_mono_usec() + AGAIN_USEC);
		control_events(k, p);
		if (signals_take_stop())
			verdict(k, BOX_INFRASTRUCTURE, "the keeper was told to end");
		lease_check(k);
		if (k->decided)
			return 0;
	}
	return 1;
}

void timing_take(struct keeper *k)
{
	uint64_t since = time_mono_usec();
	auto_close int fd = -1;
	int r;

	if (!k->spec->timing || !k->spec->timing_cpus || k->decided)
		return;
	fd = openat(k->dir, "../../timing.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	r = fd < 0 ? -errno : wait_for_turn(k, fd);
	if (r < 0)
		verdict(k, BOX_INFRASTRUCTURE, "lock spool/timing.lock: %s", strerror(-r));
	else if (r > 0)
		k->timing_lock = take_fd(fd);
	k->timing_wait_usec = time_mono_usec() - since;
}

void timing_let_go(struct keeper *k)
{
	if (k->timing_lock >= 0)
		close(k->timing_lock);
	k->timing_lock = -1;
}

static bool is_timed(const struct keeper *k)
{
	return k->spec->timing && k->phase == PHASE_RUN;
}

int timing_place(struct keeper *k, struct err *e)
{
	const char *cpus = is_timed(k) ? k->spec->timing_cpus : k->spec->other_cpus;
	int r;

	k->placed = false;
	if (!cpus)
		return 0;
	r = cpus_parse(cpus, &k->cpus, e);
	if (r < 0)
		return r;
	k->placed = true;
	/* The affinity alone is a wish: a job can change it. */
	r = cgroup_limit_cpus(&k->cg, cpus, e);
	k->no_cpuset = r < 0;
	return 0;
}

/* --- times ------------------------------------------------------------------------------------------ */

/* "a.b": a member of a member. */
static const json_t *find_score(const json_t *scores, const char *path)
{
	char name[128];

	for (int depth = 0; scores && depth < CLAIM_DEPTH_MAX; depth++) {
		size_t n = strcspn(path, ".");

		if (n >= sizeof(name))
			return NULL;
		memcpy(name, path, n);
		name[n] = '\0';
		scores = json_object_get(scores, name);
		if (!path[n])
			return scores;
		path += n + 1;
	}
	return NULL;
}

static double unit_usec(const char *name)
{
	static const struct {
		const char *end;
		double usec;
	} units[] = {
		{ "_ns", 1e-3 }, { "_us", 1 }, { "_usec", 1 }, { "_ms", 1e3 }, { "_s", 1e6 }
	};
	size_t n = strlen(name);

	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		size_t m = strlen(units[i].end);

		if (n > m && str_eq(name + n - m, units[i].end))
			return units[i].usec;
	}
	return 1e6;
}

/* The script's own word beside our clock. */
static json_t *clock_json(const struct keeper *k)
{
	const char *name = k->spec->claimed_time;
	const json_t *v = name ? find_score(k->result.scores, name) : NULL;
	double claim = json_is_number(v) ? json_number_value(v) * unit_usec(name) : (double)NAN;
	double wall = (double)k->run_wall_usec;
	const char *why = NULL;

	if (claim > wall)
		why = "more than all of run took";
	else if (claim <= 0)
		why = "no time at all";
	else if (claim * 100 < wall * (double)k->spec->claimed_percent)
		why = "less of run than the evaluator expects";
	return json_pack("{s:I, s:o, s:b, s:s?}", "run_wall_usec", (json_int_t)k->run_wall_usec,
			 "claimed_usec", isnan(claim) ? json_null() : json_real(claim),
			 "contradiction", why != NULL, "why", why);
}

static json_t *timing_json(const struct keeper *k)
{
	const struct box_spec *s = k->spec;

	return json_pack("{s:s?, s:s, s:I}", "cpus", s->timing_cpus, "by",
			 !s->timing_cpus ? "nothing"
			 : k->no_cpuset  ? "affinity"
					 : "cpuset",
			 "wait_usec", (json_int_t)k->timing_wait_usec);
}

json_t *timing_conditions(struct keeper *k)
{
	int r = k->conditions ? 0 : -1;

	if (r == 0 && looks_around(k))
		r = set(k, "end", now_facts(k));
	if (r == 0 && k->spec->timing)
		r = set(k, "timing", timing_json(k));
	if (r == 0 && (k->spec->timing || k->spec->claimed_time))
		r = set(k, "clock", clock_json(k));
	return r < 0 ? NULL : json_incref(k->conditions);
}

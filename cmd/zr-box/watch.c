/* SPDX-License-Identifier: MIT */
/*
 * Limits without an enforcer of their own: CPU time and disk are sampled, memory and processes are
 * refused by the kernel and its counters tell us so. A job that stays inside its limits is looked
 * at a few times a second at most; one without such limits not at all.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "engine.h"
#include "jail.h"
#include "keeper.h"

enum {
	SAMPLE_USEC = 250000,
	STOP_SAMPLE_USEC = 20000,
	CPU_SAMPLE_MIN_USEC = 10000,
	DISK_FIRST_USEC = 1000000,
	/* Looking at the files may take this share of the time, 1/n … */
	DISK_EFFORT = 30,
	/* … and this long at once: meanwhile nobody empties the pipes. */
	DISK_LOOK_USEC = 50000,
	DISK_LAST_LOOK_USEC = 5000000,
	DISK_DEPTH_MAX = 100,
};

uint64_t watch_cpu_usec(const struct keeper *k)
{
	struct rusage ru;
	uint64_t v;

	if (cgroup_cpu_usec(&k->cg, &v) >= 0)
		return v;
	if (getrusage(RUSAGE_CHILDREN, &ru) < 0)
		return 0;
	return (uint64_t)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) * USEC_PER_SEC +
	       (uint64_t)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec);
}

/* --- disk ------------------------------------------------------------------------------------- */

struct look {
	uint64_t bytes, until;
	unsigned count;
};

static void add_dir(int dirfd, const char *name, struct look *l, unsigned depth);

static void add_entry(int fd, const char *name, struct look *l, unsigned depth)
{
	struct stat st;

	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	l->bytes += (uint64_t)st.st_blocks * 512;
	if (S_ISDIR(st.st_mode) && depth < DISK_DEPTH_MAX)
		add_dir(fd, name, l, depth + 1);
}

static bool out_of_time(struct look *l)
{
	return (++l->count & 63) == 0 && time_mono_usec() > l->until;
}

static void add_dir(int dirfd, const char *name, struct look *l, unsigned depth)
{
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d) {
		if (fd >= 0)
			close(fd);
		return;
	}
	for (struct dirent *de; !out_of_time(l) && (de = readdir(d));)
		if (!str_eq(de->d_name, ".") && !str_eq(de->d_name, ".."))
			add_entry(fd, de->d_name, l, depth);
	closedir(d);
}

/* What could not be looked at in the time is not counted: the figure is never too high. */
static void look_at_disk(struct keeper *k, uint64_t at_most_usec)
{
	struct look l = { .until = time_mono_usec() + at_most_usec };
	uint64_t max = k->spec->limits.disk_bytes;
	char limit[32];

	if (k->engine)
		add_dir(k->dir, "jail", &l, 0);
	add_dir(k->dir, "work", &l, 0);
	add_dir(k->dir, "tmp", &l, 0);
	add_dir(k->dir, "output", &l, 0);
	violations_used(k, NEAR_DISK, l.bytes, max);
	if (l.bytes <= max)
		return;
	str_size_text(limit, sizeof(limit), max);
	verdict(k, BOX_DISK, "%s uses more than %s of disk", phase_name(k->phase), limit);
}

static void sample_disk(struct keeper *k, uint64_t now)
{
	uint64_t took;

	look_at_disk(k, DISK_LOOK_USEC);
	took = time_mono_usec() - now;
	k->disk_usec =
		now + took +
		(took * DISK_EFFORT > DISK_FIRST_USEC ? took * DISK_EFFORT : DISK_FIRST_USEC);
}

/* --- counters --------------------------------------------------------------------------------- */

static void look_at_counters(struct keeper *k)
{
	const struct limits *l = &k->spec->limits;
	const char *phase = phase_name(k->phase);
	char limit[32];
	uint64_t v;

	if (l->memory_bytes && cgroup_oom_kills(&k->cg, &v) >= 0 && v) {
		str_size_text(limit, sizeof(limit), l->memory_bytes);
		violations_used(k, NEAR_MEMORY, l->memory_bytes, l->memory_bytes);
		verdict(k, BOX_MEMORY, "%s needs more memory than %s", phase, limit);
	}
	if (l->pids && cgroup_pids_refused(&k->cg, &v) >= 0 && v) {
		violations_used(k, NEAR_PIDS, l->pids, l->pids);
		verdict(k, BOX_PIDS, "%s needs more than %llu processes", phase,
			(unsigned long long)l->pids);
	}
}

/* What is near its limit, or was refused, without having ended the job. */
static void look_at_jail(struct keeper *k)
{
	const struct limits *l = &k->spec->limits;
	uint64_t v;

	violations_used(k, NEAR_DISK, jail_disk_bytes(k), l->disk_bytes);
	/* One is init. */
	if (cgroup_pids_most(&k->cg, &v) >= 0 && v)
		violations_used(k, NEAR_PIDS, v - 1, l->pids);
}

/* In a container's own group, which is gone, the kernel has counted what it refused; in ours there is
 * the most that there were. */
static void look_at_pids(struct keeper *k)
{
	uint64_t ours = k->spec->container->group ? 0 : ENGINE_PIDS;
	uint64_t v, max = k->spec->limits.pids;

	if (cgroup_pids_most(&k->cg, &v) < 0)
		return;
	v = v > ours ? v - ours : 0;
	violations_used(k, NEAR_PIDS, v, max);
	if (v >= max && !(k->leader_ended && k->leader_status == 0))
		verdict(k, BOX_PIDS, "%s needs more than %llu processes", phase_name(k->phase),
			(unsigned long long)max);
}

static uint64_t look_at_cpu(struct keeper *k)
{
	uint64_t max = k->spec->limits.cpu_usec;
	uint64_t used = watch_cpu_usec(k) - k->cpu_before_usec;
	char limit[32];

	violations_used(k, NEAR_CPU, used, max);
	if (used <= max)
		return max - used;
	str_span_text(limit, sizeof(limit), max);
	verdict(k, BOX_CPU_LIMIT, "%s used more than %s of CPU time", phase_name(k->phase), limit);
	return 0;
}

/* Soon enough that the limit is hardly passed, however many processors the job uses. */
static uint64_t cpu_pause(uint64_t left)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);
	uint64_t pause = left / (uint64_t)(n > 0 ? n : 1);

	return pause < CPU_SAMPLE_MIN_USEC ? CPU_SAMPLE_MIN_USEC : pause;
}

/* When to look next, with so much processor time left. */
static uint64_t next_sample(const struct keeper *k, uint64_t now, uint64_t cpu_left_usec)
{
	const struct limits *l = &k->spec->limits;
	uint64_t pause = UINT64_MAX;

	if (l->memory_bytes || l->pids)
		pause = SAMPLE_USEC;
	/* What ends the job ends it soon. */
	if (k->jail && k->spec->sandbox.stop)
		pause = STOP_SAMPLE_USEC;
	if (l->cpu_usec && cpu_pause(cpu_left_usec) < pause)
		pause = cpu_pause(cpu_left_usec);
	return pause == UINT64_MAX ? UINT64_MAX : now + pause;
}

static void sample(struct keeper *k, uint64_t now)
{
	look_at_counters(k);
	if (k->jail) {
		violations_look(k);
		look_at_jail(k);
	}
	k->sample_usec =
		next_sample(k, now, k->spec->limits.cpu_usec ? look_at_cpu(k) : UINT64_MAX);
}

void watch_begin(struct keeper *k)
{
	const struct limits *l = &k->spec->limits;
	uint64_t now = time_mono_usec();

	k->sample_usec = next_sample(k, now, l->cpu_usec);
	/* A jail's file system has its own bound. */
	if (l->disk_bytes && !k->jail)
		k->disk_usec = now + DISK_FIRST_USEC;
}

uint64_t watch_tick(struct keeper *k, uint64_t now)
{
	if (now >= k->sample_usec)
		sample(k, now);
	if (now >= k->disk_usec)
		sample_disk(k, now);
	return k->sample_usec < k->disk_usec ? k->sample_usec : k->disk_usec;
}

void watch_end(struct keeper *k)
{
	struct box_result *r = &k->result;
	uint64_t peak;

	r->cpu_usec += watch_cpu_usec(k) - k->cpu_before_usec;
	if (k->engine)
		look_at_pids(k);
	if (cgroup_memory_peak(&k->cg, &peak) >= 0)
		r->memory_peak_bytes = peak;
	if (r->memory_peak_bytes != BOX_UNKNOWN)
		violations_used(k, NEAR_MEMORY, r->memory_peak_bytes, k->spec->limits.memory_bytes);
	if (k->jail) {
		look_at_jail(k);
		violations_end(k);
	}
	look_at_counters(k);
	if (k->spec->limits.cpu_usec)
		(void)look_at_cpu(k);
	k->untouched = folders_are_untouched(k);
	if (k->spec->limits.disk_bytes && !k->jail && k->exec_usec && (!k->untouched || k->engine))
		look_at_disk(k, DISK_LAST_LOOK_USEC);
}

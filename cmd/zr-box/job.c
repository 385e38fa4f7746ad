/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/str.h"
#include "engine.h"
#include "exec/journal.h"
#include "exec/spare.h"
#include "jail.h"
#include "keeper.h"

void job_init(struct keeper *k)
{
	memset((char *)k + offsetof(struct keeper, spec), 0,
	       sizeof(*k) - offsetof(struct keeper, spec));
	k->dir = k->journal = k->tree = k->timing_lock = -1;
	for (int i = 0; i < IN_N; i++)
		k->in[i] = -1;
	k->cg = (struct cgroup_box){
		.v2 = -1,
		.memory = -1,
		.pids = -1,
		.cpu = -1,
		.cpuset = -1,
		.devices = -1,
		.oom_event = -1,
	};
	violations_init(&k->violations);
	box_result_init(&k->result);
}

static void job_done(struct keeper *k)
{
	if (k->journal >= 0)
		close(k->journal);
	if (k->dir >= 0)
		close(k->dir);
	cgroup_close(&k->cg);
	gpus_let_go(k);
	timing_let_go(k);
	json_decref(k->conditions);
	json_decref(k->isolation);
	box_result_done(&k->result);
	violations_done(&k->violations);
	spec_free(k->spec);
	free(k->path);
	/* Whatever hangs on the folder's file system may be unmounted between jobs. */
	(void)!chdir("/");
}

static int open_box(struct keeper *k, struct err *e)
{
	char full[PATH_MAX];
	int r;

	k->tree = k->dir;
	k->output = "output";
	if (k->entered) {
		r = jail_reopen(k, full, e);
		if (r < 0)
			return r;
	} else if (fchdir(k->dir) < 0 || !getcwd(full, sizeof(full))) {
		return err_sys(e, "go to the box folder");
	}
	k->path = strdup(full);
	if (!k->path)
		return err_nomem(e);
	r = spec_read(k->dir, &k->spec, e);
	if (r == 0 && !str_eq(strrchr(k->path, '/') + 1, k->spec->attempt_id))
		r = err_input(e, SPEC_FILE " is of another box, %s", k->spec->attempt_id);
	return r;
}

/* A box whose journal has a line has been run, whatever came of it: it does not run twice. */
static int begin_journal(struct keeper *k, struct err *e)
{
	if (!journal_is_empty(k->dir))
		return err_set(e, EEXIST, ERR_INPUT, "this box has run already");
	FAILPOINT("keeper.taken");
	return journal_add_begun(k->journal, e);
}

/* In a jail a job has others, which are made with it. */
static int make_folders(struct keeper *k, struct err *e)
{
	if (k->spec->sandbox.level == ISOLATION_SANDBOX)
		return 0;
	for (size_t i = 0; i < ARRAY_LEN(job_folders); i++)
		if (mkdirat(k->dir, job_folders[i], 0700) < 0 && errno != EEXIST)
			return err_sys(e, "make folder %s", job_folders[i]);
	return 0;
}

/* Out of the worker's control group, where a restart of its service would end us. */
static void move_to_keepers(const struct keeper *k)
{
	const char *dir = k->spec->cgroup.keepers;
	auto_close int fd = dir ? open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
	auto_close int procs = fd < 0 ? -1 : openat(fd, "cgroup.procs", O_WRONLY | O_CLOEXEC);

	if (procs >= 0 && write(procs, "0", 1) < 0)
		return; /* no harm while the worker's service runs */
}

/* Not a limit that anything rests on: where it cannot be had the result says so. */
static int share_cpu(struct keeper *k, struct err *e)
{
	int r = cgroup_limit_cpu(&k->cg, k->spec->cpu_percent, k->spec->cpu_weight, e);

	k->no_cpu_group = r == -ENOENT;
	return k->no_cpu_group ? 0 : r;
}

static int build(struct keeper *k, struct err *e)
{
	struct limits l = k->spec->limits;
	int r;

	move_to_keepers(k);
	/* Of the processes in a jail one is ours. */
	l.pids += l.pids && k->spec->sandbox.level == ISOLATION_SANDBOX;
	/* And in the groups of a container the engine, unless it makes them. */
	if (k->spec->container && !k->spec->container->group) {
		l.memory_bytes += l.memory_bytes ? ENGINE_MEMORY : 0;
		l.pids += l.pids ? ENGINE_PIDS : 0;
	}
	r = control_enter(k, e);
	if (r == 0)
		r = make_folders(k, e);
	if (r == 0)
		r = cgroup_make(&k->spec->cgroup, k->spec->attempt_id, &l, &k->cg, e);
	if (r == 0 && (k->spec->cpu_percent || k->spec->cpu_weight))
		r = share_cpu(k, e);
	if (r == 0)
		r = jail_begin(k, e);
	if (r == 0)
		r = engine_begin(k, e);
	if (r < 0)
		return r;
	k->isolation = isolation_describe(k);
	if (!k->isolation || timing_begin(k) < 0)
		return err_nomem(e);
	/* A job of the same user could otherwise attach to us and write its own verdict. */
	return prctl(PR_SET_DUMPABLE, 0) < 0 ? err_sys(e, "become non-dumpable") : 0;
}

static void run_phases(struct keeper *k)
{
	for (enum phase p = 0; p < PHASE_N && !k->decided && !k->stuck; p++) {
		if (!k->spec->argv[p])
			continue;
		if (p == PHASE_RUN) {
			timing_take(k);
			gpus_take(k);
		}
		lease_check(k);
		if (!k->decided)
			phase_run(k, p);
		if (p == PHASE_RUN && !k->stuck) {
			gpus_let_go(k);
			timing_let_go(k);
		}
	}
}

static void run_box(struct keeper *k)
{
	struct err e = { 0 };

	FAILPOINT("keeper.begun");
	logfile_init(&k->log[0], k->dir, OUT_LOG_FILE, k->spec->log_cap);
	logfile_init(&k->log[1], k->dir, ERR_LOG_FILE, k->spec->log_cap);
	if (build(k, &e) < 0)
		verdict(k, BOX_INFRASTRUCTURE, "%s", e.msg);
	else
		run_phases(k);
	finish(k);
	FAILPOINT("keeper.end");
	control_leave(k);
	FAILPOINT("keeper.ended");
	if (k->stuck)
		end_wait_forever(k);
	finish_cleaning(k);
}

int job_keep(struct keeper *k, int dir, int journal, const struct term *lease)
{
	struct err e = { 0 };
	int r;

	job_init(k);
	k->dir = dir;
	k->journal = journal;
	r = open_box(k, &e);
	if (r == 0)
		lease_begin(k, lease);
	if (r == 0)
		r = begin_journal(k, &e);
	if (r < 0)
		/* There is no box to report in; by the journal's lock the worker will know. */
		fprintf(stderr, "zr-box: %s\n", e.msg);
	else
		run_box(k);
	job_done(k);
	return r == 0 ? 0 : e.kind == ERR_INPUT ? 2 : 1;
}

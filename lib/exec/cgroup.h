/* SPDX-License-Identifier: MIT */
/*
 * Control groups as this host has them. Tracking (which processes belong to a job, killing them) is
 * version 2 wherever a v2 tree is mounted, also on hybrid hosts; limits are v2 files where the
 * controllers are delegated to us, else directories of the v1 hierarchies.
 * The worker probes once; a keeper only makes and removes directories.
 */
#ifndef ZR_EXEC_CGROUP_H
#define ZR_EXEC_CGROUP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/attr.h"
#include "base/err.h"
#include "exec/limits.h"

/* Absolute directories below which boxes are made; NULL: not available. */
struct cgroup_host {
	char *v2;                                   /* tracking */
	bool v2_memory, v2_pids, v2_cpu, v2_cpuset; /* and these limits */
	char *v1_memory, *v1_pids, *v1_cpu, *v1_cpuset, *v1_devices;
	char *keepers; /* v2 directory that keepers move to; NULL: they stay with their worker */
};
void cgroup_host_done(struct cgroup_host *h);
DEFINE_AUTO_DONE(cgroup_host);
int cgroup_host_copy(const struct cgroup_host *from, struct cgroup_host *to,
		     struct err *e) must_check;

/*
 * `parent`: the setting cgroup_parent: NULL: the group this process is in; "none": no groups at
 * all; else a path from the root of each hierarchy, made if missing. Tries what it reports: makes a
 * directory, kills it, removes it. No group at all is success with everything NULL.
 */
int cgroup_probe(const char *parent, struct cgroup_host *ret, struct err *e) must_check;

/* The directories of one box, as descriptors; -1: not there. One set serves all its phases: it is
 * empty between them. */
struct cgroup_box {
	int v2;
	int memory; /* where the memory limit is: v2 itself or a v1 directory; -1: nowhere */
	int pids;
	int cpu, cpuset, devices; /* only after cgroup_limit_cpu() and the like */
	/* cgroup.kill was written: on Linux 6.13 and later CLONE_INTO_CGROUP then starts processes
	 * that are killed at once, so from here on they have to join by themselves. */
	bool killed;
	int oom_event; /* cgroup_watch_oom(); or -1 */
	uint64_t ooms;
	const struct cgroup_host *host;
	char name[48];
};

/* Makes the directories and writes memory and pids limits. v1 directories are only made for a limit
 * that is set: each costs 0.1 ms. As long as it is open, ret->v2 has a lock that cgroup_take() respects. */
int cgroup_make(const struct cgroup_host *h, const char *attempt_id, const struct limits *l,
		struct cgroup_box *ret, struct err *e) must_check;
/* The same directories again, for cleaning up after a keeper; none at all is success. */
void cgroup_open(const struct cgroup_host *h, const char *attempt_id, struct cgroup_box *c);
void cgroup_close(struct cgroup_box *c);

/* Before anything is in it. -ENOENT: this host has no such controller for us. `percent`: of one
 * processor, 0: no bound; `weight`: beside others, 1 to 10000, 0: as usual, which is 100. */
int cgroup_limit_cpu(struct cgroup_box *c, uint64_t percent, uint64_t weight,
		     struct err *e) must_check;
/* "0-2,4"; also for what is in it already. */
int cgroup_limit_cpus(struct cgroup_box *c, const char *cpus, struct err *e) must_check;
/* Version 1: these character devices, for reading and writing, and no others. On version 2 it is a
 * program that does this, see exec/devices.h. */
int cgroup_limit_devices(struct cgroup_box *c, const dev_t *allowed, size_t n,
			 struct err *e) must_check;

/* For the new process itself (async-signal-safe): joins all directories, or all but v2, in which
 * CLONE_INTO_CGROUP has put it already. */
int cgroup_join(const struct cgroup_box *c, bool in_v2) must_check;

/* Signals every process in it. SIGKILL goes by cgroup.kill where there is one: at once and without
 * a gap; everything else is a walk that a storm of forks can outrun. */
int cgroup_signal(const struct cgroup_box *c, int signo);
/* -ENOENT without any directory. */
int cgroup_populated(const struct cgroup_box *c, bool *ret) must_check;
/* Removes the directories, which must be empty; waits for the kernel, two seconds at most. Of a box for
 * which none were made (all -1): does nothing. */
int cgroup_remove(const struct cgroup_box *c, struct err *e);

/* The attempts of which there are directories, v1 ones included; some may be named twice. */
int cgroup_list(const struct cgroup_host *h, char ***ret_ids) must_check;
/* For removing what no keeper uses. 0: nobody who makes this box can come before *ret_lock is closed, which
 * is -1 if there is no v2 directory. -EBUSY: a keeper has it, or without v2 nobody knows. */
int cgroup_take(const struct cgroup_host *h, const char *attempt_id, int *ret_lock) must_check;

/* What somebody else, an engine, has made by the path `parent`/`name` in the trees of version 1. */
void cgroup_remove_v1(const char *parent, const char *name);

/* The v1 directories become what has the same name there as the v2 one, *ret, so that who makes a group
 * by one path for all trees makes it below the box's. Without v2: *ret is NULL. */
int cgroup_align(struct cgroup_host *h, char **ret, struct err *e) must_check;
/* Version 1 counts kills in the group of the victim alone, which may be one below this one and gone
 * when we look: from here on the kernel tells each time. */
int cgroup_watch_oom(struct cgroup_box *c, struct err *e) must_check;

/* Counters; -ENOENT where there is none. */
int cgroup_cpu_usec(const struct cgroup_box *c, uint64_t *ret) must_check;
int cgroup_memory_peak(const struct cgroup_box *c, uint64_t *ret) must_check;
int cgroup_oom_kills(struct cgroup_box *c, uint64_t *ret) must_check;
/* The most processes at a time, or, before Linux 6.6, how many there are now. */
int cgroup_pids_most(const struct cgroup_box *c, uint64_t *ret) must_check;
int cgroup_pids_refused(const struct cgroup_box *c, uint64_t *ret) must_check;

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Control groups as this host has them. Tracking (which processes belong to a job, killing them) is
 * version 2 wherever a v2 tree is mounted, also on hybrid hosts; limits are v2 files where the
 * controllers are delegated to us, else directories of the v1 memory and pids hierarchies.
 * The worker probes once; a keeper only makes and removes directories.
 */
#ifndef ZR_EXEC_CGROUP_H
#define ZR_EXEC_CGROUP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"
#include "exec/limits.h"

/* Absolute directories below which boxes are made; NULL: not available. */
struct cgroup_host {
	char *v2;                /* tracking */
	bool v2_memory, v2_pids; /* and these limits */
	char *v1_memory, *v1_pids;
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

#endif

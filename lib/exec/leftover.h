/* SPDX-License-Identifier: MIT */
/* What a killed keeper may have left behind: processes and control groups of its job. */
#ifndef ZR_EXEC_LEFTOVER_H
#define ZR_EXEC_LEFTOVER_H

#include <stdbool.h>

#include "base/attr.h"
#include "base/err.h"
#include "exec/cgroup.h"

/*
 * One round: kills what is there and returns whether the job is gone; if not, come back in some
 * milliseconds. With a control group that is certain. Without one it is a search for processes of
 * our user whose environment names the attempt, which a job can escape by emptying its own.
 */
bool leftover_kill(const struct cgroup_host *h, const char *attempt_id) must_check;
/* Afterwards: removes the empty groups. */
void leftover_remove(const struct cgroup_host *h, const char *attempt_id);
/* Removes empty groups of boxes that are nobody's: no keeper has them, and this state folder has no such
 * box. Other workers of this host may be at work meanwhile, those of other state folders too. */
void leftover_sweep(const struct cgroup_host *h, const char *state_dir);

#endif

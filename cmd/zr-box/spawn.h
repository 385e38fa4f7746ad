/* SPDX-License-Identifier: MIT */
/* What every process that becomes a script does between clone and execve(). Async-signal-safe. */
#ifndef ZR_CMD_ZR_BOX_SPAWN_H
#define ZR_CMD_ZR_BOX_SPAWN_H

#include "keeper.h"

enum {
	FD_PROGRESS = 3,
	FD_ERROR = 4, /* close-on-exec: where a failure is told */
};

/* Landlock's ruleset with the member that the headers of Debian 12 end before. */
struct landlock_ruleset {
	uint64_t handled_access_fs, handled_access_net, scoped;
};
enum {
	LANDLOCK_ABI_SCOPE = 6,
	LANDLOCK_SCOPES = 1 | 2, /* abstract unix sockets, signals */
};

int spawn_rlimits(const struct keeper *k);
/* 0 null, 1, 2 and FD_PROGRESS the job's, FD_ERROR, and no others. */
int spawn_descriptors(const int from[IN_N], int null);
/* A bit for each signal that we handle or ignore. */
uint64_t spawn_own_signals(void);
/* Of these nothing is passed on, and no signal is blocked. */
void spawn_default_signals(uint64_t own);
/* Says whom the kernel kills first; not an error where that is refused. `path`: the oom_score_adj of a
 * process, which for a user other than root belongs to root until the process is dumpable. */
void spawn_prefer_to_die(const char *path);

/* On the processors of the phase, if they were chosen. What a group forbids stays forbidden. */
void spawn_place(const struct keeper *k);

/* NAME=value; a name that is there already is replaced. */
int spawn_set_env(char ***env, const char *line) must_check;
/* In the keeper: execve() said `error`. */
void spawn_exec_failed(struct keeper *k, int error);

#endif

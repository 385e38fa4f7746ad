/* SPDX-License-Identifier: MIT */
/* One table per noun, each in the file of its name. */
#ifndef ZR_CMD_ZR_COMMANDS_H
#define ZR_CMD_ZR_COMMANDS_H

#include "cli.h"

struct evaluator;
struct gpu_list;
struct pack;

extern const struct command_group evaluate_group;
extern const struct command_group challenge_group;
extern const struct command_group evaluator_group;
extern const struct command_group submission_group;
extern const struct command_group evaluation_group;
extern const struct command_group leaderboard_group;
extern const struct command_group worker_group;
extern const struct command_group channel_group;
extern const struct command_group queue_group;
extern const struct command_group event_group;
extern const struct command_group gpu_group;
extern const struct command_group host_group;
extern const struct command_group db_group;

/* Verbs with a file of their own. */
int cmd_submissions_eval(struct cli *c);
int cmd_evaluations_watch(struct cli *c);
int cmd_evaluations_wait(struct cli *c);
int cmd_evaluations_logs(struct cli *c);
int cmd_evaluations_why(struct cli *c);
int cmd_evaluations_cancel(struct cli *c);
int cmd_evaluations_retry(struct cli *c);
int cmd_doctor(struct cli *c);
int cmd_gpus_run(struct cli *c);
int cmd_workers(struct cli *c);
int cmd_worker_container(struct cli *c);
int cmd_topology_apply(struct cli *c);
int cmd_topology_check(struct cli *c);

/* submissions.c: names what was left out; the pack's manifest has the whole list. */
void submissions_tell_refused(const struct cli *c, const struct pack *p);

/* evaluators.c: a folder anywhere, or a bare executable. */
int evaluators_load_path(const char *path, struct evaluator **ret, struct err *e) must_check;

/* gpus.c: evaluator_runnable(), and the GPUs that it asks for. *list is asked for once and kept for the
 * next call; the caller frees it. `s` may be NULL. */
int gpus_runnable(const struct settings *s, const struct evaluator *ev, struct gpu_list **list,
		  struct err *e) must_check;

#endif

/* SPDX-License-Identifier: MIT */
/* The nouns, in the order of `zr --help`. */
#include "commands.h"
#include "cli.h"

/* clang-format off */
const struct command_group *const command_groups[] = {
	&evaluate_group,
	&challenge_group,
	&evaluator_group,
	&submission_group,
	&evaluation_group,
	&leaderboard_group,
	&worker_group,
	&channel_group,
	&queue_group,
	&event_group,
	&gpu_group,
	&host_group,
	&db_group,
	NULL,
};
/* clang-format on */

/* SPDX-License-Identifier: MIT */
/* One table per noun, each in the file of its name. */
#ifndef ZR_CMD_ZR_COMMANDS_H
#define ZR_CMD_ZR_COMMANDS_H

#include "cli.h"

extern const struct command_group worker_group;
extern const struct command_group host_group;
extern const struct command_group db_group;

#endif

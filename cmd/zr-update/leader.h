/* SPDX-License-Identifier: MIT */
/*
 * Which of all zr-update processes collects results, builds boards and sweeps the outbox. Leadership
 * saves work, it does not protect data: everything the leader does may be done twice.
 */
#ifndef ZR_CMD_ZR_UPDATE_LEADER_H
#define ZR_CMD_ZR_UPDATE_LEADER_H

#include "update.h"

int leader_new(struct update *u, struct leader **ret, struct err *e) must_check;
/* Gives the office up, so that the next one need not wait. */
void leader_resign(struct leader *l);
void leader_free(struct leader *l);
DEFINE_AUTO(leader);

bool leader_is_me(const struct leader *l);
/* The name of this process in the database: no other one has it. */
const char *leader_name(const struct leader *l);
/* The connection is new: listen again, ask again; or it is lost. */
void leader_connected(struct leader *l, bool up);
/* Wakes the leader, if that is another process. */
void leader_tell(struct leader *l);

#endif

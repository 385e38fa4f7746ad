/* SPDX-License-Identifier: MIT */
/*
 * Removes events that are older than the setting event_retention, of evaluations that have ended, and
 * parked events of that age: once an hour, in small steps with pauses, on the connection that no
 * event waits for.
 */
#ifndef ZR_CMD_ZR_UPDATE_PRUNE_H
#define ZR_CMD_ZR_UPDATE_PRUNE_H

#include "update.h"

struct prune;
int prune_new(struct update *u, struct prune **ret, struct err *e) must_check;
void prune_free(struct prune *p);
DEFINE_AUTO(prune);

/* The leader calls it every few seconds; mostly it does nothing. */
void prune_poke(struct prune *p);

#endif

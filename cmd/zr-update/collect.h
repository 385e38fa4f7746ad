/* SPDX-License-Identifier: MIT */
/*
 * Brings sealed results from eval hosts to the results folder, host by host: each host has a queue, a
 * process that fetches, and a back-off of its own, so that one that is away holds up nobody else. The
 * database is the real queue; what is in memory here is only its front.
 */
#ifndef ZR_CMD_ZR_UPDATE_COLLECT_H
#define ZR_CMD_ZR_UPDATE_COLLECT_H

#include "update.h"

int collect_new(struct update *u, struct collect **ret, struct err *e) must_check;
/* Fetches under way are given up; their results stay pending. */
void collect_free(struct collect *c);
DEFINE_AUTO(collect);

/* Results may wait. */
void collect_poke(struct collect *c);
/* The settings have changed, or another process leads: every host begins anew. */
void collect_reset(struct collect *c);

#endif

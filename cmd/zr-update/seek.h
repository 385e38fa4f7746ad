/* SPDX-License-Identifier: MIT */
/*
 * Events that have disappeared: confirmed by the broker, and gone with the queue that held them. Their
 * attempts are those that no worker holds and that never ended, and requests that are in no queue. All
 * events are in the stream zr.events, too: what it has of these goes into the queue again. Nobody minds if
 * it was applied already. An attempt whose end is not there either is lost.
 */
#ifndef ZR_CMD_ZR_UPDATE_SEEK_H
#define ZR_CMD_ZR_UPDATE_SEEK_H

#include "update.h"

struct seek;
int seek_new(struct update *u, struct seek **ret, struct err *e) must_check;
void seek_free(struct seek *s);
DEFINE_AUTO(seek);

/* The leader calls it every few seconds. */
void seek_poke(struct seek *s);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Whether another attempt follows one that is over, in a channel that is a folder. What has been tried
 * is counted in the request itself, in its member `tries`: "own" failures, those of "infrastructure",
 * and how often its keeper was "killed". Pure.
 */
#ifndef ZR_MESSAGING_DIRRETRY_H
#define ZR_MESSAGING_DIRRETRY_H

#include <jansson.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/id.h"
#include "base/settings.h"
#include "messaging/message.h"

/* 1: `m`, a request, has become the one for the next attempt, with `id` as its own, and *ret_delay_usec is to
 * pass before; 0: `end`, the body of a failed event, was the last word. */
int dirretry_after(struct message *m, const json_t *end, const struct settings *s,
		   char id[UUID_LEN + 1], uint64_t *ret_delay_usec, struct err *e) must_check;
/* The same for an attempt that was lost together with its worker. */
int dirretry_lost(struct message *m, const struct settings *s, char id[UUID_LEN + 1],
		  struct err *e) must_check;

#endif

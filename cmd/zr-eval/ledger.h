/* SPDX-License-Identifier: MIT */
/*
 * Which requests this host has claimed lately: one empty file each in <state_dir>/spool/claimed,
 * named by the request's id. A request whose acknowledgement was lost comes again, marked as
 * redelivered, perhaps to another worker and after its job has ended: it must not run twice.
 *
 * The files are not synced: after a power failure one may be missing, and the request runs again.
 */
#ifndef ZR_CMD_ZR_EVAL_LEDGER_H
#define ZR_CMD_ZR_EVAL_LEDGER_H

#include <stdbool.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/loop.h"

struct ledger;
/* Entries older than LEDGER_KEEP_USEC are removed at the start and now and then: long after a broker
 * that was away has given back what it held. */
#define LEDGER_KEEP_USEC (24 * 3600 * USEC_PER_SEC)
int ledger_new(struct loop *l, const char *state_dir, struct ledger **ret,
	       struct err *e) must_check;
void ledger_free(struct ledger *g);

/* `id` is a UUID. After the box is durable, before the request is acknowledged. */
int ledger_add(struct ledger *g, const char *id, struct err *e) must_check;
bool ledger_has(const struct ledger *g, const char *id);

#endif

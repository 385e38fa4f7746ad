/* SPDX-License-Identifier: MIT */
/*
 * Which requests this host has claimed lately, and with which attempts: the ids of both, one a line, in
 * one file a day under <state_dir>/spool/claimed. A request whose acknowledgement was lost comes again,
 * marked as redelivered, perhaps to another worker and after its job has ended: it must not run twice. Nor
 * must the box of a worker that was killed before its claim stood, when another has claimed the request since.
 *
 * The files are not synced and hold for the boot they are named by: after a power failure a claim may
 * be missing of which the ledger knows, and the request runs again.
 */
#ifndef ZR_CMD_ZR_EVAL_LEDGER_H
#define ZR_CMD_ZR_EVAL_LEDGER_H

#include <stdbool.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/loop.h"

struct ledger;
/* Files older than this are removed at the start and now and then: long after a broker that was away
 * has given back what it held. Their days are counted from the boot. */
#define LEDGER_KEEP_DAYS 2
int ledger_new(struct loop *l, const char *state_dir, struct ledger **ret,
	       struct err *e) must_check;
void ledger_free(struct ledger *g);

/* UUIDs. With the box, before the request is acknowledged. */
int ledger_add(struct ledger *g, const char *request, const char *attempt,
	       struct err *e) must_check;
/* The id of a request or of an attempt. Reads files: for what was redelivered, and at the start. */
bool ledger_has(const struct ledger *g, const char *id);

#endif

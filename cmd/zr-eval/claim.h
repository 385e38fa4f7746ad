/* SPDX-License-Identifier: MIT */
/*
 * The claim: from an unsettled request to a box that this host owes an outcome for. A request is
 * settled only after what it led to is on disk: the claim, the `failed` or `canceled` event, or the
 * dead queue.
 *
 * A claim is a box folder, which outlives us but not the host's crash, and its text as a note beside
 * the events, which outlives both and is synced together with them. The job need not wait for the
 * note: if the host crashes before it is on disk, the request comes again, and nobody has heard of
 * the job before.
 *
 * A claim that lives in the broker as well, so that another host takes over when this one is lost
 * for good, belongs here between box_prepare() and channel_ack().
 */
#ifndef ZR_CMD_ZR_EVAL_CLAIM_H
#define ZR_CMD_ZR_EVAL_CLAIM_H

#include "eval.h"

void claim_request(struct eval *ev, struct channel_request *token, const struct message *m,
		   bool redelivered);

/* A note of a former worker. False: its box was released. */
bool claim_found(struct eval *ev, uint64_t note, const char *attempt_id, const void *text,
		 size_t n);
/* The note of a box that is adopted, 0 if it has none. It is the job's then. */
uint64_t claim_note_of(struct eval *ev, const char *attempt_id);
void claim_done(struct eval *ev);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The claim: from an unsettled request to a box that this host owes an outcome for. A request is
 * settled only after what it led to is on disk: the claim, the `failed` or `canceled` event, or the
 * dead queue.
 *
 * A claim is a box folder, which outlives us but not the host's crash; its text as a note beside the
 * events, which outlives both and is synced together with them; and a beat that lists the attempt
 * (beat.h) and has arrived: should this host be lost for good, others know what it had. Only then is
 * the request settled, and only what is settled is begun. If the request was taken back meanwhile,
 * the claim never was.
 */
#ifndef ZR_CMD_ZR_EVAL_CLAIM_H
#define ZR_CMD_ZR_EVAL_CLAIM_H

#include "eval.h"

void claim_request(struct eval *ev, struct channel_request *token, const struct message *m,
		   bool redelivered);

/* The request of a job whose claim is safe. False: it was taken back, and comes again. */
bool claim_settle(struct eval *ev, const struct box_spec *spec, struct channel_request *token);

/* Removes the box of a claim that never was, and its note (0: none). */
void claim_drop(struct eval *ev, struct box *box, uint64_t note);

/* Goes on with a box of a former worker, which may be one whose request was never settled. */
int claim_adopt(struct eval *ev, struct box *box, uint64_t note, struct err *e) must_check;

/* A note of a former worker. False: its box was released. */
bool claim_found(struct eval *ev, uint64_t note, const char *attempt_id, const void *text,
		 size_t n);
/* The note of a box that is adopted, 0 if it has none. It is the job's then. */
uint64_t claim_note_of(struct eval *ev, const char *attempt_id);
/* Forgets the notes of boxes that another worker adopted and released. Now and then, and before leaving. */
void claim_sweep(struct eval *ev);
void claim_done(struct eval *ev);

#endif

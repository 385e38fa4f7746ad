/* SPDX-License-Identifier: MIT */
/*
 * The claim: from an unsettled request to a box that this host owes an outcome for. A request is
 * settled only after what it led to is on disk: the box folder, the `failed` or `canceled` event,
 * or the dead queue.
 *
 * A claim that lives in the broker as well, so that another host takes over when this one is lost
 * for good, belongs here between box_prepare() and channel_ack().
 */
#ifndef ZR_CMD_ZR_EVAL_CLAIM_H
#define ZR_CMD_ZR_EVAL_CLAIM_H

#include "eval.h"

void claim_request(struct eval *ev, struct channel_request *token, const struct message *m,
		   bool redelivered);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Control messages: cancels, and leave to forget a collected result. The stream is read from its
 * beginning at every start, so a cancel that came while this worker was away, or before its request,
 * counts too: cancels are remembered, and a request that is older than its cancel is not begun.
 */
#ifndef ZR_CMD_ZR_EVAL_CONTROL_H
#define ZR_CMD_ZR_EVAL_CONTROL_H

#include "eval.h"

struct control;
int control_new(struct eval *ev, struct control **ret, struct err *e) must_check;
void control_free(struct control *c);

void control_message(struct control *c, const struct message *m);

/* Who canceled the evaluation after `created_wall_usec`, or NULL. */
const char *control_canceled_by(const struct control *c, const char *evaluation,
				uint64_t created_wall_usec);

#endif

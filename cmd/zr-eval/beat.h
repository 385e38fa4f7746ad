/* SPDX-License-Identifier: MIT */
/* This worker's state for `zr workers`: every ten seconds, and soon after each change. */
#ifndef ZR_CMD_ZR_EVAL_BEAT_H
#define ZR_CMD_ZR_EVAL_BEAT_H

#include "eval.h"

struct beat;
int beat_new(struct eval *ev, struct beat **ret, struct err *e) must_check;
void beat_free(struct beat *b);

/* Something that the message says has changed. Changes within BEAT_SOON_USEC are one message. */
void beat_changed(struct beat *b);
/* The last one: this worker is leaving. */
void beat_gone(struct beat *b);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * What this worker says of itself: at least three times per lease, and soon after each change. `zr
 * workers` shows it, and it is the lease of all that this worker has claimed: a beat lists every
 * attempt that the broker has no end of. While beats arrive the attempts are ours, and for a lease
 * after the last that did; who hears nothing for longer has them run elsewhere. So what is ours ends
 * by then: keepers see to it for their boxes (box_renew()), this file for what has no keeper yet.
 */
#ifndef ZR_CMD_ZR_EVAL_BEAT_H
#define ZR_CMD_ZR_EVAL_BEAT_H

#include "eval.h"

struct beat;
int beat_new(struct eval *ev, struct beat **ret, struct err *e) must_check;
void beat_free(struct beat *b);

/* Something that the message says has changed. Changes within BEAT_SOON_USEC are one message. */
void beat_changed(struct beat *b);
/* The next beat goes out in the next turn of the loop. Its number: job_told() is called when it, or one
 * with a higher number, has arrived. */
uint64_t beat_tell(struct beat *b);
/* What is left of the lease by CLOCK_BOOTTIME; 0: nothing. */
uint64_t beat_left_usec(const struct beat *b);
/* The last one: this worker is leaving. */
void beat_gone(struct beat *b);

#endif

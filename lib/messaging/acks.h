/* SPDX-License-Identifier: MIT */
/*
 * Which deliveries of a channel can be acknowledged together: "this one and all before it" costs a
 * quorum queue one step instead of one for each. A pure matter of numbers; delivery tags count from 1
 * (AMQP 0-9-1, 1.8.3.13 basic.ack).
 */
#ifndef ZR_MESSAGING_ACKS_H
#define ZR_MESSAGING_ACKS_H

#include <stdbool.h>
#include <stdint.h>

/* All zero: nothing was delivered yet. */
struct acks {
	uint64_t upto;            /* all tags up to here are settled */
	uint64_t wanted, settled; /* bit i: of the tag upto + 1 + i */
};

/* `tag` is to be acknowledged. False: it is too far ahead to be remembered, so alone and now. */
bool acks_want(struct acks *a, uint64_t tag);
/* `tag` was settled in another way; `and_all_before`: all that were delivered before it, too. */
void acks_settled(struct acks *a, uint64_t tag, bool and_all_before);
/* The next acknowledgement to be sent; false: there is none. *ret_multiple: it stands for all before
 * it that are not settled, and they are all wanted. */
bool acks_next(struct acks *a, uint64_t *ret_tag, bool *ret_multiple);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * What operators of the dialect pike read on standard output: one line for each step, in the words of
 * the worker that they know. Ids are foreign bytes: escaped, and cut.
 */
#ifndef ZR_MESSAGING_PIKELINES_H
#define ZR_MESSAGING_PIKELINES_H

#include <stdint.h>

#include "base/attr.h"

struct pikelines {
	void (*line)(void *user, const char *text); /* without its end; NULL: nobody reads */
	void *user;
	uint64_t since_usec;
};

void pikelines_begin(struct pikelines *l);
void pikelines_handshake(const struct pikelines *l);
void pikelines_close(const struct pikelines *l);
/* `id` is JSON, as it was given; `active` counts this one. */
void pikelines_received(const struct pikelines *l, const char *id, uint64_t number,
			unsigned active);
/* Told when it is dead: nobody else knows before. */
void pikelines_timed_out(const struct pikelines *l, const char *id);
void pikelines_completed(const struct pikelines *l, const char *id, uint64_t wall_usec);
void pikelines_end(const struct pikelines *l);

#endif

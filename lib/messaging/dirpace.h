/* SPDX-License-Identifier: MIT */
/*
 * How often a folder of many files is read (dirwatch.h says when there is a reason to): for no more than
 * a part of the time, so that all else has the rest, and a long list less often for each that is added.
 */
#ifndef ZR_MESSAGING_DIRPACE_H
#define ZR_MESSAGING_DIRPACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All zero: it was never read. Times are those of time_mono_usec(). */
struct dirpace {
	uint64_t read_usec, took_usec; /* when it was read last, and for how long */
};

void dirpace_note(struct dirpace *p, uint64_t begin_usec, uint64_t end_usec);
/* In how long it is to be read again; 0: now. `scan`: not for news, which can wait when there is much
 * to do already; `waiting`: so much. */
uint64_t dirpace_due(const struct dirpace *p, uint64_t now_usec, bool scan, size_t waiting);

#endif

/* SPDX-License-Identifier: MIT */
#include "messaging/dirpace.h"

#include "base/time.h"

#define LONG      200
#define LONG_USEC (50 * USEC_PER_MSEC)
#define PART      4 /* the pause is so many times what the reading took */

void dirpace_note(struct dirpace *p, uint64_t begin_usec, uint64_t end_usec)
{
	p->read_usec = end_usec;
	p->took_usec = end_usec - begin_usec;
}

uint64_t dirpace_due(const struct dirpace *p, uint64_t now_usec, bool scan, size_t waiting)
{
	uint64_t since = now_usec - p->read_usec, pause = PART * p->took_usec;

	if (!scan && waiting >= LONG && pause < LONG_USEC)
		pause = LONG_USEC;
	return since < pause ? pause - since : 0;
}

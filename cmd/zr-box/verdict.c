/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stdio.h>

#include "keeper.h"

/* Of several causes the one that explains the others comes first: a script that was out of memory
 * also exits with some status. 0 ranks highest. */
static const unsigned char rank[BOX_REASON_N] = {
	[BOX_SETUP] = 0,        [BOX_CANCELED] = 1,  [BOX_INFRASTRUCTURE] = 2, [BOX_LOST] = 3,
	[BOX_POISON] = 4,       [BOX_MEMORY] = 5,    [BOX_PIDS] = 6,           [BOX_DISK] = 7,
	[BOX_OUTPUT_LIMIT] = 8, [BOX_CPU_LIMIT] = 9, [BOX_WALL_LIMIT] = 10,    [BOX_SIGNAL] = 11,
	[BOX_EXIT] = 12,        [BOX_OK] = 13,
};

void verdict(struct keeper *k, enum box_reason reason, const char *fmt, ...)
{
	va_list ap;

	if (k->decided && rank[k->reason] <= rank[reason])
		return;
	k->decided = true;
	k->reason = reason;
	va_start(ap, fmt);
	vsnprintf(k->detail, sizeof(k->detail), fmt, ap);
	va_end(ap);
}

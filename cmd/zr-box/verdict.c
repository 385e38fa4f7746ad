/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stdio.h>

#include "keeper.h"

/* Of several causes the one that explains the others comes first: a script that was out of memory
 * also exits with some status. 0 ranks highest. */
static const unsigned char rank[BOX_REASON_N] = {
	[BOX_SETUP] = 0,        [BOX_CANCELED] = 1,   [BOX_INFRASTRUCTURE] = 2,
	[BOX_LOST] = 3,         [BOX_POISON] = 4,     [BOX_VIOLATION] = 5,
	[BOX_MEMORY] = 6,       [BOX_PIDS] = 7,       [BOX_DISK] = 8,
	[BOX_OUTPUT_LIMIT] = 9, [BOX_CPU_LIMIT] = 10, [BOX_WALL_LIMIT] = 11,
	[BOX_SIGNAL] = 12,      [BOX_EXIT] = 13,      [BOX_OK] = 14,
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

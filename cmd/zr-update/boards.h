/* SPDX-License-Identifier: MIT */
/*
 * Rebuilds the boards that are marked as older than the truth. A burst of ends is one rebuild: 200 ms
 * of quiet, or 2 s after the first.
 */
#ifndef ZR_CMD_ZR_UPDATE_BOARDS_H
#define ZR_CMD_ZR_UPDATE_BOARDS_H

#include "update.h"

int boards_new(struct update *u, struct boards **ret, struct err *e) must_check;
void boards_free(struct boards *b);
DEFINE_AUTO(boards);

/* Something may have changed. */
void boards_poke(struct boards *b);

#endif

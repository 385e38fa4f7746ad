/* SPDX-License-Identifier: MIT */
/*
 * What a running attempt says of itself, in the folder `live` of a channel that is a folder: its last
 * progress in EVALUATION.ATTEMPT.json, which is replaced, and pieces of its logs and refusals as lines
 * in EVALUATION.ATTEMPT.log, which grows. Nothing is synced, and what cannot be written is left out:
 * both go when the end is told.
 */
#ifndef ZR_MESSAGING_DIRLIVE_H
#define ZR_MESSAGING_DIRLIVE_H

#include <stddef.h>

/* Any event that is not durable, by its routing key; others than these are passed over. */
void dirlive_write(int dirfd, const char *key, const void *body, size_t n);
void dirlive_ended(int dirfd, const char *evaluation, int attempt);

#endif

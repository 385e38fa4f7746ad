/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_ARENA_H
#define KERNEL_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rng.h"

/*
 * A memory file that the judge shares with runners. Buffers are cut from it one behind the other, 64-byte aligned,
 * with a guard zone on both sides. Everything that is not a buffer holds the poison: a NaN, drawn anew each round.
 * A kernel that reads a guard gets NaN; one that writes there changes the pattern; one that leaves a part of its
 * result out leaves NaN there.
 */
struct arena {
	int fd;
	char *mem;
	size_t size;
	size_t used; /* bytes cut since the last arena_reset() */
	uint32_t poison;
};

/* Bytes that a buffer of `floats` takes, guards included. */
size_t arena_need(size_t floats);

/* 0 or -errno. */
int arena_init(struct arena *arena, size_t size);
void arena_done(struct arena *arena);

/*
 * Forgets all buffers, keeps `reserved` bytes at the start, and begins behind them at a random place within a page,
 * so that buffers have other addresses than in the round before.
 */
void arena_reset(struct arena *arena, size_t reserved, struct rng *rng);

/* Cuts a buffer; the arena is large enough, or this aborts. Returns its offset in bytes. */
size_t arena_cut(struct arena *arena, size_t floats);

/* Fills bytes [from, to) with the poison; both are multiples of four. */
void arena_poison(struct arena *arena, size_t from, size_t to);

/* True if all of [from, to) still is poison. */
bool arena_is_poison(const struct arena *arena, size_t from, size_t to);

/* Of bytes [0, used): to see whether anything has changed. */
uint64_t arena_checksum(const struct arena *arena);

#endif

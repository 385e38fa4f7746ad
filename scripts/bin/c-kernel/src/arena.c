/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "arena.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "channel.h"

#define ALIGN 64
#define PAGE  4096

static size_t align_up(size_t n)
{
	return (n + ALIGN - 1) / ALIGN * ALIGN;
}

size_t arena_need(size_t floats)
{
	return align_up(floats * sizeof(float)) + 2 * CHANNEL_GUARD;
}

int arena_init(struct arena *arena, size_t size)
{
	*arena = (struct arena){ .fd = -1, .size = (size / PAGE + 2) * PAGE };
	arena->fd = memfd_create("kernel", MFD_CLOEXEC);
	if (arena->fd < 0 || ftruncate(arena->fd, (off_t)arena->size) < 0)
		return -errno;
	arena->mem = mmap(NULL, arena->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
			  arena->fd, 0);
	if (arena->mem == MAP_FAILED) {
		arena->mem = NULL;
		return -errno;
	}
	return 0;
}

void arena_done(struct arena *arena)
{
	if (arena->mem)
		(void)munmap(arena->mem, arena->size);
	if (arena->fd >= 0)
		(void)close(arena->fd);
	*arena = (struct arena){ .fd = -1 };
}

void arena_reset(struct arena *arena, size_t reserved, struct rng *rng)
{
	arena->used = align_up(reserved) + (size_t)rng_int(rng, 0, PAGE / ALIGN - 1) * ALIGN;
	/* A quiet NaN with a random payload, which no arithmetic makes. */
	arena->poison = 0x7fc00001u | ((uint32_t)rng_next(rng) & 0x803ffffeu);
}

size_t arena_cut(struct arena *arena, size_t floats)
{
	size_t at = arena->used + CHANNEL_GUARD;

	arena->used += arena_need(floats);
	assert(arena->used <= arena->size);
	return at;
}

void arena_poison(struct arena *arena, size_t from, size_t to)
{
	for (size_t at = from; at < to; at += sizeof arena->poison)
		memcpy(arena->mem + at, &arena->poison, sizeof arena->poison);
}

bool arena_is_poison(const struct arena *arena, size_t from, size_t to)
{
	uint32_t wrong = 0, word;

	for (size_t at = from; at < to; at += sizeof word) {
		memcpy(&word, arena->mem + at, sizeof word);
		wrong |= word ^ arena->poison;
	}
	return wrong == 0;
}

uint64_t arena_checksum(const struct arena *arena)
{
	uint64_t sum = 0, word;

	for (size_t at = 0; at + sizeof word <= arena->used; at += sizeof word) {
		memcpy(&word, arena->mem + at, sizeof word);
		sum = (sum ^ word) * 0x9e3779b97f4a7c15u;
	}
	return sum;
}

/* SPDX-License-Identifier: MIT */
#include "rng.h"

static uint64_t rotate(uint64_t x, int by)
{
	return (x << by) | (x >> (64 - by));
}

/* splitmix64 spreads one seed over the whole state, as the authors of xoshiro advise. */
void rng_init(struct rng *rng, uint64_t seed)
{
	for (int i = 0; i < 4; i++) {
		uint64_t z = seed += 0x9e3779b97f4a7c15u;
		z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
		z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
		rng->state[i] = z ^ (z >> 31);
	}
}

uint64_t rng_next(struct rng *rng)
{
	uint64_t *s = rng->state;
	uint64_t result = rotate(s[1] * 5, 7) * 9;
	uint64_t t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotate(s[3], 45);
	return result;
}

int rng_int(struct rng *rng, int low, int high)
{
	uint64_t span = (uint64_t)high - (uint64_t)low + 1;

	return low + (int)((rng_next(rng) >> 32) * span >> 32);
}

void rng_floats(struct rng *rng, float *ret, size_t n, float center, float radius)
{
	for (size_t i = 0; i < n; i++) {
		int32_t high = (int32_t)(rng_next(rng) >> 32);
		ret[i] = center + radius * ((float)high * 0x1p-31f);
	}
}

/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_RNG_H
#define KERNEL_RNG_H

#include <stddef.h>
#include <stdint.h>

/* xoshiro256**: fast and good enough for test data; the secret is its seed, which comes from the kernel. */
struct rng {
	uint64_t state[4];
};

void rng_init(struct rng *rng, uint64_t seed);
uint64_t rng_next(struct rng *rng);

/* Uniform in [low, high], both included; low <= high. */
int rng_int(struct rng *rng, int low, int high);

/* Fills with floats uniform in [center - radius, center + radius). */
void rng_floats(struct rng *rng, float *ret, size_t n, float center, float radius);

#endif

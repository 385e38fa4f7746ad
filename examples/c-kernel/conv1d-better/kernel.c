/* SPDX-License-Identifier: MIT */
/*
 * Convolution with the loops turned inside out: 64 neighbouring results stay in registers while one tap after the
 * other is added to all of them, so the compiler makes vectors of them.
 */
#include <string.h>

#include "kernel.h"

enum {
	BLOCK = 64
};

/* `count` results from position `from`; a full block has its own copy, with a count that the compiler knows. */
static inline void block(int channels, int length, int taps, int from, int count,
			 const float *restrict x, const float *restrict w, float *restrict y)
{
	float sum[BLOCK];

	memset(sum, 0, sizeof sum);
	for (int c = 0; c < channels; c++) {
		for (int j = 0; j < taps; j++) {
			const float *signal = x + (long)c * length + from + j;
			float weight = w[(long)c * taps + j];

			for (int i = 0; i < count; i++)
				sum[i] += weight * signal[i];
		}
	}
	memcpy(y + from, sum, (unsigned long)count * sizeof *sum);
}

void conv1d(int channels, int outputs, int length, int taps, const float *x, const float *w,
	    float *y)
{
	int valid = length - taps + 1, blocks = valid - valid % BLOCK;

	for (int o = 0; o < outputs; o++, w += (long)channels * taps, y += valid) {
		for (int i = 0; i < blocks; i += BLOCK)
			block(channels, length, taps, i, BLOCK, x, w, y);
		if (blocks < valid)
			block(channels, length, taps, blocks, valid - blocks, x, w, y);
	}
}

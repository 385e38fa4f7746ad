/* SPDX-License-Identifier: MIT */
/*
 * Softmax with an exponential of its own that the compiler can make vectors of: exp(x) = 2^n * exp(r), with n the
 * nearest whole number of x / ln 2 and a polynomial for |r| <= ln 2 / 2. Sums run in 16 lanes.
 */
#include <stdint.h>
#include <string.h>

#include "kernel.h"

enum {
	LANES = 16
};

/* For x <= 0. Below -87 the result would be no normal number any more; it is taken for 0 there. */
static inline float exponential(float x)
{
	float clipped = x > -87 ? x : -87;
	/* Adding 1.5 * 2^23 rounds to a whole number, which then stands in the low bits. */
	float shifted = clipped * 1.44269504f + 12582912.0f;
	float n = shifted - 12582912.0f;
	float r = clipped - n * 0.693359375f + n * 2.12194440e-4f;
	float p = 1.9875691500e-4f;
	uint32_t bits;
	float scale;

	p = p * r + 1.3981999507e-3f;
	p = p * r + 8.3334519073e-3f;
	p = p * r + 4.1665795894e-2f;
	p = p * r + 1.6666665459e-1f;
	p = p * r + 5.0000001201e-1f;
	p = p * r * r + r + 1;
	memcpy(&bits, &shifted, sizeof bits);
	bits = (bits + 127u) << 23;
	memcpy(&scale, &bits, sizeof scale);
	return x > -87 ? p * scale : 0;
}

static float row_max(int cols, const float *x)
{
	float lane[LANES], max = x[0];
	int i = 0;

	for (int j = 0; j < LANES; j++)
		lane[j] = x[0];
	for (; i + LANES <= cols; i += LANES)
		for (int j = 0; j < LANES; j++)
			lane[j] = x[i + j] > lane[j] ? x[i + j] : lane[j];
	for (int j = 0; j < LANES; j++)
		max = lane[j] > max ? lane[j] : max;
	for (; i < cols; i++)
		max = x[i] > max ? x[i] : max;
	return max;
}

static float row_sum(int cols, const float *y)
{
	float lane[LANES] = { 0 }, sum = 0;
	int i = 0;

	for (; i + LANES <= cols; i += LANES)
		for (int j = 0; j < LANES; j++)
			lane[j] += y[i + j];
	for (int j = 0; j < LANES; j++)
		sum += lane[j];
	for (; i < cols; i++)
		sum += y[i];
	return sum;
}

static void softmax_row(int cols, const float *restrict x, float *restrict y)
{
	float max = row_max(cols, x), scale;

	for (int i = 0; i < cols; i++)
		y[i] = exponential(x[i] - max);
	scale = 1 / row_sum(cols, y);
	for (int i = 0; i < cols; i++)
		y[i] *= scale;
}

void softmax(int rows, int cols, const float *x, float *y)
{
	for (int r = 0; r < rows; r++)
		softmax_row(cols, x + (long)r * cols, y + (long)r * cols);
}

/* SPDX-License-Identifier: MIT */
/* Layer norm with sums in 16 lanes: additions that do not wait for each other, and that the compiler makes vectors of. */
#include <math.h>

#include "kernel.h"

enum {
	LANES = 16
};

static float total(const float *lane)
{
	float sum = 0;

	for (int j = 0; j < LANES; j++)
		sum += lane[j];
	return sum;
}

static float row_mean(int cols, const float *x)
{
	float lane[LANES] = { 0 }, sum = 0;
	int i = 0;

	for (; i + LANES <= cols; i += LANES)
		for (int j = 0; j < LANES; j++)
			lane[j] += x[i + j];
	for (; i < cols; i++)
		sum += x[i];
	return (total(lane) + sum) / (float)cols;
}

static float row_variance(int cols, const float *x, float mean)
{
	float lane[LANES] = { 0 }, sum = 0;
	int i = 0;

	for (; i + LANES <= cols; i += LANES)
		for (int j = 0; j < LANES; j++)
			lane[j] += (x[i + j] - mean) * (x[i + j] - mean);
	for (; i < cols; i++)
		sum += (x[i] - mean) * (x[i] - mean);
	return (total(lane) + sum) / (float)cols;
}

static void layernorm_row(int cols, const float *restrict x, const float *restrict gamma,
			  const float *restrict beta, float *restrict y)
{
	float mean = row_mean(cols, x);
	float scale = 1 / sqrtf(row_variance(cols, x, mean) + 1e-5f);

	for (int i = 0; i < cols; i++)
		y[i] = (x[i] - mean) * scale * gamma[i] + beta[i];
}

void layernorm(int rows, int cols, const float *x, const float *gamma, const float *beta, float *y)
{
	for (int r = 0; r < rows; r++)
		layernorm_row(cols, x + (long)r * cols, gamma, beta, y + (long)r * cols);
}

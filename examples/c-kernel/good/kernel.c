/* SPDX-License-Identifier: MIT */
/* A tidy matrix product: the textbook's three loops, and about as fast as the baseline, which is the same. */
#include "kernel.h"

static float dot(int k, const float *row, const float *column, int stride)
{
	float sum = 0;

	for (int l = 0; l < k; l++)
		sum += row[l] * column[(long)l * stride];
	return sum;
}

void matmul(int m, int n, int k, const float *a, const float *b, float *c)
{
	for (int i = 0; i < m; i++)
		for (int j = 0; j < n; j++)
			c[(long)i * n + j] = dot(k, a + (long)i * k, b + j, n);
}

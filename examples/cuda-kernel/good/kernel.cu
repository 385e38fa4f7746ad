/* SPDX-License-Identifier: MIT */
/* A tidy matrix product: one thread for each result, as the baseline has it. */
#include "kernel.h"

static __global__ void product(int m, int n, int k, const float *a, const float *b, float *c)
{
	int i = blockIdx.y * blockDim.y + threadIdx.y;
	int j = blockIdx.x * blockDim.x + threadIdx.x;
	float sum = 0;

	if (i >= m || j >= n)
		return;
	for (int l = 0; l < k; l++)
		sum += a[(long)i * k + l] * b[(long)l * n + j];
	c[(long)i * n + j] = sum;
}

void matmul(int m, int n, int k, const float *a, const float *b, float *c)
{
	dim3 block(32, 8);
	dim3 grid((n + 31) / 32, (m + 7) / 8);

	product<<<grid, block>>>(m, n, k, a, b, c);
}

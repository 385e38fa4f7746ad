/* SPDX-License-Identifier: MIT */
/*
 * A tiled matrix product: a block of 16 x 16 threads computes 64 x 64 results. Parts of a and b pass through shared
 * memory, and each thread keeps 4 x 4 sums in registers.
 */
#include "kernel.h"

enum {
	SIDE = 16,
	EACH = 4,
	TILE = SIDE * EACH,
	DEPTH = 16
};

struct tiles {
	float a[DEPTH][TILE + 1];
	float b[DEPTH][TILE];
};

/* All threads copy DEPTH columns of a and DEPTH rows of b; outside of the matrices there are zeros. */
static __device__ void load(struct tiles *t, int m, int n, int k, int row, int col, int from,
			    const float *a, const float *b)
{
	for (int at = threadIdx.y * SIDE + threadIdx.x; at < DEPTH * TILE; at += SIDE * SIDE) {
		int i = at / DEPTH, l = at % DEPTH;
		int r = at / TILE, j = at % TILE;

		t->a[l][i] = row + i < m && from + l < k ? a[(long)(row + i) * k + from + l] : 0;
		t->b[r][j] = from + r < k && col + j < n ? b[(long)(from + r) * n + col + j] : 0;
	}
}

static __device__ void multiply(const struct tiles *t, float sum[EACH][EACH])
{
	for (int l = 0; l < DEPTH; l++)
#pragma unroll
		for (int i = 0; i < EACH; i++)
#pragma unroll
			for (int j = 0; j < EACH; j++)
				sum[i][j] += t->a[l][threadIdx.y + i * SIDE] *
					     t->b[l][threadIdx.x + j * SIDE];
}

static __global__ void product(int m, int n, int k, const float *a, const float *b, float *c)
{
	__shared__ struct tiles tiles;
	int row = blockIdx.y * TILE, col = blockIdx.x * TILE;
	float sum[EACH][EACH] = {};

	for (int from = 0; from < k; from += DEPTH) {
		load(&tiles, m, n, k, row, col, from, a, b);
		__syncthreads();
		multiply(&tiles, sum);
		__syncthreads();
	}
	for (int i = row + threadIdx.y, x = 0; x < EACH; i += SIDE, x++)
		for (int j = col + threadIdx.x, y = 0; y < EACH; j += SIDE, y++)
			if (i < m && j < n)
				c[(long)i * n + j] = sum[x][y];
}

void matmul(int m, int n, int k, const float *a, const float *b, float *c)
{
	dim3 block(SIDE, SIDE);
	dim3 grid((n + TILE - 1) / TILE, (m + TILE - 1) / TILE);

	product<<<grid, block>>>(m, n, k, a, b, c);
}

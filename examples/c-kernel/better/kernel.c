/* SPDX-License-Identifier: MIT */
/*
 * A blocked matrix product: a tile of 4 x 32 sums stays in registers while a and b stream by, so each value that is
 * loaded is used several times. The vectors are the compiler's extension, which fits any machine.
 */
#include <string.h>

#include "kernel.h"

enum {
	ROWS = 4,
	LANES = 16,
	COLS = 2 * LANES
};

typedef float vector __attribute__((vector_size(LANES * sizeof(float))));

static inline vector load(const float *from)
{
	vector v;

	memcpy(&v, from, sizeof v);
	return v;
}

/* c[ROWS][COLS] = a[ROWS][k] * b[k][COLS], each a part of a matrix whose rows are n (a: k) apart. */
static void tile(int n, int k, const float *a, const float *b, float *c)
{
	vector left[ROWS] = { 0 }, right[ROWS] = { 0 };

	for (int l = 0; l < k; l++, b += n) {
		vector b_left = load(b), b_right = load(b + LANES);

#pragma GCC unroll 4
		for (int i = 0; i < ROWS; i++) {
			left[i] += a[(long)i * k + l] * b_left;
			right[i] += a[(long)i * k + l] * b_right;
		}
	}
#pragma GCC unroll 4
	for (int i = 0; i < ROWS; i++, c += n) {
		memcpy(c, &left[i], sizeof left[i]);
		memcpy(c + LANES, &right[i], sizeof right[i]);
	}
}

/* What is left over at the right and at the bottom: one row of c, from column `from` on. */
static void rest(int n, int k, int from, const float *restrict a, const float *restrict b,
		 float *restrict c)
{
	for (int j = from; j < n; j++)
		c[j] = 0;
	for (int l = 0; l < k; l++)
		for (int j = from; j < n; j++)
			c[j] += a[l] * b[(long)l * n + j];
}

void matmul(int m, int n, int k, const float *a, const float *b, float *c)
{
	int rows = m - m % ROWS, cols = n - n % COLS;

	for (int j = 0; j < cols; j += COLS)
		for (int i = 0; i < rows; i += ROWS)
			tile(n, k, a + (long)i * k, b + j, c + (long)i * n + j);
	for (int i = 0; i < m; i++)
		rest(n, k, i < rows ? cols : 0, a + (long)i * k, b, c + (long)i * n);
}

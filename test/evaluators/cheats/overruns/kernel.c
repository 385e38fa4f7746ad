/* SPDX-License-Identifier: MIT */
/* The right result, and one value too many. */
#include "kernel.h"
#include "plain.h"

void matmul(int m, int n, int k, const float *a, const float *b, float *c)
{
	plain_product(m, n, k, a, b, c);
	c[(long)m * n] = 0;
}

/* SPDX-License-Identifier: MIT */
/* Never ends: waits for an error to become small that never does. The evaluator's wall_limit ends it. */
#include "kernel.h"

void matmul(int m, int n, int k, const float *a, const float *b, float *c)
{
	volatile float error = 1;

	(void)k;
	while (error > 0)
		for (int i = 0; i < m * n; i++)
			c[i] = a[0] * b[0] * error;
}

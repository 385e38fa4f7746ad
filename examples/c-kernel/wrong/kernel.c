/* SPDX-License-Identifier: MIT */
/* Subtly wrong: unrolled by four, and what is left over when k is no multiple of four is forgotten. */
#include "kernel.h"

void matmul(int m, int n, int k, const float *a, const float *b, float *c)
{
	for (int i = 0; i < m; i++) {
		for (int j = 0; j < n; j++) {
			const float *x = a + (long)i * k, *y = b + j;
			float s0 = 0, s1 = 0, s2 = 0, s3 = 0;

			for (int l = 0; l + 4 <= k; l += 4) {
				s0 += x[l] * y[(long)l * n];
				s1 += x[l + 1] * y[(long)(l + 1) * n];
				s2 += x[l + 2] * y[(long)(l + 2) * n];
				s3 += x[l + 3] * y[(long)(l + 3) * n];
			}
			c[(long)i * n + j] = (s0 + s1) + (s2 + s3);
		}
	}
}

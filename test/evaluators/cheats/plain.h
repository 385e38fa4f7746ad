/* SPDX-License-Identifier: MIT */
/* An honest product for cheats that are right some of the time. */
#ifndef PLAIN_H
#define PLAIN_H

static inline void plain_product(int m, int n, int k, const float *a, const float *b, float *c)
{
	for (int i = 0; i < m; i++) {
		for (int j = 0; j < n; j++)
			c[(long)i * n + j] = 0;
		for (int l = 0; l < k; l++)
			for (int j = 0; j < n; j++)
				c[(long)i * n + j] += a[(long)i * k + l] * b[(long)l * n + j];
	}
}

#endif

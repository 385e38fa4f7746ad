/* SPDX-License-Identifier: MIT */
/* Writes to an address that is nobody's. */
#include "kernel.h"

void matmul(int m, int n, int k, const float *a, const float *b, float *c)
{
	(void)m, (void)n, (void)k, (void)a, (void)b;
	*(volatile float *)((char *)c + (1ul << 40)) = 1;
}

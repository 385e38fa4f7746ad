/* SPDX-License-Identifier: MIT */
/* Does not compile: the launch names a kernel that was never written. */
#include "kernel.h"

void matmul(int m, int n, int k, const float *a, const float *b, float *c)
{
	product<<<dim3(n, m), 1>>>(m, n, k, a, b, c);
}

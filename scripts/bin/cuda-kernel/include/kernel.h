/* SPDX-License-Identifier: MIT */
#ifndef ZR_KERNEL_H
#define ZR_KERNEL_H

/*
 * What a submission implements: the one function of its task, in kernel.cu. It is called on the host and launches
 * what it needs; all pointers are to device memory. It need not wait: the whole device is waited for, whatever
 * stream was used, and the wait is part of the time. Arrays are row-major, float32, aligned to 64 bytes and do not
 * overlap. Every dimension is at least 1 and need not be a multiple of anything.
 */
extern "C" {

/* c[m][n] = a[m][k] * b[k][n] */
void matmul(int m, int n, int k, const float *a, const float *b, float *c);

/* Each row: y[i] = exp(x[i] - max(x)) / sum over j of exp(x[j] - max(x)) */
void softmax(int rows, int cols, const float *x, float *y);

/* Each row: y[i] = (x[i] - mean(x)) / sqrt(variance(x) + 1e-5) * gamma[i] + beta[i], variance over cols values */
void layernorm(int rows, int cols, const float *x, const float *gamma, const float *beta, float *y);

/*
 * y[out][i] = sum over ch and j of x[ch][i + j] * w[out][ch][j], for 0 <= i < length - taps + 1.
 * x[channels][length], w[outputs][channels][taps], y[outputs][length - taps + 1]; taps <= length.
 */
void conv1d(int channels, int outputs, int length, int taps, const float *x, const float *w,
	    float *y);
}

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The baselines: one thread for each result of matmul and conv1d, one block for each row of softmax and layernorm.
 * Built with the same compiler and flags as the submission. Change one and every old score changes its meaning.
 */
#include "kernel.h"

#define THREADS 256

static int blocks_for(long n)
{
	return (int)((n + THREADS - 1) / THREADS);
}

static __global__ void matmul_one(int m, int n, int k, const float *a, const float *b, float *c)
{
	long at = (long)blockIdx.x * blockDim.x + threadIdx.x;
	long i = at / n, j = at % n;
	float sum = 0;

	if (i >= m)
		return;
	for (int l = 0; l < k; l++)
		sum += a[i * k + l] * b[(long)l * n + j];
	c[at] = sum;
}

void matmul(int m, int n, int k, const float *a, const float *b, float *c)
{
	matmul_one<<<blocks_for((long)m * n), THREADS>>>(m, n, k, a, b, c);
}

struct add {
	__device__ float operator()(float x, float y) const { return x + y; }
};

struct larger {
	__device__ float operator()(float x, float y) const { return fmaxf(x, y); }
};

/* Joins one value of each thread by halving; every thread gets the result. */
template <typename op> static __device__ float join(float mine, op f)
{
	__shared__ float shared[THREADS];

	shared[threadIdx.x] = mine;
	__syncthreads();
	for (int half = THREADS / 2; half > 0; half /= 2) {
		if (threadIdx.x < half)
			shared[threadIdx.x] = f(shared[threadIdx.x], shared[threadIdx.x + half]);
		__syncthreads();
	}
	mine = shared[0];
	__syncthreads();
	return mine;
}

static __global__ void softmax_row(int cols, const float *x, float *y)
{
	float max = x[(long)blockIdx.x * cols], sum = 0;

	x += (long)blockIdx.x * cols;
	y += (long)blockIdx.x * cols;
	for (int i = threadIdx.x; i < cols; i += THREADS)
		max = fmaxf(max, x[i]);
	max = join(max, larger());
	for (int i = threadIdx.x; i < cols; i += THREADS)
		sum += y[i] = expf(x[i] - max);
	sum = join(sum, add());
	for (int i = threadIdx.x; i < cols; i += THREADS)
		y[i] /= sum;
}

void softmax(int rows, int cols, const float *x, float *y)
{
	softmax_row<<<rows, THREADS>>>(cols, x, y);
}

static __global__ void layernorm_row(int cols, const float *x, const float *gamma,
				     const float *beta, float *y)
{
	float sum = 0, squares = 0, mean, scale;

	x += (long)blockIdx.x * cols;
	y += (long)blockIdx.x * cols;
	for (int i = threadIdx.x; i < cols; i += THREADS)
		sum += x[i];
	mean = join(sum, add()) / cols;
	for (int i = threadIdx.x; i < cols; i += THREADS)
		squares += (x[i] - mean) * (x[i] - mean);
	scale = 1 / sqrtf(join(squares, add()) / cols + 1e-5f);
	for (int i = threadIdx.x; i < cols; i += THREADS)
		y[i] = (x[i] - mean) * scale * gamma[i] + beta[i];
}

void layernorm(int rows, int cols, const float *x, const float *gamma, const float *beta, float *y)
{
	layernorm_row<<<rows, THREADS>>>(cols, x, gamma, beta, y);
}

static __global__ void conv1d_one(int channels, int outputs, int length, int taps, const float *x,
				  const float *w, float *y)
{
	long valid = length - taps + 1;
	long at = (long)blockIdx.x * blockDim.x + threadIdx.x;
	long o = at / valid, i = at % valid;
	float sum = 0;

	if (o >= outputs)
		return;
	for (int c = 0; c < channels; c++)
		for (int j = 0; j < taps; j++)
			sum += x[(long)c * length + i + j] * w[(o * channels + c) * taps + j];
	y[at] = sum;
}

void conv1d(int channels, int outputs, int length, int taps, const float *x, const float *w,
	    float *y)
{
	long results = (long)outputs * (length - taps + 1);

	conv1d_one<<<blocks_for(results), THREADS>>>(channels, outputs, length, taps, x, w, y);
}

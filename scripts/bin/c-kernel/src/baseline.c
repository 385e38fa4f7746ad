/* SPDX-License-Identifier: MIT */
/*
 * The baselines: each task in its plainest correct form, what a careful person writes first. Built with the same
 * compiler and flags as the submission, in the same run. Change one and every old score changes its meaning.
 */
#include "kernel.h"

#include <math.h>

void matmul(int m, int n, int k, const float *a, const float *b, float *c)
{
	for (int i = 0; i < m; i++) {
		for (int j = 0; j < n; j++) {
			float sum = 0;

			for (int l = 0; l < k; l++)
				sum += a[(long)i * k + l] * b[(long)l * n + j];
			c[(long)i * n + j] = sum;
		}
	}
}

static void softmax_row(int cols, const float *x, float *y)
{
	float max = x[0], sum = 0;

	for (int i = 1; i < cols; i++)
		max = x[i] > max ? x[i] : max;
	for (int i = 0; i < cols; i++) {
		y[i] = expf(x[i] - max);
		sum += y[i];
	}
	for (int i = 0; i < cols; i++)
		y[i] /= sum;
}

void softmax(int rows, int cols, const float *x, float *y)
{
	for (int r = 0; r < rows; r++)
		softmax_row(cols, x + (long)r * cols, y + (long)r * cols);
}

static void layernorm_row(int cols, const float *x, const float *gamma, const float *beta, float *y)
{
	float mean = 0, variance = 0, scale;

	for (int i = 0; i < cols; i++)
		mean += x[i];
	mean /= (float)cols;
	for (int i = 0; i < cols; i++)
		variance += (x[i] - mean) * (x[i] - mean);
	scale = 1 / sqrtf(variance / (float)cols + 1e-5f);
	for (int i = 0; i < cols; i++)
		y[i] = (x[i] - mean) * scale * gamma[i] + beta[i];
}

void layernorm(int rows, int cols, const float *x, const float *gamma, const float *beta, float *y)
{
	for (int r = 0; r < rows; r++)
		layernorm_row(cols, x + (long)r * cols, gamma, beta, y + (long)r * cols);
}

void conv1d(int channels, int outputs, int length, int taps, const float *x, const float *w,
	    float *y)
{
	int valid = length - taps + 1;

	for (int o = 0; o < outputs; o++) {
		for (int i = 0; i < valid; i++) {
			float sum = 0;

			for (int c = 0; c < channels; c++)
				for (int j = 0; j < taps; j++)
					sum += x[(long)c * length + i + j] *
					       w[((long)o * channels + c) * taps + j];
			y[(long)o * valid + i] = sum;
		}
	}
}

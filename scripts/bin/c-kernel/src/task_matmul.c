/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "task.h"

/* Dimensions: m, n, k. */
static size_t input_len(const struct shape *s, int input)
{
	return input == 0 ? (size_t)s->dim[0] * (size_t)s->dim[2]
			  : (size_t)s->dim[2] * (size_t)s->dim[1];
}

static size_t output_len(const struct shape *s)
{
	return (size_t)s->dim[0] * (size_t)s->dim[1];
}

static void fill_inputs(struct rng *rng, const struct shape *s, enum fill fill, float *const *in)
{
	float center = fill == FILL_HARD ? 16 : 0;

	rng_floats(rng, in[0], input_len(s, 0), center, 1);
	rng_floats(rng, in[1], input_len(s, 1), -center, 1);
}

/* want += a * b; magnitude += |a * b|, one row of b at a time so that the compiler can vectorise. */
static void add_row(size_t n, double a, const float *restrict b, double *restrict want,
		    double *restrict magnitude)
{
	for (size_t j = 0; j < n; j++) {
		double product = a * (double)b[j];
		want[j] += product;
		magnitude[j] += fabs(product);
	}
}

static void reference(const struct shape *s, const float *const *in, double *want, double *tol)
{
	size_t m = (size_t)s->dim[0], n = (size_t)s->dim[1], k = (size_t)s->dim[2];
	double relative = task_sum_tolerance((double)k);

	memset(want, 0, m * n * sizeof *want);
	memset(tol, 0, m * n * sizeof *tol);
	for (size_t i = 0; i < m; i++)
		for (size_t l = 0; l < k; l++)
			add_row(n, (double)in[0][i * k + l], in[1] + l * n, want + i * n,
				tol + i * n);
	for (size_t i = 0; i < m * n; i++)
		tol[i] *= relative;
}

static double operations(const struct shape *s)
{
	return 2.0 * s->dim[0] * s->dim[1] * s->dim[2];
}

static const struct shape checks[] = {
	{ { 8, 8, 8 } }, { { 16, 32, 64 } }, { { 33, 31, 29 } }, { { 1, 1, 1 } },
	{ { 1, 7, 3 } }, { { 17, 1, 5 } },   { { 5, 9, 1 } },    { { 0 } },
};

static const struct timed_shape host_shapes[] = {
	{ { { 64, 64, 64 } }, 8 },
	{ { { 128, 128, 128 } }, 1 },
	{ { { 97, 203, 151 } }, 1 },
	{ { { 0 } }, 0 },
};

static const struct timed_shape device_shapes[] = {
	{ { { 256, 256, 256 } }, 16 },
	{ { { 512, 512, 512 } }, 8 },
	{ { { 1000, 333, 777 } }, 4 },
	{ { { 0 } }, 0 },
};

const struct task task_matmul = {
	.name = "matmul",
	.dims = 3,
	.inputs = 2,
	.low = { { 1, 1, 1 } },
	.high = { { 70, 70, 70 } },
	.checks = checks,
	.host_shapes = host_shapes,
	.device_shapes = device_shapes,
	.input_len = input_len,
	.output_len = output_len,
	.fill = fill_inputs,
	.reference = reference,
	.operations = operations,
};

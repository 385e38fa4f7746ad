/* SPDX-License-Identifier: MIT */
#include <math.h>

#include "task.h"

/* Dimensions: rows, cols. */
static size_t table_len(const struct shape *s)
{
	return (size_t)s->dim[0] * (size_t)s->dim[1];
}

static size_t input_len(const struct shape *s, int input)
{
	(void)input;
	return table_len(s);
}

/* exp(89) is not a float any more: only a kernel that takes the maximum off survives the hard rows. */
static void fill_inputs(struct rng *rng, const struct shape *s, enum fill fill, float *const *in)
{
	size_t cols = (size_t)s->dim[1];

	for (int row = 0; row < s->dim[0]; row++) {
		float center = fill == FILL_HARD ? (float)rng_int(rng, -200, 200) : 0;
		rng_floats(rng, in[0] + (size_t)row * cols, cols, center, 5);
	}
}

/*
 * Relative error: a few units in the last place for exp itself (4e-6 also leaves room for a good polynomial), the
 * rounding of x - max, which exp turns into a relative error, and the sum. Below 1e-30 everything is zero.
 */
static void reference_row(size_t cols, const float *x, double *want, double *tol)
{
	double max = (double)x[0], sum = 0;

	for (size_t i = 1; i < cols; i++)
		max = fmax(max, (double)x[i]);
	for (size_t i = 0; i < cols; i++)
		sum += want[i] = exp((double)x[i] - max);
	for (size_t i = 0; i < cols; i++) {
		double relative = 4e-6 + 2 * FLOAT_ROUNDING * (max - (double)x[i]) +
				  task_sum_tolerance((double)cols);
		want[i] /= sum;
		tol[i] = want[i] * relative + 1e-30;
	}
}

static void reference(const struct shape *s, const float *const *in, double *want, double *tol)
{
	size_t cols = (size_t)s->dim[1];

	for (size_t row = 0; row < (size_t)s->dim[0]; row++)
		reference_row(cols, in[0] + row * cols, want + row * cols, tol + row * cols);
}

/* Compare, subtract, exponential (counted as one), add, divide. */
static double operations(const struct shape *s)
{
	return 5.0 * s->dim[0] * s->dim[1];
}

static const struct shape checks[] = {
	{ { 8, 64 } }, { { 4, 16 } }, { { 3, 7 } },    { { 5, 33 } },
	{ { 1, 1 } },  { { 1, 2 } },  { { 2, 1001 } }, { { 0 } },
};

static const struct timed_shape host_shapes[] = {
	{ { { 64, 128 } }, 24 },
	{ { { 256, 512 } }, 2 },
	{ { { 33, 1003 } }, 6 },
	{ { { 0 } }, 0 },
};

static const struct timed_shape device_shapes[] = {
	{ { { 1024, 1024 } }, 8 },
	{ { { 8192, 128 } }, 8 },
	{ { { 333, 4099 } }, 6 },
	{ { { 0 } }, 0 },
};

const struct task task_softmax = {
	.name = "softmax",
	.dims = 2,
	.inputs = 1,
	.low = { { 1, 1 } },
	.high = { { 40, 300 } },
	.checks = checks,
	.host_shapes = host_shapes,
	.device_shapes = device_shapes,
	.input_len = input_len,
	.output_len = table_len,
	.fill = fill_inputs,
	.reference = reference,
	.operations = operations,
};

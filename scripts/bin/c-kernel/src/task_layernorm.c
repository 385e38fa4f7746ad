/* SPDX-License-Identifier: MIT */
#include <math.h>

#include "task.h"

#define EPSILON 1e-5

/* Dimensions: rows, cols. Inputs: x, gamma, beta. */
static size_t table_len(const struct shape *s)
{
	return (size_t)s->dim[0] * (size_t)s->dim[1];
}

static size_t input_len(const struct shape *s, int input)
{
	return input == 0 ? table_len(s) : (size_t)s->dim[1];
}

static void fill_inputs(struct rng *rng, const struct shape *s, enum fill fill, float *const *in)
{
	size_t cols = (size_t)s->dim[1];

	for (int row = 0; row < s->dim[0]; row++) {
		float center = fill == FILL_HARD ? (float)rng_int(rng, -4, 4) : 0;
		rng_floats(rng, in[0] + (size_t)row * cols, cols, center, 1);
	}
	rng_floats(rng, in[1], cols, 1, 0.5f);
	rng_floats(rng, in[2], cols, 0, 0.5f);
}

struct moments {
	double mean, magnitude, square, variance;
};

static struct moments row_moments(size_t cols, const float *x)
{
	struct moments m = { 0 };

	for (size_t i = 0; i < cols; i++) {
		m.mean += (double)x[i];
		m.magnitude += fabs((double)x[i]);
		m.square += (double)x[i] * (double)x[i];
	}
	m.mean /= (double)cols;
	m.magnitude /= (double)cols;
	m.square /= (double)cols;
	for (size_t i = 0; i < cols; i++)
		m.variance += ((double)x[i] - m.mean) * ((double)x[i] - m.mean);
	m.variance /= (double)cols;
	return m;
}

/*
 * Errors of the mean (first term) and of the variance (second), which a one-pass variance loses to cancellation in
 * the ratio of mean square to variance; that is allowed here, for the inputs keep it small.
 */
static void reference_row(size_t cols, const float *const *in, size_t row, double *want,
			  double *tol)
{
	const float *x = in[0] + row * cols;
	struct moments m = row_moments(cols, x);
	double scale = 1 / sqrt(m.variance + EPSILON);
	double cancel = 1 + m.square / (m.variance + EPSILON);
	double unit = task_sum_tolerance((double)cols);

	for (size_t i = 0; i < cols; i++) {
		double gamma = (double)in[1][i], beta = (double)in[2][i];
		double normal = ((double)x[i] - m.mean) * scale;

		want[i] = normal * gamma + beta;
		tol[i] = unit * (fabs(gamma) * scale * (m.magnitude + fabs((double)x[i])) +
				 fabs(normal * gamma) * cancel + fabs(beta));
	}
}

static void reference(const struct shape *s, const float *const *in, double *want, double *tol)
{
	size_t cols = (size_t)s->dim[1];

	for (size_t row = 0; row < (size_t)s->dim[0]; row++)
		reference_row(cols, in, row, want + row * cols, tol + row * cols);
}

/* Two sums, the square, and the four of the last step. */
static double operations(const struct shape *s)
{
	return 8.0 * s->dim[0] * s->dim[1];
}

static const struct shape checks[] = {
	{ { 8, 64 } }, { { 4, 16 } }, { { 3, 7 } },    { { 5, 33 } },
	{ { 1, 1 } },  { { 1, 2 } },  { { 2, 1001 } }, { { 0 } },
};

static const struct timed_shape host_shapes[] = {
	{ { { 64, 256 } }, 32 },
	{ { { 128, 768 } }, 5 },
	{ { { 77, 1001 } }, 6 },
	{ { { 0 } }, 0 },
};

static const struct timed_shape device_shapes[] = {
	{ { { 1024, 1024 } }, 8 },
	{ { { 8192, 256 } }, 8 },
	{ { { 333, 4099 } }, 6 },
	{ { { 0 } }, 0 },
};

const struct task task_layernorm = {
	.name = "layernorm",
	.dims = 2,
	.inputs = 3,
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

/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "task.h"

/* Dimensions: channels, outputs, length, taps. Inputs: x[channels][length], w[outputs][channels][taps]. */
static size_t valid_len(const struct shape *s)
{
	return (size_t)s->dim[2] - (size_t)s->dim[3] + 1;
}

static size_t input_len(const struct shape *s, int input)
{
	size_t channels = (size_t)s->dim[0];

	return input == 0 ? channels * (size_t)s->dim[2]
			  : (size_t)s->dim[1] * channels * (size_t)s->dim[3];
}

static size_t output_len(const struct shape *s)
{
	return (size_t)s->dim[1] * valid_len(s);
}

static void fill_inputs(struct rng *rng, const struct shape *s, enum fill fill, float *const *in)
{
	float center = fill == FILL_HARD ? 16 : 0;

	rng_floats(rng, in[0], input_len(s, 0), center, 1);
	rng_floats(rng, in[1], input_len(s, 1), -center, 1);
}

static void add_tap(size_t n, double weight, const float *restrict x, double *restrict want,
		    double *restrict magnitude)
{
	for (size_t i = 0; i < n; i++) {
		double product = weight * (double)x[i];
		want[i] += product;
		magnitude[i] += fabs(product);
	}
}

static void reference(const struct shape *s, const float *const *in, double *want, double *tol)
{
	size_t channels = (size_t)s->dim[0], length = (size_t)s->dim[2], taps = (size_t)s->dim[3];
	size_t valid = valid_len(s), total = output_len(s);
	double relative = task_sum_tolerance((double)(channels * taps));

	memset(want, 0, total * sizeof *want);
	memset(tol, 0, total * sizeof *tol);
	for (size_t o = 0; o < (size_t)s->dim[1]; o++)
		for (size_t c = 0; c < channels; c++)
			for (size_t j = 0; j < taps; j++)
				add_tap(valid, (double)in[1][(o * channels + c) * taps + j],
					in[0] + c * length + j, want + o * valid, tol + o * valid);
	for (size_t i = 0; i < total; i++)
		tol[i] *= relative;
}

static double operations(const struct shape *s)
{
	return 2.0 * (double)output_len(s) * s->dim[0] * s->dim[3];
}

/* A filter is never longer than its signal. */
static void repair(struct shape *s)
{
	if (s->dim[3] > s->dim[2])
		s->dim[3] = s->dim[2];
}

static const struct shape checks[] = {
	{ { 2, 2, 64, 3 } }, { { 3, 5, 101, 7 } }, { { 2, 1, 33, 5 } }, { { 1, 1, 8, 8 } },
	{ { 1, 3, 9, 2 } },  { { 1, 1, 1, 1 } },   { { 0 } },
};

static const struct timed_shape host_shapes[] = {
	{ { { 1, 1, 16384, 9 } }, 12 },
	{ { { 8, 8, 1024, 5 } }, 5 },
	{ { { 5, 7, 999, 11 } }, 4 },
	{ { { 0 } }, 0 },
};

static const struct timed_shape device_shapes[] = {
	{ { { 1, 1, 1 << 20, 9 } }, 8 },
	{ { { 16, 32, 16384, 5 } }, 4 },
	{ { { 7, 13, 33333, 11 } }, 4 },
	{ { { 0 } }, 0 },
};

const struct task task_conv1d = {
	.name = "conv1d",
	.dims = 4,
	.inputs = 2,
	.low = { { 1, 1, 1, 1 } },
	.high = { { 6, 6, 200, 16 } },
	.checks = checks,
	.host_shapes = host_shapes,
	.device_shapes = device_shapes,
	.input_len = input_len,
	.output_len = output_len,
	.fill = fill_inputs,
	.reference = reference,
	.operations = operations,
	.repair = repair,
};

/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_TASK_H
#define KERNEL_TASK_H

#include <stddef.h>

#include "channel.h"
#include "rng.h"

/*
 * A task: what a kernel computes, on which shapes it is checked and timed, and the reference in double precision
 * with the error that honest float32 arithmetic may make. Pure functions over tables; task_<name>.c each.
 */
struct shape {
	int32_t dim[CHANNEL_DIMS];
};

/* `calls` kernel calls on different data make one measurement, so that small shapes can be timed too. */
struct timed_shape {
	struct shape shape;
	int calls;
};

enum fill {
	FILL_PLAIN, /* values of the size that networks see */
	FILL_HARD,  /* large offsets: where careless arithmetic overflows or cancels */
	FILL_N
};

struct task {
	const char *name;
	int dims, inputs;
	struct shape low, high;     /* random shapes of the check lie between these */
	const struct shape *checks; /* fixed shapes of the check; ends with a shape of zeros */
	const struct timed_shape *host_shapes;   /* end with a shape of zeros */
	const struct timed_shape *device_shapes; /* likewise, for GPUs */

	size_t (*input_len)(const struct shape *s, int input); /* in floats */
	size_t (*output_len)(const struct shape *s);
	void (*fill)(struct rng *rng, const struct shape *s, enum fill fill, float *const *in);
	/* |result - ret_want[i]| <= ret_tol[i] is right. */
	void (*reference)(const struct shape *s, const float *const *in, double *ret_want,
			  double *ret_tol);
	double (*operations)(const struct shape *s); /* floating-point operations of one call */
	void (*repair)(struct shape *s); /* makes random dimensions fit together; may be NULL */
};

/* Half the distance from 1 to the next float: the relative error of one rounding. */
#define FLOAT_ROUNDING 0x1p-24

/*
 * The tolerated error of a float32 sum of `terms` products, relative to the sum of their magnitudes. Rounding errors
 * of a sum grow with the square root of its length with near certainty (Higham and Mary 2019, factor 4); the worst
 * case, which would let half precision pass, does not happen. Any order of summation fits.
 */
double task_sum_tolerance(double terms);

/* NULL: no such task. */
const struct task *task_find(const char *name);

/* "matmul, softmax, ..." */
const char *task_names(void);

/* Writes "64x64x64". */
void task_shape_name(const struct task *task, const struct shape *s, char *ret, size_t size);

struct shape task_random_shape(const struct task *task, struct rng *rng);

extern const struct task task_matmul, task_softmax, task_layernorm, task_conv1d;

#endif

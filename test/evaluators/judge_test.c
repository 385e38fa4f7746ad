/* SPDX-License-Identifier: MIT */
/* The parts of c-kernel's judge that can be tested without a runner. Exit status 0, or an assertion that says why. */
#define _GNU_SOURCE
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "arena.h"
#include "report.h"
#include "stats.h"
#include "task.h"

static void near(double got, double want, double tolerance)
{
	if (!(fabs(got - want) <= tolerance)) {
		(void)fprintf(stderr, "got %.17g, want %.17g\n", got, want);
		assert(0);
	}
}

static void check_reference(const struct task *task, struct shape shape, const float *const *in,
			    const double *want)
{
	double got[64], tol[64];
	size_t n = task->output_len(&shape);

	assert(n <= 64);
	task->reference(&shape, in, got, tol);
	for (size_t i = 0; i < n; i++) {
		near(got[i], want[i], 1e-12);
		assert(tol[i] >= 0 && tol[i] < 1e-5 * (1 + fabs(want[i])));
	}
}

static void test_matmul(void)
{
	/* [1 2 3; 4 5 6] * [7 8; 9 10; 11 12] */
	static const float a[] = { 1, 2, 3, 4, 5, 6 }, b[] = { 7, 8, 9, 10, 11, 12 };
	const float *in[] = { a, b };

	check_reference(&task_matmul, (struct shape){ { 2, 2, 3 } }, in,
			(double[]){ 58, 64, 139, 154 });
}

static void test_softmax(void)
{
	/* exp(0), exp(0), exp(-200): halves and nothing; and a row whose exponentials are no floats. */
	static const float x[] = { 0, 0, -200, 500, 500, 300 };
	const float *in[] = { x };

	check_reference(&task_softmax, (struct shape){ { 2, 3 } }, in,
			(double[]){ .5, .5, 0, .5, .5, 0 });
}

static void test_layernorm(void)
{
	/* Mean 2, variance 1 with the epsilon taken into account. */
	static const float x[] = { 1, 3 }, gamma[] = { 2, 3 }, beta[] = { 10, 20 };
	const float *in[] = { x, gamma, beta };
	double scale = 1 / sqrt(1 + 1e-5);

	check_reference(&task_layernorm, (struct shape){ { 1, 2 } }, in,
			(double[]){ 10 - 2 * scale, 20 + 3 * scale });
}

static void test_conv1d(void)
{
	/* Two channels, one output, four values, two taps: no filter is turned round. */
	static const float x[] = { 1, 2, 3, 4, 10, 20, 30, 40 }, w[] = { 1, 100, 2, 3 };
	const float *in[] = { x, w };

	check_reference(&task_conv1d, (struct shape){ { 2, 1, 4, 2 } }, in,
			(double[]){ 201 + 80, 302 + 130, 403 + 180 });
}

/* The tolerance must let float32 through in any order of summation, and nothing that is half as precise. */
static void test_tolerance(void)
{
	near(task_sum_tolerance(4), 16 * FLOAT_ROUNDING, 1e-15);
	for (int k = 1; k <= 1000; k *= 10) {
		struct rng rng;
		float sum = 0;
		double want = 0, magnitude = 0;

		rng_init(&rng, (uint64_t)k);
		for (int i = 0; i < k; i++) {
			float pair[2];

			rng_floats(&rng, pair, 2, 0, 1);
			sum += pair[0] * pair[1];
			want += (double)pair[0] * (double)pair[1];
			magnitude += fabs((double)pair[0] * (double)pair[1]);
		}
		near((double)sum, want, magnitude * task_sum_tolerance(k));
	}
}

static void test_random_shapes_are_possible(void)
{
	static const struct task *const tasks[] = { &task_matmul, &task_softmax, &task_layernorm,
						    &task_conv1d };
	struct rng rng;

	rng_init(&rng, 1);
	for (size_t t = 0; t < sizeof tasks / sizeof *tasks; t++) {
		assert(task_find(tasks[t]->name) == tasks[t] &&
		       strstr(task_names(), tasks[t]->name));
		for (int i = 0; i < 2000; i++) {
			struct shape s = task_random_shape(tasks[t], &rng);

			for (int d = 0; d < tasks[t]->dims; d++)
				assert(s.dim[d] >= tasks[t]->low.dim[d] &&
				       s.dim[d] <= tasks[t]->high.dim[d]);
			assert(tasks[t] != &task_conv1d || s.dim[3] <= s.dim[2]);
		}
	}
	assert(!task_find("sort") && !task_find(""));
}

static void test_shape_name(void)
{
	struct shape s = { { 1, 23, 456, 7 } };
	char name[64], small[6];

	task_shape_name(&task_conv1d, &s, name, sizeof name);
	assert(strcmp(name, "1x23x456x7") == 0);
	task_shape_name(&task_softmax, &s, name, sizeof name);
	assert(strcmp(name, "1x23") == 0);
	task_shape_name(&task_conv1d, &s, small, sizeof small);
	assert(strcmp(small, "1x23x") == 0);
}

static void test_stats(void)
{
	double values[] = { 9, 1, 8, 2, 7, 3, 6, 4, 5 }, one[] = { 4 };
	struct stats s = stats_of(values, 9);

	near(s.min, 1, 0);
	near(s.p10, 1.8, 1e-12);
	near(s.median, 5, 0);
	near(s.p90, 8.2, 1e-12);
	near(s.mad, 2, 0); /* distances 0 1 1 2 2 3 3 4 4 */
	near(s.low, 2, 0); /* ranks (9 -+ 5.88) / 2 */
	near(s.high, 9, 0);
	s = stats_of(one, 1);
	near(s.median, 4, 0);
	near(s.low, 4, 0);
	near(s.high, 4, 0);
	near(s.mad, 0, 0);
}

static void test_arena(void)
{
	struct arena arena;
	struct rng rng;
	size_t first, second;

	rng_init(&rng, 3);
	assert(arena_init(&arena, 2 * arena_need(100) + 4096) == 0);
	for (int round = 0; round < 100; round++) {
		uint64_t sum;

		arena_reset(&arena, 0, &rng);
		first = arena_cut(&arena, 100);
		second = arena_cut(&arena, 1);
		assert(first % 64 == 0 && second % 64 == 0 &&
		       second >= first + 400 + CHANNEL_GUARD);
		arena_poison(&arena, 0, arena.used);
		assert(arena_is_poison(&arena, 0, arena.used));
		assert(isnan(*(float *)(void *)(arena.mem + first)));
		sum = arena_checksum(&arena);
		arena.mem[second + 4] ^= 1;
		assert(!arena_is_poison(&arena, second + 4, arena.used) &&
		       arena_is_poison(&arena, first, second));
		assert(arena_checksum(&arena) != sum);
	}
	arena_done(&arena);
	arena_done(&arena);
}

static void test_score(void)
{
	struct report r = { .task = &task_matmul, .correct = true, .shapes = 2 };

	r.timing[0].speedup.median = 2;
	r.timing[1].speedup.median = 8;
	near(report_score(&r), 4, 1e-12);
	r.correct = false;
	near(report_score(&r), 0, 0);
}

int main(void)
{
	test_matmul();
	test_softmax();
	test_layernorm();
	test_conv1d();
	test_tolerance();
	test_random_shapes_are_possible();
	test_shape_name();
	test_stats();
	test_arena();
	test_score();
	return 0;
}

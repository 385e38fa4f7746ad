/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include <math.h>
#include <time.h>

#include "bench.h"

/*
 * Rounds of one shape: some to warm up, which count for nothing but are checked; then at least ROUNDS_MIN, whatever
 * they cost, so that nobody gets few measurements by being slow; then more while there is time.
 */
#define WARM_UP     3
#define ROUNDS_MIN  15
#define ROUNDS_MAX  101
#define BUDGET_USEC 400000.0

struct series {
	double submission[ROUNDS_MAX], baseline[ROUNDS_MAX], speedup[ROUNDS_MAX];
	double submission_wall[ROUNDS_MAX], baseline_wall[ROUNDS_MAX], device[ROUNDS_MAX];
	int n;
};

/*
 * On the host the processor time that the kernel charged to the process: other load on the machine does not count,
 * and waiting gains nothing. A device's work is not in it, there the wall time counts.
 */
static double scored_usec(const struct bench *bench, const struct cost *cost)
{
	/* Never zero, whatever a clock says: it becomes a divisor. */
	return fmax(bench->device ? cost->wall_usec : cost->cpu_usec, 1e-3);
}

static void record(const struct bench *bench, struct series *s, int calls,
		   const struct cost *submission, const struct cost *baseline)
{
	int i = s->n++;

	s->submission[i] = scored_usec(bench, submission) / calls;
	s->baseline[i] = scored_usec(bench, baseline) / calls;
	s->speedup[i] = s->baseline[i] / s->submission[i];
	s->submission_wall[i] = submission->wall_usec / calls;
	s->baseline_wall[i] = baseline->wall_usec / calls;
	s->device[i] = submission->device_usec / calls;
}

static struct timing summarise(const struct bench *bench, const struct shape *shape,
			       struct series *s)
{
	struct timing t = {
		.submission = stats_of(s->submission, s->n),
		.baseline = stats_of(s->baseline, s->n),
		.speedup = stats_of(s->speedup, s->n),
		.submission_wall_usec = stats_of(s->submission_wall, s->n).median,
		.baseline_wall_usec = stats_of(s->baseline_wall, s->n).median,
		.submission_device_usec = stats_of(s->device, s->n).median,
	};

	t.gflops = bench->task->operations(shape) / t.submission.median / 1e3;
	return t;
}

static double now_usec(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

enum outcome bench_time(struct bench *bench, const struct timed_shape *timed, struct timing *ret)
{
	struct series series = { .n = 0 };
	struct cost submission, baseline;
	double start = now_usec(), worst = 0;
	enum outcome outcome;

	for (int round = 0; series.n < ROUNDS_MAX; round++) {
		if (series.n >= ROUNDS_MIN && now_usec() - start > BUDGET_USEC)
			break;
		outcome = bench_round(bench, &timed->shape, timed->calls, FILL_PLAIN, &submission,
				      &baseline, &worst);
		if (outcome != OUTCOME_RIGHT)
			return outcome;
		if (round >= WARM_UP)
			record(bench, &series, timed->calls, &submission, &baseline);
	}
	*ret = summarise(bench, &timed->shape, &series);
	ret->worst_error = worst;
	return OUTCOME_RIGHT;
}

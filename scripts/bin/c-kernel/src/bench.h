/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_BENCH_H
#define KERNEL_BENCH_H

#include <stdbool.h>

#include "child.h"
#include "stats.h"
#include "task.h"

/*
 * One evaluation: the submission and the baseline in a process each, fed with the same fresh inputs, their results
 * compared with the reference. A round = new inputs, then one doorbell for each of the two.
 */
struct bench {
	const struct task *task;
	bool device; /* runners keep their arrays elsewhere: LOAD and STORE around each RUN */
	bool device_shapes; /* time the shapes that are meant for GPUs */
	struct rng rng;
	struct arena input;
	int input_fd; /* the same file, read-only: what runners get */
	struct child submission, baseline;
	double *want, *tol; /* for the largest result */
	char why[400];      /* the sentence, once something is wrong */
};

/* How a round or a whole check ended. */
enum outcome {
	OUTCOME_RIGHT,
	OUTCOME_WRONG, /* a wrong result: the score is 0 */
	OUTCOME_DEAD,  /* the submission's process ended or broke the protocol */
	OUTCOME_HOST,  /* not the submission's fault */
};

struct bench_spec {
	const struct task *task;
	bool device, device_shapes;
	bool confine;
	uint64_t seed;
	const char *submission, *baseline; /* paths of the two runners */
	const char *log_path;
};

/* False: bench->why says what failed. */
bool bench_init(struct bench *bench, const struct bench_spec *spec);
void bench_done(struct bench *bench);

/* What one timed shape came to. Times are per kernel call. */
struct timing {
	struct stats submission, baseline; /* microseconds, of the clock that is scored */
	double submission_wall_usec;       /* medians of wall time, for comparison */
	double baseline_wall_usec;
	double submission_device_usec; /* median by the device's clock; 0: no device */
	struct stats speedup;          /* of the rounds' quotients */
	double worst_error;            /* the largest error seen, as a share of the tolerated one */
	double gflops;
};

/* Fills a round with `calls` calls on fresh data, runs both, checks the results. */
enum outcome bench_round(struct bench *bench, const struct shape *shape, int calls, enum fill fill,
			 struct cost *ret_submission, struct cost *ret_baseline,
			 double *worst_error);

/* Warm-up and timed rounds of one shape. */
enum outcome bench_time(struct bench *bench, const struct timed_shape *timed, struct timing *ret);

/* The list of shapes that are timed, ended by calls == 0. */
const struct timed_shape *bench_timed_shapes(const struct bench *bench);

#endif

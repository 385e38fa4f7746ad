/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "bench.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CALLS_BYTES (CHANNEL_CALLS * sizeof(struct call))

/* On a device the reference on the processor costs more than the kernel: one random call of each round is checked. */
#define DEVICE_CHECKED 1

const struct timed_shape *bench_timed_shapes(const struct bench *bench)
{
	return bench->device_shapes ? bench->task->device_shapes : bench->task->host_shapes;
}

/* --------------------------------------------------------------------- set-up */

struct sizes {
	size_t input, output; /* bytes of the memory files */
	size_t result;        /* floats of the largest result */
};

static void grow(size_t *size, size_t to)
{
	*size = to > *size ? to : *size;
}

static void add_shape(const struct task *task, const struct shape *s, int calls,
		      struct sizes *sizes)
{
	size_t input = 0;

	for (int i = 0; i < task->inputs; i++)
		input += arena_need(task->input_len(s, i));
	grow(&sizes->input, input * (size_t)calls);
	grow(&sizes->output, arena_need(task->output_len(s)) * (size_t)calls);
	grow(&sizes->result, task->output_len(s));
}

static struct sizes measure(const struct bench *bench)
{
	const struct task *task = bench->task;
	struct sizes sizes = { 0 };

	for (const struct shape *s = task->checks; s->dim[0]; s++)
		add_shape(task, s, 1, &sizes);
	for (const struct timed_shape *t = bench_timed_shapes(bench); t->calls; t++)
		add_shape(task, &t->shape, t->calls, &sizes);
	add_shape(task, &task->high, 1, &sizes);
	sizes.input += CALLS_BYTES + 4096; /* arena_reset() begins up to a page later */
	sizes.output += 4096;
	return sizes;
}

static bool fail(struct bench *bench, const char *what)
{
	(void)snprintf(bench->why, sizeof bench->why, "%s: %s", what, strerror(errno));
	return false;
}

/* A descriptor that was opened for reading cannot be mapped for writing, by whatever trick. */
static bool open_read_only(struct bench *bench)
{
	char path[64];

	(void)snprintf(path, sizeof path, "/proc/self/fd/%d", bench->input.fd);
	bench->input_fd = open(path, O_RDONLY | O_CLOEXEC);
	return bench->input_fd >= 0 || fail(bench, "cannot open the input memory again");
}

static bool start_children(struct bench *bench, const struct bench_spec *spec, size_t output_size)
{
	/* One processor for both: they never compute at the same time, and cores may differ in speed. */
	struct child_spec child = { .label = "the baseline",
				    .path = spec->baseline,
				    .input_fd = bench->input_fd,
				    .output_size = output_size,
				    .log_path = spec->log_path,
				    .confine = spec->confine,
				    .cpu = spec->device ? -1 : sched_getcpu() };

	if (child_start(&bench->baseline, &child, bench->why, sizeof bench->why) < 0)
		return false;
	child.label = "the submission";
	child.path = spec->submission;
	return child_start(&bench->submission, &child, bench->why, sizeof bench->why) == 0;
}

bool bench_init(struct bench *bench, const struct bench_spec *spec)
{
	struct sizes sizes;
	int r;

	*bench = (struct bench){ .task = spec->task,
				 .device = spec->device,
				 .device_shapes = spec->device_shapes,
				 .input_fd = -1 };
	bench->input.fd = bench->submission.output.fd = bench->baseline.output.fd = -1;
	bench->submission.pidfd = bench->submission.doorbell = bench->submission.reply = -1;
	bench->baseline.pidfd = bench->baseline.doorbell = bench->baseline.reply = -1;
	rng_init(&bench->rng, spec->seed);
	sizes = measure(bench);
	assert(sizes.result > 0);
	bench->want = calloc(sizes.result, sizeof *bench->want);
	bench->tol = calloc(sizes.result, sizeof *bench->tol);
	if (!bench->want || !bench->tol)
		return fail(bench, "no memory for the reference");
	r = arena_init(&bench->input, sizes.input);
	if (r < 0) {
		errno = -r;
		return fail(bench, "no memory for the inputs");
	}
	return open_read_only(bench) && start_children(bench, spec, sizes.output);
}

void bench_done(struct bench *bench)
{
	child_done(&bench->submission);
	child_done(&bench->baseline);
	arena_done(&bench->input);
	if (bench->input_fd >= 0)
		(void)close(bench->input_fd);
	free(bench->want);
	free(bench->tol);
}

/* --------------------------------------------------------------------- one round */

static struct call *calls_of(struct bench *bench)
{
	return (struct call *)(void *)bench->input.mem;
}

static void inputs_of(struct bench *bench, const struct call *call, float **ret)
{
	for (int i = 0; i < CHANNEL_INPUTS; i++)
		ret[i] = (float *)(void *)(bench->input.mem + call->in[i]);
}

/* Cuts the inputs of one call out of the arena and fills them. */
static void lay_out_inputs(struct bench *bench, const struct shape *s, struct call *call)
{
	memcpy(call->dim, s->dim, sizeof call->dim);
	for (int i = 0; i < bench->task->inputs; i++) {
		size_t len = bench->task->input_len(s, i);

		call->in[i] = arena_cut(&bench->input, len);
		call->in_len[i] = len * sizeof(float);
	}
}

/* Inputs first, all of them poison; then the values. Both children use the same offsets for their results. */
static void lay_out(struct bench *bench, const struct shape *s, int calls, enum fill fill)
{
	struct call *call = calls_of(bench);
	float *in[CHANNEL_INPUTS];

	arena_reset(&bench->input, CALLS_BYTES, &bench->rng);
	arena_reset(&bench->submission.output, 0, &bench->rng);
	memset(call, 0, CALLS_BYTES);
	for (int c = 0; c < calls; c++) {
		size_t len = bench->task->output_len(s);

		lay_out_inputs(bench, s, &call[c]);
		call[c].out = arena_cut(&bench->submission.output, len);
		call[c].out_len = len * sizeof(float);
	}
	bench->baseline.output.used = bench->submission.output.used;
	bench->baseline.output.poison = bench->submission.output.poison;
	arena_poison(&bench->input, CALLS_BYTES, bench->input.used);
	arena_poison(&bench->submission.output, 0, bench->submission.output.used);
	arena_poison(&bench->baseline.output, 0, bench->baseline.output.used);
	for (int c = 0; c < calls; c++) {
		inputs_of(bench, &call[c], in);
		bench->task->fill(&bench->rng, s, fill, in);
	}
}

/* -1, or the index of the first value that is not within its tolerance. */
static long compare(const struct bench *bench, const float *got, size_t n, double *worst)
{
	for (size_t i = 0; i < n; i++) {
		double error = fabs((double)got[i] - bench->want[i]);

		if (!(error <= bench->tol[i])) /* also when it is no number at all */
			return (long)i;
		*worst = fmax(*worst, error / bench->tol[i]);
	}
	return -1;
}

static enum outcome wrong_value(struct bench *bench, const struct child *child,
				const struct shape *s, long i, float got)
{
	char name[64], value[32];
	uint32_t bits;

	task_shape_name(bench->task, s, name, sizeof name);
	memcpy(&bits, &got, sizeof bits);
	if (bits == child->output.poison)
		(void)snprintf(value, sizeof value, "not written");
	else
		(void)snprintf(value, sizeof value, "%.9g", (double)got);
	(void)snprintf(bench->why, sizeof bench->why,
		       "wrong result: %s %s: value %ld is %s, it must be %.9g (tolerance %.2g)",
		       bench->task->name, name, i, value, bench->want[i], bench->tol[i]);
	return OUTCOME_WRONG;
}

static enum outcome check_call(struct bench *bench, const struct child *child,
			       const struct shape *s, const struct call *call, double *worst)
{
	float *in[CHANNEL_INPUTS];
	const float *got = (const float *)(const void *)(child->output.mem + call->out);
	long bad;

	inputs_of(bench, call, in);
	bench->task->reference(s, (const float *const *)in, bench->want, bench->tol);
	bad = compare(bench, got, call->out_len / sizeof(float), worst);
	return bad < 0 ? OUTCOME_RIGHT : wrong_value(bench, child, s, bad, got[bad]);
}

/* Everything around the results must be as it was. */
static bool guards_intact(const struct arena *output, const struct call *call, int calls)
{
	size_t at = 0;

	for (int c = 0; c < calls; c++) {
		if (!arena_is_poison(output, at, call[c].out))
			return false;
		at = call[c].out + call[c].out_len;
	}
	return arena_is_poison(output, at, output->used);
}

static enum outcome wrong_place(struct bench *bench, const struct shape *s, const char *what)
{
	char name[64];

	task_shape_name(bench->task, s, name, sizeof name);
	(void)snprintf(bench->why, sizeof bench->why, "wrong: %s %s: %s", bench->task->name, name,
		       what);
	return OUTCOME_WRONG;
}

static enum outcome check_child(struct bench *bench, const struct child *child,
				const struct shape *s, int calls, double *worst)
{
	const struct call *call = calls_of(bench);
	int first = 0, last = calls;
	enum outcome outcome = OUTCOME_RIGHT;

	if (!guards_intact(&child->output, call, calls))
		return wrong_place(bench, s, "it wrote outside of its result");
	if (bench->device) {
		first = rng_int(&bench->rng, 0, calls - 1);
		last = first + DEVICE_CHECKED;
	}
	for (int c = first; c < last && outcome == OUTCOME_RIGHT; c++)
		outcome = check_call(bench, child, s, &call[c], worst);
	return outcome;
}

static int ring(struct bench *bench, struct child *child, enum channel_op op, int calls,
		struct cost *cost)
{
	return child_call(child, op, calls, rng_next(&bench->rng), cost, bench->why,
			  sizeof bench->why);
}

/* Only RUN is measured. */
static int run_child(struct bench *bench, struct child *child, int calls, struct cost *ret)
{
	struct cost other;

	if (bench->device && ring(bench, child, CHANNEL_OP_LOAD, calls, &other) < 0)
		return -1;
	if (ring(bench, child, CHANNEL_OP_RUN, calls, ret) < 0)
		return -1;
	return bench->device ? ring(bench, child, CHANNEL_OP_STORE, calls, &other) : 0;
}

static enum outcome name_shape(struct bench *bench, const struct shape *s, enum outcome outcome)
{
	char name[64], why[sizeof bench->why];

	memcpy(why, bench->why, sizeof why);
	task_shape_name(bench->task, s, name, sizeof name);
	(void)snprintf(bench->why, sizeof bench->why, "%s %s: %.300s", bench->task->name, name,
		       why);
	return outcome;
}

/* In random order, so that neither finds the inputs in the cache more often than the other. */
static enum outcome run_both(struct bench *bench, const struct shape *s, int calls,
			     struct cost *ret_submission, struct cost *ret_baseline)
{
	bool baseline_first = rng_next(&bench->rng) >> 63;

	if (baseline_first && run_child(bench, &bench->baseline, calls, ret_baseline) < 0)
		return name_shape(bench, s, OUTCOME_HOST);
	if (run_child(bench, &bench->submission, calls, ret_submission) < 0)
		return name_shape(bench, s, OUTCOME_DEAD);
	if (!baseline_first && run_child(bench, &bench->baseline, calls, ret_baseline) < 0)
		return name_shape(bench, s, OUTCOME_HOST);
	return OUTCOME_RIGHT;
}

enum outcome bench_round(struct bench *bench, const struct shape *shape, int calls, enum fill fill,
			 struct cost *ret_submission, struct cost *ret_baseline,
			 double *worst_error)
{
	double ignored = 0;
	uint64_t checksum;
	enum outcome outcome;

	lay_out(bench, shape, calls, fill);
	checksum = arena_checksum(&bench->input);
	outcome = run_both(bench, shape, calls, ret_submission, ret_baseline);
	if (outcome != OUTCOME_RIGHT)
		return outcome;
	if (arena_checksum(&bench->input) != checksum)
		return wrong_place(bench, shape, "it changed its inputs");
	outcome = check_child(bench, &bench->submission, shape, calls, worst_error);
	if (outcome != OUTCOME_RIGHT)
		return outcome;
	/* A baseline that fails its own check means a broken compiler, machine or evaluator. */
	outcome = check_child(bench, &bench->baseline, shape, calls, &ignored);
	return outcome == OUTCOME_RIGHT ? OUTCOME_RIGHT : OUTCOME_HOST;
}

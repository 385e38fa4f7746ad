/* SPDX-License-Identifier: MIT */
/*
 * Judges one kernel.
 *
 * Theory of operation. The submission's code never runs in this process. It runs in a runner (child.h), which is
 * confined (confine.h) and sees inputs that it cannot write, results that nobody but it writes, and a doorbell. This
 * process makes the inputs, owns the clock, computes the reference, and writes the scores, after every process that
 * it started is dead. First many small shapes are checked, with plain and with hard values; then a few larger ones
 * are timed, the baseline and the submission in turns (bench.h), with new inputs in each round and every timed
 * result checked. The score is the geometric mean of the speed-ups, or 0.
 *
 * Exit status: 0 judged (also when the result is wrong: score 0), 1 the host or the evaluator is at fault,
 * 2 wrong command line, 4 the submission's process died or broke the rules.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench.h"
#include "confine.h"
#include "report.h"

enum {
	EXIT_HOST = 1,
	EXIT_CALL = 2,
	EXIT_SUBMISSION = 4
};

#define RANDOM_SHAPES 6
#define LOG_SHOWN     2000

struct options {
	const struct task *task;
	const char *submission, *baseline, *output, *compiler;
	bool device, host_shapes;
	uint64_t seed;
	int progress_fd;
	char log_path[4096]; /* what the submission prints */
};

/* What a SIGTERM at the evaluator's time limit leaves on stderr: a sentence prepared in advance. */
static char stopped_at[200] = "stopped from outside before the first check\n";

static void on_term(int sig)
{
	(void)sig;
	(void)!write(STDERR_FILENO, stopped_at, strlen(stopped_at));
	_exit(EXIT_SUBMISSION);
}

static void announce(const struct options *o, int done, int total, const char *what,
		     const struct shape *s)
{
	char name[64], text[128];

	task_shape_name(o->task, s, name, sizeof name);
	(void)snprintf(text, sizeof text, "%s %s %s", what, o->task->name, name);
	(void)snprintf(stopped_at, sizeof stopped_at, "stopped from outside during: %s\n", text);
	progress(o->progress_fd, done, total, text);
}

static int count_fixed(const struct task *task)
{
	int n = 0;

	while (task->checks[n].dim[0])
		n++;
	return n;
}

static int count_timed(const struct bench *bench)
{
	const struct timed_shape *t = bench_timed_shapes(bench);
	int n = 0;

	while (t[n].calls)
		n++;
	return n;
}

/* Fixed odd shapes and random ones, each with every kind of values. */
static enum outcome check_all(struct bench *bench, const struct options *o, struct report *report,
			      int total)
{
	int fixed = count_fixed(o->task);
	double worst = 0;
	struct cost ignored;
	enum outcome outcome;

	for (int i = 0; i < fixed + RANDOM_SHAPES; i++) {
		struct shape s =
			i < fixed ? o->task->checks[i] : task_random_shape(o->task, &bench->rng);

		announce(o, i, total, "checking", &s);
		for (enum fill fill = 0; fill < FILL_N; fill++) {
			outcome = bench_round(bench, &s, 1, fill, &ignored, &ignored, &worst);
			if (outcome != OUTCOME_RIGHT)
				return outcome;
			report->checks++;
		}
	}
	return OUTCOME_RIGHT;
}

static enum outcome time_all(struct bench *bench, const struct options *o, struct report *report,
			     int done, int total)
{
	const struct timed_shape *t = bench_timed_shapes(bench);
	enum outcome outcome = OUTCOME_RIGHT;

	for (int i = 0; i < REPORT_SHAPES && t[i].calls && outcome == OUTCOME_RIGHT; i++) {
		announce(o, done + i, total, "timing", &t[i].shape);
		outcome = bench_time(bench, &t[i], &report->timing[i]);
		report->shape[i] = t[i].shape;
		report->shapes = i + 1;
	}
	return outcome;
}

static enum outcome judge(const struct options *o, struct bench *bench, struct report *report)
{
	struct bench_spec spec = { .task = o->task,
				   .device = o->device,
				   .device_shapes = o->device && !o->host_shapes,
				   .confine = report->confined,
				   .seed = o->seed,
				   .submission = o->submission,
				   .baseline = o->baseline };
	int checks = count_fixed(o->task) + RANDOM_SHAPES, total;
	enum outcome outcome;

	spec.log_path = o->log_path;
	if (!bench_init(bench, &spec))
		return OUTCOME_HOST;
	total = checks + count_timed(bench);
	outcome = check_all(bench, o, report, total);
	if (outcome == OUTCOME_RIGHT)
		outcome = time_all(bench, o, report, checks, total);
	progress(o->progress_fd, total, total, outcome == OUTCOME_RIGHT ? "done" : "ended early");
	return outcome;
}

static int write_scores(const struct options *o, const struct report *report)
{
	int r = report_write(report, o->output);

	if (r < 0) {
		(void)fprintf(stderr, "cannot write scores.json: %s\n", strerror(-r));
		return EXIT_HOST;
	}
	report_print(report);
	return 0;
}

static void remove_empty_log(const struct options *o)
{
	struct stat st;

	if (lstat(o->log_path, &st) == 0 && st.st_size == 0)
		(void)unlink(o->log_path);
}

/* The end of what the submission printed, each line marked, so that none passes for one of ours. */
static void show_log(const struct options *o)
{
	char line[256];
	FILE *f = fopen(o->log_path, "re");

	if (!f)
		return;
	if (fseek(f, -(long)LOG_SHOWN, SEEK_END) < 0)
		rewind(f);
	while (fgets(line, sizeof line, f))
		(void)fprintf(stderr, "submission: %s%s", line, strchr(line, '\n') ? "" : "\n");
	(void)fclose(f);
}

static int run(const struct options *o)
{
	struct bench bench;
	struct report report = { .task = o->task,
				 .device = o->device,
				 /* A GPU's driver needs more than confine() leaves. */
				 .confined = !o->device && confine_possible(),
				 .seed = o->seed,
				 .compiler = o->compiler };
	enum outcome outcome = judge(o, &bench, &report);

	/* From here on nothing of the submission runs, so nothing can touch what is written. */
	bench_done(&bench);
	child_kill_all();
	remove_empty_log(o);
	if (outcome == OUTCOME_DEAD || outcome == OUTCOME_HOST) {
		show_log(o);
		(void)fprintf(stderr, "%s\n", bench.why);
		return outcome == OUTCOME_DEAD ? EXIT_SUBMISSION : EXIT_HOST;
	}
	report.correct = outcome == OUTCOME_RIGHT;
	report.why = bench.why;
	return write_scores(o, &report);
}

/* --------------------------------------------------------------------- command line */

static const char usage[] =
	"usage: judge --task NAME --submission FILE --baseline FILE --output FOLDER\n"
	"             [--compiler TEXT] [--seed HEX] [--device [--host-shapes]]\n";

static int wrong_call(const char *what, const char *value)
{
	(void)fprintf(stderr, "judge: %s%s\n%s", what, value, usage);
	return EXIT_CALL;
}

static const struct option long_options[] = {
	{ "task", required_argument, NULL, 't' },
	{ "submission", required_argument, NULL, 's' },
	{ "baseline", required_argument, NULL, 'b' },
	{ "output", required_argument, NULL, 'o' },
	{ "compiler", required_argument, NULL, 'c' },
	{ "seed", required_argument, NULL, 'r' },
	{ "device", no_argument, NULL, 'd' },
	{ "host-shapes", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

static int parse_options(int argc, char **argv, struct options *o)
{
	const char *task = "";
	int c;

	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		if (c == 't')
			task = optarg;
		else if (c == 's')
			o->submission = optarg;
		else if (c == 'b')
			o->baseline = optarg;
		else if (c == 'o')
			o->output = optarg;
		else if (c == 'c')
			o->compiler = optarg;
		else if (c == 'r')
			o->seed = strtoull(optarg, NULL, 16);
		else if (c == 'd')
			o->device = true;
		else if (c == 'h')
			o->host_shapes = true;
		else
			return wrong_call("unknown option", "");
	}
	o->task = task_find(task);
	if (!o->task)
		return wrong_call("the tasks are ", task_names());
	if (!o->submission || !o->baseline || !o->output)
		return wrong_call("--submission, --baseline and --output are needed", "");
	(void)snprintf(o->log_path, sizeof o->log_path, "%s/submission.log", o->output);
	return 0;
}

/* No more than the descriptor's number; the environment does not reach the runners. */
static int progress_fd(void)
{
	const char *text = getenv("ZR_PROGRESS_FD");

	return text && *text ? (int)strtol(text, NULL, 10) : -1;
}

static int prepare_process(void)
{
	struct sigaction term = { .sa_handler = on_term };

	(void)signal(SIGPIPE, SIG_IGN);
	(void)sigaction(SIGTERM, &term, NULL);
	/* Orphans of the submission come to us; nobody of our own user may look into our memory. */
	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return -1;
	return 0;
}

int main(int argc, char **argv)
{
	struct options o = { .compiler = "", .progress_fd = progress_fd() };
	int r;

	if (getrandom(&o.seed, sizeof o.seed, 0) != sizeof o.seed || prepare_process() < 0) {
		(void)fprintf(stderr, "judge: %s\n", strerror(errno));
		return EXIT_HOST;
	}
	r = parse_options(argc, argv, &o);
	return r ? r : run(&o);
}

/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_REPORT_H
#define KERNEL_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "bench.h"

#define REPORT_SHAPES 8

/* What goes into scores.json. */
struct report {
	const struct task *task;
	bool device, confined, correct;
	uint64_t seed;
	const char *why; /* if not correct */
	const char *compiler;
	int checks; /* rounds of the correctness check that were right */
	int shapes;
	struct shape shape[REPORT_SHAPES];
	struct timing timing[REPORT_SHAPES];
};

/* Geometric mean of the shapes' speed-ups, 0 if the submission is wrong. */
double report_score(const struct report *report);

/* Writes scores.json into `folder` by rename. 0 or -errno. */
int report_write(const struct report *report, const char *folder);

/* For people: one line for each shape on stdout. */
void report_print(const struct report *report);

/* Names a progress line's descriptor; -1: none. */
void progress(int fd, int done, int total, const char *text);

#endif

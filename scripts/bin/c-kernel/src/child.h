/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_CHILD_H
#define KERNEL_CHILD_H

#include <stdbool.h>
#include <sys/types.h>
#include <time.h>

#include "arena.h"
#include "channel.h"

/*
 * A runner process as the judge sees it. Between two calls it is stopped by SIGSTOP, so that nothing it left running
 * can change a result that is being checked, or work ahead. What a call cost is measured out here: wall time from
 * the doorbell to the reply, and the processor time of the whole process from doorbell to standstill.
 */
struct child {
	const char *label; /* for sentences: "the submission", "the baseline" */
	pid_t pid;
	int pidfd;
	int doorbell, reply; /* our ends */
	clockid_t clock;     /* the child's processor time */
	bool has_clock;
	struct arena output;
};

struct child_spec {
	const char *label;
	const char *path; /* of the runner */
	int input_fd;     /* read-only */
	size_t output_size;
	const char *log_path; /* stdout and stderr of the child go there */
	bool confine;
	int cpu; /* runs on this one only; -1: any */
};

struct cost {
	double wall_usec;
	double cpu_usec; /* as wall_usec where the kernel does not tell */
	double device_usec;
};

/* 0, or -1 with a sentence in `ret_why`. */
int child_start(struct child *child, const struct child_spec *spec, char *ret_why, size_t size);

/*
 * Rings the doorbell and waits, without end: the caller's time limit is the evaluator's. The child is stopped again
 * when this returns 0. -1: it died or broke the protocol, `ret_why` says how, the child is gone.
 */
int child_call(struct child *child, enum channel_op op, int calls, uint64_t nonce,
	       struct cost *ret_cost, char *ret_why, size_t size);

void child_done(struct child *child);

/* Kills all descendants of this process, those that lost their parent included; returns when none is left. */
void child_kill_all(void);

#endif

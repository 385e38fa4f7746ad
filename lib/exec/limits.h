/* SPDX-License-Identifier: MIT */
/* The phases of a job and the limits that hold in them. */
#ifndef ZR_EXEC_LIMITS_H
#define ZR_EXEC_LIMITS_H

#include <jansson.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"

/* In the order they run in; an evaluator has `run` and may have the others. */
enum phase {
	PHASE_PREPARE,
	PHASE_RUN,
	PHASE_SCORE,
	PHASE_N,
};
const char *phase_name(enum phase p);
/* -EINVAL: no such phase. */
int phase_parse(const char *name, enum phase *ret) must_check;

/* 0 means: no limit. The wall clock is per phase; the others hold for each phase, disk and output
 * for the whole job. */
struct limits {
	uint64_t wall_usec[PHASE_N];
	uint64_t cpu_usec;
	uint64_t memory_bytes;
	uint64_t pids;
	uint64_t disk_bytes;   /* work, temporary and output files together, while running */
	uint64_t output_bytes; /* the result that is sealed */
};

/* {"wall_usec", "prepare_wall_usec", "score_wall_usec", "cpu_usec", "memory_bytes", "pids",
 * "disk_bytes", "output_bytes"}: positive integers, each optional; another member is an error. */
int limits_from_json(const json_t *o, struct limits *ret, struct err *e) must_check;
/* Only the limits that are set. NULL: no memory. */
json_t *limits_to_json(const struct limits *l);

/* What was asked for can only lower a limit; asking for more is ERR_INPUT, with a sentence. */
int limits_lower(struct limits *l, const struct limits *asked, struct err *e) must_check;

#endif

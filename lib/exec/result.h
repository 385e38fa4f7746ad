/* SPDX-License-Identifier: MIT */
/* How a job ended. The JSON form is the body of the terminal event (zr-message(7)). */
#ifndef ZR_EXEC_RESULT_H
#define ZR_EXEC_RESULT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"
#include "exec/limits.h"

enum box_reason {
	BOX_OK,
	BOX_EXIT,
	BOX_SIGNAL,
	BOX_CPU_LIMIT,
	BOX_WALL_LIMIT,
	BOX_MEMORY,
	BOX_OUTPUT_LIMIT,
	BOX_DISK,
	BOX_PIDS,
	BOX_SETUP,
	BOX_INFRASTRUCTURE,
	BOX_CANCELED,
	BOX_LOST,
	BOX_POISON,
	BOX_VIOLATION,
	BOX_REASON_N,
};
const char *box_reason_name(enum box_reason r); /* "ok", "exit", "cpu-limit", … */
int box_reason_parse(const char *name, enum box_reason *ret) must_check;

#define BOX_UNKNOWN UINT64_MAX

struct box_result {
	enum box_reason reason;
	char *detail;     /* one sentence, or NULL */
	bool keeper_died; /* `lost` since the keeper was killed, and not with its host */
	int exit_code;    /* -1: none */
	int signal;       /* 0: none */
	enum phase phase; /* the last one that ran */

	json_t *scores;     /* object, or NULL */
	char *scores_error; /* why there are none, or NULL */

	char *root_hash;       /* "sha256:…" of the sealed result, or NULL: nothing was sealed */
	uint64_t result_bytes; /* of the sealed archive */

	uint64_t started_wall_usec, finished_wall_usec; /* 0: never started */
	uint64_t wall_usec, cpu_usec;                   /* all phases together */
	uint64_t memory_peak_bytes;                     /* page cache included; or BOX_UNKNOWN */

	uint64_t gpu_wait_usec, gpu_hold_usec; /* BOX_UNKNOWN: none was asked for */

	uint64_t out_bytes, err_bytes; /* written by the job; what is kept may be less */
	bool log_truncated;

	json_t *violations; /* what was refused and which limits came near, or NULL */
	json_t *conditions; /* of the measurement: host, load, GPUs, clocks; or NULL */
	json_t *isolation;  /* {"level", "mechanisms", "missing", "limits", "end"} */
};

void box_result_init(struct box_result *r);
void box_result_done(struct box_result *r);
DEFINE_AUTO_DONE(box_result);

/* A new object; NULL: no memory. */
json_t *box_result_json(const struct box_result *r);
/* Strict in types and ranges; members it does not know are ignored. */
int box_result_from_json(const json_t *o, struct box_result *ret, struct err *e) must_check;

#endif

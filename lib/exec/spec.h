/* SPDX-License-Identifier: MIT */
/*
 * spec.json: all that the keeper of a box is told. It is written once, before the keeper starts,
 * and never changed; being there and synced it is also the worker's claim on the job.
 */
#ifndef ZR_EXEC_SPEC_H
#define ZR_EXEC_SPEC_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/time.h"
#include "exec/cgroup.h"
#include "exec/container.h"
#include "exec/gpu.h"
#include "exec/limits.h"
#include "exec/sandbox.h"

#define SPEC_FILE     "spec.json"
#define SPEC_FILE_MAX (4u << 20)

/* What the job wrote, beside it. */
#define OUT_LOG_FILE "out.log"
#define ERR_LOG_FILE "err.log"

/* The longest lease, and the longest that one renewal can give. */
#define LEASE_USEC_MAX (7 * 86400 * USEC_PER_SEC)

struct box_spec {
	char *evaluation; /* id_valid() */
	int64_t attempt;  /* from 1 */
	char *attempt_id; /* UUID; the box folder's name */
	char *evaluator;  /* its name */
	char *boot_id;    /* of the claim; filled by box_prepare() when NULL */

	char **argv
		[PHASE_N]; /* NULL: no such phase; argv[0] absolute; complete, nothing is added */
	struct limits limits;
	char **env; /* the evaluator's own NAME=value, NULL for none */
	/* Level `none`: a program of the host that must find things as the worker's own child would. */
	char *environ_file; /* its environment before `env`, instead of a box's: NAME=value and a NUL
			     * each. It gets no ZR_ variables and no progress descriptor. NULL: a box's */
	char *work_dir;     /* its working folder; NULL: the box's */
	char *called;       /* its argv[0]; NULL: the path */
	char *submission;   /* folder: ZR_SUBMISSION */
	char *evaluator_dir; /* folder, first in PATH */
	char *sealed_dir;    /* the result becomes <sealed_dir>/<attempt_id>/ by rename */

	uint64_t log_cap;         /* bytes kept of each of out.log and err.log */
	bool log_stop;            /* more output than log_cap ends the job with `output-limit` */
	uint64_t term_grace_usec; /* from SIGTERM to SIGKILL */
	/* The first term of the lease: unless box_renew() comes before it is over, the keeper ends
	 * the job as `lost`. 0: it runs on without anybody. */
	uint64_t lease_usec;
	bool attended; /* canceled when the worker that started it has gone: nobody would adopt it */
	char *scores_file;      /* name in the output folder; NULL: the evaluator gives no scores */
	bool scores_required;   /* exit 0 without the file is a failure */
	char *progress_pattern; /* POSIX extended expression; NULL: the built-in one */

	bool timing;       /* `run` is measured */
	char *timing_cpus; /* where a timed `run` is alone; NULL: the host reserves none */
	char *other_cpus;  /* where all else has to be */
	char *claimed_time; /* the score that says how long the measured part took; NULL: none does */
	uint64_t claimed_percent; /* of the wall time of `run`, at least; 0: not checked */
	uint64_t cpu_percent;     /* of one processor, for all of the job together; 0: no bound */
	uint64_t cpu_weight;      /* beside other jobs, 1 to 10000; 0: as usual, 100 */
	struct cgroup_host cgroup;
	struct sandbox sandbox;
	struct container *container; /* level `container`; else NULL */
	struct gpu_request *gpus;    /* held for `run`; NULL: none */

	/* The worker's: what the evaluator allows after a failure of the evaluation's own. */
	uint64_t retries;
	/* The worker's own notes (the request, for one): any object, kept, not looked at. */
	json_t *claim;
};

void spec_free(struct box_spec *s);
static inline void spec_auto_(struct box_spec **s)
{
	spec_free(*s);
}
#define auto_spec __attribute__((cleanup(spec_auto_))) struct box_spec *

/* Strict: unknown members, relative paths, names with '/' and so on are ERR_INPUT. */
int spec_parse(const void *data, size_t n, struct box_spec **ret, struct err *e) must_check;
int spec_read(int box_dirfd, struct box_spec **ret, struct err *e) must_check;
/* Allocated text; what it gives is accepted by spec_parse(). */
int spec_text(const struct box_spec *s, char **ret, struct err *e) must_check;

/* Was it claimed since the host came up? 1: yes; 0: before that; -1: nobody knows. */
int spec_is_this_boot(const struct box_spec *s);

#endif

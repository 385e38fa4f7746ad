/* SPDX-License-Identifier: MIT */
/*
 * Evaluators: what a host is willing to run. An evaluator is a folder of the bin folder with a file
 * evaluator.conf, or a bare executable in it; zr-evaluator(5) explains the keys. A message names an
 * evaluator, never a path: the name must be id_valid() and is opened beneath the bin folder without
 * following any link. Commands are word vectors, no shell is involved; the program of each must be
 * an executable regular file inside the evaluator's folder.
 */
#ifndef ZR_EXEC_EVALUATOR_H
#define ZR_EXEC_EVALUATOR_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/settings.h"
#include "exec/limits.h"
#include "exec/sandbox.h"
#include "exec/spec.h"

#define EVALUATOR_FILE "evaluator.conf"

struct evaluator {
	char *name;
	char *dir;  /* real path of its folder; of the bin folder for a bare executable */
	char *file; /* what it was read from, for people */
	bool bare;
	char *description; /* or NULL */

	char **argv[PHASE_N]; /* argv[0] absolute; NULL: no such phase */
	char **args;          /* added to `run` */
	char **allow_args;    /* patterns for the request's words; NULL: none may be given */
	struct limits limits;

	enum isolation isolation;
	bool isolation_given;             /* by the file; `none` otherwise, and results say so */
	uint64_t cpu_percent, cpu_weight; /* as in spec.h */
	bool network;
	unsigned gpus;
	char *gpu_arch;                           /* or NULL */
	uint64_t gpu_memory_bytes, gpu_wait_usec; /* of each; 0: any, for ever */
	char *arch;                               /* of the machine; or NULL */
	bool timing;
	char *claimed_time; /* as in spec.h */
	uint64_t claimed_percent;
	char **mounts;
	char **beside;    /* names in the bin folder */
	char **reference; /* what only `score` may see; see sandbox.h */
	bool stop_on_violation, watch_writes;
	char *image;            /* "name[:tag][@digest]", level `container`; or NULL */
	char *image_file;       /* archive in its folder, if the image is not there */
	bool image_pull;        /* or from its registry */
	char *submission_image; /* a file of the submission is imported as the image */
	bool submission_data;   /* nothing of the submission is executed */

	unsigned retries; /* further attempts after failures of the evaluation's own */
	char *scores_file;
	bool scores_required;
	char *progress_pattern;
	uint64_t log_cap; /* 0: the host's setting */
	bool log_stop;
	char **env;
};
void evaluator_free(struct evaluator *ev);
DEFINE_AUTO(evaluator);

/* ERR_INPUT: no such evaluator, or the name is not one. ERR_HOST: it is there but its file or a
 * program is wrong; the text starts with "file:line: " where a line is at fault. */
int evaluator_load(const char *bin_dir, const char *name, struct evaluator **ret,
		   struct err *e) must_check;
/* The same for one folder anywhere, for `zr evaluators:check DIR`. */
int evaluator_load_dir(const char *dir, struct evaluator **ret, struct err *e) must_check;
/* One that is no file, with the default settings and without a command; `dir` is its folder. */
int evaluator_new(const char *name, const char *dir, struct evaluator **ret,
		  struct err *e) must_check;

/* Everything in the bin folder, sorted by name; what cannot be loaded has ev NULL and `error`. */
struct evaluator_entry {
	char *name;
	struct evaluator *ev;
	char *error;
};
int evaluator_list(const char *bin_dir, struct evaluator_entry **ret, size_t *ret_n,
		   struct err *e) must_check;
void evaluator_list_free(struct evaluator_entry *list, size_t n);

/* A list of evaluator_json(), {"name", "error"} for what cannot be loaded. NULL: no memory. */
json_t *evaluator_index(const struct evaluator_entry *list, size_t n);
/* Writes it to <state_dir>/evaluators.json, where `zr evaluators:discover HOST` reads it over SSH;
 * nothing if it is the same already. */
#define EVALUATOR_INDEX_FILE "evaluators.json"
int evaluator_index_write(const char *state_dir, const struct evaluator_entry *list, size_t n,
			  struct err *e) must_check;

/* {"name", "description", "isolation", "phases", "limits", "gpus", …}, the form of the index. */
json_t *evaluator_json(const struct evaluator *ev);

/* ERR_HOST, with a sentence that names what is missing, if this host cannot run it as it asks. A
 * level is never lowered. */
int evaluator_runnable(const struct evaluator *ev, struct err *e) must_check;

/* What it asks for, of a host with these GPUs; NULL if it needs none. ERR_HOST with a sentence if they
 * do not do. */
int evaluator_gpus(const struct evaluator *ev, const struct gpu_list *list,
		   struct gpu_request **ret, struct err *e) must_check;

/* ERR_INPUT: the evaluator does not allow this word. */
int evaluator_check_args(const struct evaluator *ev, char *const *args, struct err *e) must_check;

/* What a request and the host add to an evaluator. Strings are only read. */
struct evaluator_job {
	const char *evaluation;
	int64_t attempt;
	const char *attempt_id;
	char *const *args;          /* the request's, or NULL */
	const struct limits *asked; /* the request's, or NULL */
	const char *submission;     /* folder, absolute */
	const char *state_dir;
	uint64_t log_cap;         /* settings */
	uint64_t gpu_settle_usec; /* settings */
	uint64_t term_grace_usec; /* settings */
	uint64_t lease_usec;      /* 0: none */
	const struct cgroup_host *cgroup;
	const struct gpu_list *gpus;  /* of this host; may be NULL if the evaluator asks for none */
	const char *container_engine; /* settings */
	const char *timing_cpus;      /* settings; or NULL */
	const char *gpu_lock_dir, *gpu_index_lock_dir, *cuda_library; /* settings */
	const json_t *claim;                                          /* or NULL */
	bool attended;                                                /* as in spec.h */
};
/* Fills what comes from this host's settings, whose texts are only pointed to. */
void evaluator_job_settings(struct evaluator_job *job, const struct settings *s);

/*
 * Joins both to what box_prepare() takes: checks runnable and args, lowers limits, completes the
 * commands (own words, args, the request's words, submission folder). *ret is for spec_free().
 */
int evaluator_plan(const struct evaluator *ev, const struct evaluator_job *job,
		   struct box_spec **ret, struct err *e) must_check;

#endif

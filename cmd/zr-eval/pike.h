/* SPDX-License-Identifier: MIT */
/*
 * The dialect pike on the side of the execution: its options, and the evaluator that its requests
 * name, which is made here out of them. It executes the evaluation script as its users know it: by
 * the `python` of the worker's PATH, in the worker's folder, with the worker's environment.
 */
#ifndef ZR_CMD_ZR_EVAL_PIKE_H
#define ZR_CMD_ZR_EVAL_PIKE_H

#include "base/daemon.h"
#include "base/settings.h"
#include "exec/evaluator.h"
#include "messaging/channel.h"

enum pike_option {
	PIKE_DIALECT,
	PIKE_INPUT_DIR,
	PIKE_OUTPUT_DIR,
	PIKE_SCRATCH_DIR,
	PIKE_ARCH,
	PIKE_MAX_ACTIVE_TASKS,
	PIKE_EVAL_SCRIPT,
	PIKE_WALL_LIMIT,
	PIKE_GRACE,
	PIKE_DRAIN_LIMIT,
	PIKE_GPU_LOCK,
	PIKE_MAX_AGE,
	PIKE_TASK_FILES,
	PIKE_OPTION_N,
};
#define PIKE_OPTIONS                                                                               \
	{ "dialect", "DIALECT", "native, or pike: how messages in a folder are written" },         \
		{ "input-dir", "DIR", "pike: where requests come; default: /input" },              \
		{ "output-dir", "DIR", "pike: where answers go; default: /output" },               \
		{ "scratch-dir", "DIR", "pike: code, results and caches; default: /scratch" },     \
		{ "arch", "ARCH", "pike: TORCH_CUDA_ARCH_LIST of the evaluations, required" },     \
		{ "max-active-tasks", "N", "pike: evaluations at once; default: 20" },             \
		{ "eval-script", "FILE", "pike: default: scripts/eval.py" },                       \
		{ "wall-limit", "SPAN", "pike: of one evaluation; default: 900s" },                \
		{ "grace", "SPAN", "pike: to wait for the text of a message; default: 60s" },      \
		{ "drain-limit", "SPAN", "pike: from close to the last answer; default: 60s" },    \
		{ "gpu-lock", "WHO", "pike: script or box: who takes the GPU; default: script" },  \
		{ "max-age", "SPAN", "pike: what has waited longer is not run" },                  \
	{                                                                                          \
		"task-files", "WHAT",                                                              \
			"pike: keep or remove a task's code and output; default: remove"           \
	}

struct pike_setup {
	struct pike_conf conf;
	struct pike_folders *folders; /* what conf points to, each text its own */
	size_t n_folders;
	struct evaluator *evaluator;
	char *scratch, *script, *work_dir;
	char *environ_file; /* in the scratch folder, for the worker's user alone */
	const char *arch;
	uint64_t wall_usec;
	bool box_locks; /* each task gets a GPU of its own from the box */
};
void pike_setup_done(struct pike_setup *p);
DEFINE_AUTO_DONE(pike_setup);

bool pike_is_asked_for(const char *const *given);
/* Checks the options and lets them change `o` and `s`. `p` may be NULL. ERR_HOST: no `python`. */
int pike_apply(const char *const *given, struct daemon_options *o, struct settings *s,
	       struct pike_setup *p, struct err *e) must_check;
/* Makes the evaluator and what stands for its submission. */
int pike_prepare(struct pike_setup *p, const struct daemon_options *o, const struct settings *s,
		 struct err *e) must_check;
/* Completes what was planned for p->evaluator by the request's words: level, task, number, mode. */
int pike_command(const struct pike_setup *p, const json_t *words, struct box_spec *spec,
		 struct err *e) must_check;

#endif

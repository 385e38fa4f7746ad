/* SPDX-License-Identifier: MIT */
/*
 * One evaluation of the dialect pike: what was asked, the record of it that outlives the worker, its
 * files under the scratch folder, and the answer.
 *
 *	tasks/EVALUATION.req       accepted
 *	tasks/EVALUATION.run       a job of this host, which owes its end
 *	tasks/EVALUATION.answered  the answer lies in the output folder; its .done may be missing
 */
#ifndef ZR_MESSAGING_PIKETASK_H
#define ZR_MESSAGING_PIKETASK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/id.h"
#include "base/pyjson.h"
#include "base/str.h"

enum piketask_state {
	PIKE_REQ,
	PIKE_RUN,
	PIKE_ANSWERED,
	PIKE_STATE_N,
};

struct pikeside;

struct piketask {
	TAILQ_ENTRY(piketask) entry;
	enum piketask_state state;
	uint64_t n; /* in file names */
	char evaluation[UUID_LEN + 1], request[UUID_LEN + 1], out[UUID_LEN + 1];
	char *id; /* JSON, as it was given */
	char *level, *task, *mode;
	char *stem;   /* of the pair */
	char *output; /* the folder that it is answered in; NULL in records of before */
	struct pikeside *side;
	uint64_t asked_wall_usec;
	bool handed_out;
};
TAILQ_HEAD(piketask_list, piketask);
void piketask_free(struct piketask *t);
DEFINE_AUTO(piketask);

struct pikedirs {
	const char *scratch, *state_dir;
	int tasks, code, eval_output, scratch_fd, gpu_locks;
	int tmp, torch_ext, triton_cache;
	bool own_locks; /* as in struct pike_conf; the opener's to say */
};
/* None of them is open. */
#define PIKEDIRS_NONE                                                                              \
	((struct pikedirs){ .tasks = -1,                                                           \
			    .code = -1,                                                            \
			    .eval_output = -1,                                                     \
			    .scratch_fd = -1,                                                      \
			    .gpu_locks = -1,                                                       \
			    .tmp = -1,                                                             \
			    .torch_ext = -1,                                                       \
			    .triton_cache = -1 })
/* Makes and opens them all. */
int pikedirs_open(const char *scratch, const char *state_dir, struct pikedirs *ret,
		  struct err *e) must_check;
/* Those of the scratch tree again, if something has removed them or put others in their place. */
int pikedirs_check(struct pikedirs *d, struct err *e) must_check;
/* The same for eval_output alone. */
int pikedirs_check_output(struct pikedirs *d, struct err *e) must_check;
void pikedirs_done(struct pikedirs *d);

/* ERR_INPUT: a sentence for whoever asked; *code is what is to be evaluated. `id` is in the message. */
int piketask_read(struct pj message, const char *stem, uint64_t asked_wall_usec,
		  struct piketask **ret, struct buf *code, struct err *e) must_check;

/* Writes the code, makes the task's own folders, then the record. What is in the way is removed. */
int piketask_accept(const struct pikedirs *d, const struct piketask *t, const struct buf *code,
		    struct err *e) must_check;
int piketask_set_state(const struct pikedirs *d, struct piketask *t, enum piketask_state state,
		       struct err *e) must_check;
/* The task whose record has this name in tasks/. */
int piketask_load(const struct pikedirs *d, const char *name, struct piketask **ret,
		  struct err *e) must_check;
/* All that is left of it; with `keep` its code, output and temporary folder stay. */
void piketask_forget(const struct pikedirs *d, const struct piketask *t, bool keep);
/* The files of a task of the worker that was before, known by their number alone. */
bool piketask_owns(const struct piketask *t, const char *file_name);

/* What came of it, as the terminal event says. */
struct pikeend {
	const char *attempt_id, *reason, *detail;
};
int piketask_answer(const struct pikedirs *d, const struct piketask *t, const struct pikeend *end,
		    struct buf *b, struct err *e) must_check;
/* An answer without a task: `id` is JSON. */
int piketask_refusal(struct pj id, const char *why, struct buf *b) must_check;

/* "eval_results" from the child's output. Pure. */
int piketask_results(const void *data, size_t n, struct buf *b) must_check;

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The jobs of this worker. A job is a claimed box on its way:
 *
 *	FETCHING   its submission is being brought here
 *	RUNNING    its keeper runs
 *	REPORTING  it has ended; the terminal event is on its way to disk
 *	RELEASING  the event is safe; the box folder is being removed
 *
 * A job holds a slot in FETCHING and RUNNING. job_set_state() is the one place where it changes.
 */
#ifndef ZR_CMD_ZR_EVAL_JOB_H
#define ZR_CMD_ZR_EVAL_JOB_H

#include "eval.h"

enum job_state {
	JOB_FETCHING,
	JOB_RUNNING,
	JOB_REPORTING,
	JOB_RELEASING,
	JOB_STATE_N,
};
const char *job_state_name(enum job_state s);

struct job {
	TAILQ_ENTRY(job) entry;
	struct eval *ev;
	struct box *box;
	const struct box_spec *spec; /* the box's */
	enum job_state state;
	enum phase phase;
	uint64_t since_wall_usec;     /* of the state */
	uint64_t requested_wall_usec; /* when the request was made; 0: not known */

	struct fetch_wait *fetch;
	struct loop_src *next; /* the deferred or delayed next step */
	uint64_t note;         /* of the claim, 0: none */
	bool report_failed;
	uint64_t last_seq;

	/* A `started` event that is held back, see on_started(). */
	struct loop_src *started_timer; /* NULL: there is none */
	uint64_t started_wall_usec;
	json_t *isolation;
	uint64_t log_sent[BOX_STREAM_N]; /* bytes of each log that went out as events */
};

/* Takes a box that this worker owns, freshly claimed or adopted, and goes on with it. Box and note
 * (0: none) are the job's from here on, also on failure. */
int job_take(struct eval *ev, struct box *box, uint64_t note, struct err *e) must_check;

/* Ends the job as canceled, in whatever state it is. */
void job_cancel(struct job *j, const char *by);

struct job *job_find(struct eval *ev, const char *evaluation);

/* Adopts every box of this host that no living worker owns. */
void job_adopt_all(struct eval *ev);

/* Lets go of everything; keepers run on. */
void job_free_all(struct eval *ev);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The jobs of this worker. A job is a box on its way:
 *
 *	CLAIMING   it is being made known that the request is ours (claim.h)
 *	FETCHING   its submission is being brought here
 *	RUNNING    its keeper runs
 *	REPORTING  it has ended; the terminal event is on its way to disk
 *	RELEASING  the event is safe; the box folder is being removed
 *
 * A job holds a slot up to RUNNING, or until nothing of it is alive, whichever is later.
 * job_set_state() is the one place where its state changes.
 */
#ifndef ZR_CMD_ZR_EVAL_JOB_H
#define ZR_CMD_ZR_EVAL_JOB_H

#include "eval.h"

enum job_state {
	JOB_CLAIMING,
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

	/* CLAIMING: */
	struct channel_request *token; /* NULL: an adopted box, whose request was settled */
	uint64_t told;                 /* the beat that lists it */
	bool arrived, durable;         /* that beat; the note */

	struct fetch_wait *fetch;
	struct loop_src *next; /* the deferred or delayed next step */
	uint64_t note;         /* of the claim, 0: none */
	bool report_failed;
	bool stuck; /* it has ended, but something of it does not die */

	/* FETCHING: it ends without a start, as soon as that can be written. */
	bool ending, concluded;
	enum box_reason end_reason;
	char *end_detail; /* or NULL */

	uint64_t last_seq;

	/* A `started` event that is held back, see on_started(). */
	struct loop_src *started_timer; /* NULL: there is none */
	uint64_t started_wall_usec;
	json_t *isolation;
	uint64_t log_sent[BOX_STREAM_N]; /* bytes of each log that went out as events */
};

/* Takes a box that this worker owns, freshly made or adopted, and goes on with it. Box and note (0:
 * none) are the job's from here on, also on failure; so is `token`, the request of a fresh one, with
 * success. */
int job_take(struct eval *ev, struct box *box, uint64_t note, struct channel_request *token,
	     struct err *e) must_check;

/* From the beat: the one of this number, and so all before it, has arrived; the lease goes on; it has
 * run out. */
void job_told(struct eval *ev, uint64_t beat);
void job_renew_all(struct eval *ev);
void job_lease_lost(struct eval *ev);

/* Ends the job as canceled, in whatever state it is. */
void job_cancel(struct job *j, const char *by);

struct job *job_find(struct eval *ev, const char *evaluation);

/* Adopts every box of this host that no living worker owns. */
void job_adopt_all(struct eval *ev);

/* Lets go of everything; keepers run on. */
void job_free_all(struct eval *ev);

#endif

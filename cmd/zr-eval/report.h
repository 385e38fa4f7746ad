/* SPDX-License-Identifier: MIT */
/*
 * What the database and the listeners hear of a job. Numbers (seq) are chosen so that a worker that
 * adopts a box says the same thing by the same number: 1 is the start, REPORT_SEQ_END the end,
 * everything between is milliseconds since the host's boot. Start and end are durable, the rest is sent
 * now or never.
 */
#ifndef ZR_CMD_ZR_EVAL_REPORT_H
#define ZR_CMD_ZR_EVAL_REPORT_H

#include "base/id.h"
#include "eval.h"

#define REPORT_SEQ_START 1
#define REPORT_SEQ_END   1000000000000

void report_started(struct eval *ev, const struct box_spec *spec, uint64_t wall_usec,
		    const json_t *isolation);
void report_progress(struct eval *ev, const struct box_spec *spec, uint64_t *last_seq,
		     enum phase phase, const struct progress *p);
/* What a job was refused, as the box has told it. */
void report_violation(struct eval *ev, const struct box_spec *spec, uint64_t *last_seq,
		      enum phase phase, json_t *violations);
/* Sends the bytes of a log from *sent to `size`, and moves *sent. */
void report_log(struct eval *ev, const struct box_spec *spec, const struct box *box,
		enum box_stream stream, uint64_t *sent, uint64_t size, uint64_t *last_seq);

/* The end of a box. `durable` is called from the loop once the event survives a crash; never if
 * this fails. ERR_TRANSIENT: the spool is full. */
int report_end(struct eval *ev, const struct box_spec *spec, const struct box_result *r,
	       void (*durable)(void *user), void *user, struct err *e) must_check;

/* The end of a request for which there is no box: a `failed` event with its sentence. `arrived` is
 * called from the loop once the broker has it; never if this fails. */
int report_refused(struct eval *ev, const struct message_request *rq, enum box_reason reason,
		   const char *detail, void (*arrived)(void *user), void *user,
		   struct err *e) must_check;

/* An end of which the broker does not know yet: this worker still answers for the attempt. */
struct ended {
	TAILQ_ENTRY(ended) entry;
	uint64_t id; /* of the event */
	char *evaluation;
	int attempt;
	char attempt_id[UUID_LEN + 1];
	uint64_t since_wall_usec;
	void (*arrived)(void *user); /* or NULL */
	void *user;
};

/* The same for anything else that the channel keeps under such a number. */
int report_wait(struct eval *ev, uint64_t id, void (*durable)(void *user), void *user,
		struct err *e) must_check;

/* From the channel: events up to `id` are on disk. */
void report_durable(struct eval *ev, uint64_t id);
/* From the channel: event `id` has arrived. */
void report_confirmed(struct eval *ev, uint64_t id);
/* Forgets who waits. */
void report_done(struct eval *ev);

#endif

/* SPDX-License-Identifier: MIT */
/* One worker process of zr-eval: what its files share. main.c explains how they work together. */
#ifndef ZR_CMD_ZR_EVAL_EVAL_H
#define ZR_CMD_ZR_EVAL_EVAL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/err.h"
#include "base/loop.h"
#include "base/settings.h"
#include "exec/box.h"
#include "exec/cgroup.h"
#include "fetch.h"
#include "messaging/channel.h"

TAILQ_HEAD(job_list, job);
TAILQ_HEAD(wait_list, wait);
TAILQ_HEAD(found_list, found);
TAILQ_HEAD(ended_list, ended);

struct eval {
	struct loop *loop;
	struct settings *settings;
	char *conf;          /* --conf, or NULL */
	unsigned number;     /* of this worker, from 1 */
	unsigned slots;      /* jobs at once */
	char name[2 * 80];   /* "host/1" */
	uint64_t since_usec; /* wall clock */

	const struct pike_setup *pike; /* the dialect pike; else NULL */

	struct cgroup_host cgroup;
	struct keepers *keepers;
	struct fetcher *fetcher;
	struct ledger *ledger;
	struct channel *channel;

	struct job_list jobs;
	unsigned n_jobs; /* holding a slot */
	struct control *control;
	struct gpus *gpus;
	struct beat *beat;
	struct wait_list waits;  /* report.c: for events to be on disk */
	struct ended_list ended; /* report.c: ends that the broker does not know yet */
	struct found_list found; /* claim.c: notes of former workers */
	uint64_t event_usec;     /* job.c: when the last durable event was made */

	bool adopted; /* boxes of former workers have been looked for */
	bool draining, leaving;
	bool disk_low;
	struct loop_src *disk_timer;
	uint64_t pause_usec;    /* the next pause of the intake; 0: the last claim went well */
	struct loop_src *pause; /* armed: nothing is taken */
	bool paused;
};

/* The number of requests this worker may take, told to the channel after every change. */
void eval_update_intake(struct eval *ev);
/* What was taken had to go back: it would come again at once, and be given up after some hundred times. */
void eval_pause_intake(struct eval *ev);
/* What was taken was claimed. */
void eval_intake_is_good(struct eval *ev);

#endif

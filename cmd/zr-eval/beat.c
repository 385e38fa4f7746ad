/* SPDX-License-Identifier: MIT */
#include "beat.h"

#include <string.h>

#include "base/fd.h"
#include "base/id.h"
#include "base/json.h"
#include "base/log.h"
#include "exec/evaluator.h"
#include "job.h"

#define BEAT_USEC      (10 * USEC_PER_SEC)
#define BEAT_SOON_USEC (300 * USEC_PER_MSEC)
/* The bin folder is looked at again this often. */
#define INDEX_USEC (60 * USEC_PER_SEC)
#define JOBS_SHOWN 256

struct beat {
	struct eval *ev;
	struct loop_src *timer;
	bool soon;
	char boot_id[UUID_LEN + 1];
	json_t *evaluators;
	uint64_t indexed_usec;
};

static void read_evaluators(struct beat *b)
{
	struct evaluator_entry *list = NULL;
	size_t n = 0;
	struct err e = { 0 };

	if (b->evaluators && time_mono_usec() - b->indexed_usec < INDEX_USEC)
		return;
	b->indexed_usec = time_mono_usec();
	json_decref(b->evaluators);
	b->evaluators = json_array();
	if (evaluator_list(b->ev->settings->bin_dir, &list, &n, &e) < 0) {
		log_warning("%s, so requests cannot be served", e.msg);
		return;
	}
	for (size_t i = 0; i < n; i++)
		if (list[i].ev)
			(void)json_array_append_new(b->evaluators, json_string(list[i].name));
	/* One writer is enough; what discovers this host over SSH reads it. */
	if (b->ev->number == 1 &&
	    evaluator_index_write(b->ev->settings->state_dir, list, n, &e) < 0)
		log_warning("%s, so others cannot discover the evaluators", e.msg);
	evaluator_list_free(list, n);
}

static size_t fill_jobs(const struct eval *ev, struct message_job *jobs)
{
	const struct job *j;
	size_t n = 0;

	TAILQ_FOREACH (j, &ev->jobs, entry) {
		if (n == JOBS_SHOWN)
			break;
		jobs[n++] = (struct message_job){
			.evaluation = j->spec->evaluation,
			.attempt = (int)j->spec->attempt,
			.phase = j->state == JOB_RUNNING ? phase_name(j->phase)
							 : job_state_name(j->state),
			.since_wall_usec = j->since_wall_usec,
		};
	}
	return n;
}

static void send_state(struct beat *b, enum message_worker_state state)
{
	struct message_job jobs[JOBS_SHOWN];
	const struct eval *ev = b->ev;
	struct err e = { 0 };

	read_evaluators(b);
	if (channel_worker(ev->channel,
			   &(struct message_worker){ .host = ev->settings->host,
						     .worker = ev->name,
						     .pid = getpid(),
						     .boot_id = b->boot_id,
						     .since_wall_usec = ev->since_usec,
						     .at_wall_usec = time_wall_usec(),
						     .state = state,
						     .jobs = jobs,
						     .n_jobs = fill_jobs(ev, jobs),
						     .evaluators = b->evaluators },
			   &e) < 0)
		log_debug("worker state was dropped: %s", e.msg);
}

static void on_timer(void *user)
{
	struct beat *b = user;
	const struct eval *ev = b->ev;

	b->soon = false;
	loop_timer_set(b->timer, BEAT_USEC);
	if (ev->channel)
		send_state(b, ev->draining             ? MESSAGE_DRAINING
			      : TAILQ_EMPTY(&ev->jobs) ? MESSAGE_IDLE
						       : MESSAGE_BUSY);
}

int beat_new(struct eval *ev, struct beat **ret, struct err *e)
{
	struct beat *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return err_nomem(e);
	b->ev = ev;
	(void)!id_boot(b->boot_id, NULL);
	r = loop_timer(ev->loop, BEAT_USEC, on_timer, b, &b->timer, e);
	if (r < 0) {
		free(b);
		return r;
	}
	*ret = b;
	return 0;
}

void beat_free(struct beat *b)
{
	if (!b)
		return;
	loop_src_free(b->timer);
	json_decref(b->evaluators);
	free(b);
}

void beat_changed(struct beat *b)
{
	if (!b || b->soon)
		return;
	b->soon = true;
	loop_timer_set(b->timer, BEAT_SOON_USEC);
}

void beat_gone(struct beat *b)
{
	send_state(b, MESSAGE_GONE);
}

/* SPDX-License-Identifier: MIT */
#include "beat.h"

#include <string.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/json.h"
#include "base/log.h"
#include "exec/evaluator.h"
#include "job.h"
#include "report.h"

#define BEAT_MAX_USEC  (10 * USEC_PER_SEC)
#define BEAT_SOON_USEC (300 * USEC_PER_MSEC)
#define TELL_USEC      (USEC_PER_MSEC / 2)
/* Keepers are told of a longer lease no more often than this part of it. */
#define RENEW_PART 6
/* The bin folder is looked at again this often. */
#define INDEX_USEC (60 * USEC_PER_SEC)
#define JOBS_MAX   4096 /* as in a message */

struct beat {
	struct eval *ev;
	struct loop_src *timer;
	bool soon;
	uint64_t sent;                 /* beats so far */
	uint64_t until_usec;           /* end of the lease, CLOCK_BOOTTIME; 0: there was none yet */
	uint64_t renewed_usec;         /* keepers were told then */
	struct loop_src *tell, *lapse; /* a beat that somebody waits for; the end of the lease */
	TAILQ_HEAD(, told) told;       /* on their way */
	char boot_id[UUID_LEN + 1];
	json_t *evaluators;
	uint64_t indexed_usec;
};

struct told {
	TAILQ_ENTRY(told) entry;
	struct beat *beat; /* NULL: gone */
	uint64_t number, sent_usec;
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
	if (b->ev->pike)
		return;
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

static const char *phase_of(const struct job *j)
{
	return j->stuck                  ? "unkillable"
	       : j->state == JOB_RUNNING ? phase_name(j->phase)
					 : job_state_name(j->state);
}

/* All of them, to be freed; NULL: none, or no memory. */
static struct message_job *list_jobs(const struct eval *ev, size_t *ret_n)
{
	struct message_job *jobs = calloc(JOBS_MAX, sizeof(*jobs));
	const struct ended *d;
	const struct job *j;
	size_t n = 0;

	if (!jobs)
		return NULL;
	TAILQ_FOREACH (j, &ev->jobs, entry) {
		if (n == JOBS_MAX)
			break;
		jobs[n++] = (struct message_job){
			.evaluation = j->spec->evaluation,
			.attempt = (int)j->spec->attempt,
			.attempt_id = j->spec->attempt_id,
			.phase = phase_of(j),
			.since_wall_usec = j->since_wall_usec,
		};
	}
	TAILQ_FOREACH (d, &ev->ended, entry) {
		if (n == JOBS_MAX)
			break;
		jobs[n++] = (struct message_job){
			.evaluation = d->evaluation,
			.attempt = d->attempt,
			.attempt_id = d->attempt_id,
			.phase = job_state_name(JOB_REPORTING),
			.since_wall_usec = d->since_wall_usec,
		};
	}
	*ret_n = n;
	return jobs;
}

static void on_told(void *user, bool arrived);

static void send_state(struct beat *b, enum message_worker_state state)
{
	struct told *t = calloc(1, sizeof(*t));
	const struct eval *ev = b->ev;
	size_t n = 0;
	auto_free struct message_job *jobs = list_jobs(ev, &n);
	struct err e = { 0 };

	if (!t || !jobs) {
		free(t);
		return;
	}
	read_evaluators(b);
	*t = (struct told){ .beat = b, .number = ++b->sent, .sent_usec = time_boot_usec() };
	TAILQ_INSERT_TAIL(&b->told, t, entry);
	if (channel_worker(ev->channel,
			   &(struct message_worker){
				   .host = ev->settings->host,
				   .worker = ev->name,
				   .pid = getpid(),
				   .boot_id = b->boot_id,
				   .since_wall_usec = ev->since_usec,
				   .at_wall_usec = time_wall_usec(),
				   .state = state,
				   .jobs = jobs,
				   .n_jobs = n,
				   .evaluators = b->evaluators,
				   .lease_usec = (int64_t)ev->settings->lease_usec,
			   },
			   on_told, t, &e) == 0) {
		FAILPOINT("beat.sent");
		return;
	}
	log_debug("worker state was dropped: %s", e.msg);
	TAILQ_REMOVE(&b->told, t, entry);
	free(t);
}

static enum message_worker_state state_now(const struct eval *ev)
{
	return ev->draining             ? MESSAGE_DRAINING
	       : TAILQ_EMPTY(&ev->jobs) ? MESSAGE_IDLE
					: MESSAGE_BUSY;
}

static uint64_t pause_usec(const struct beat *b)
{
	uint64_t third = b->ev->settings->lease_usec / 3;

	return third < BEAT_MAX_USEC ? third : BEAT_MAX_USEC;
}

static void on_timer(void *user)
{
	struct beat *b = user;

	b->soon = false;
	loop_timer_set(b->timer, pause_usec(b));
	if (b->ev->channel)
		send_state(b, state_now(b->ev));
}

/* A claim waits for this beat and for its note: the one travels while the other is written. One of each
 * serves all claims of a batch. */
static void on_tell(void *user)
{
	struct beat *b = user;
	struct err e = { 0 };

	if (!b->ev->channel)
		return;
	if (channel_brings_more(b->ev->channel)) {
		loop_timer_set(b->tell, TELL_USEC);
		return;
	}
	send_state(b, state_now(b->ev));
	if (channel_sync(b->ev->channel, &e) < 0)
		log_debug("%s, trying again", e.msg);
}

/* --- the lease -------------------------------------------------------------------------------- */

uint64_t beat_left_usec(const struct beat *b)
{
	uint64_t now = time_boot_usec();

	return b->until_usec > now ? b->until_usec - now : 0;
}

static void on_lapse(void *user)
{
	struct beat *b = user;
	uint64_t left = beat_left_usec(b);

	/* The timer's clock stands still while the host sleeps; it is late then, not early. */
	if (left)
		loop_timer_set(b->lapse, left);
	else
		job_lease_lost(b->ev);
}

static void renew(struct beat *b, uint64_t sent_usec)
{
	uint64_t lease = b->ev->settings->lease_usec, now = time_boot_usec();
	bool lapsed = b->until_usec && b->until_usec <= now;

	if (sent_usec + lease <= b->until_usec)
		return;
	b->until_usec = sent_usec + lease;
	loop_timer_set(b->lapse, beat_left_usec(b));
	if (!lapsed && now - b->renewed_usec < lease / RENEW_PART)
		return;
	b->renewed_usec = now;
	job_renew_all(b->ev);
}

static void on_told(void *user, bool arrived)
{
	struct told *t = user;
	struct beat *b = t->beat;

	if (b) {
		TAILQ_REMOVE(&b->told, t, entry);
		if (arrived) {
			FAILPOINT("beat.arrived");
			renew(b, t->sent_usec);
			/* What was held up for longer than a lease confirms nothing: the next one will. */
			if (beat_left_usec(b))
				job_told(b->ev, t->number);
			else
				loop_timer_set(b->tell, 0);
		}
	}
	free(t);
}

/* --- for the others --------------------------------------------------------------------------- */

int beat_new(struct eval *ev, struct beat **ret, struct err *e)
{
	struct beat *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return err_nomem(e);
	b->ev = ev;
	TAILQ_INIT(&b->told);
	(void)!id_boot(b->boot_id, NULL);
	r = loop_timer(ev->loop, pause_usec(b), on_timer, b, &b->timer, e);
	if (r == 0)
		r = loop_timer(ev->loop, USEC_INFINITY, on_tell, b, &b->tell, e);
	if (r == 0)
		r = loop_timer(ev->loop, USEC_INFINITY, on_lapse, b, &b->lapse, e);
	if (r < 0) {
		beat_free(b);
		return r;
	}
	*ret = b;
	return 0;
}

void beat_free(struct beat *b)
{
	struct told *t;

	if (!b)
		return;
	/* They are the channel's until it calls. */
	TAILQ_FOREACH (t, &b->told, entry)
		t->beat = NULL;
	loop_src_free(b->timer);
	loop_src_free(b->tell);
	loop_src_free(b->lapse);
	json_decref(b->evaluators);
	free(b);
}

uint64_t beat_tell(struct beat *b)
{
	loop_timer_set(b->tell, 0);
	return b->sent + 1;
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

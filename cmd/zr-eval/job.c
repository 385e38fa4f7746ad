/* SPDX-License-Identifier: MIT */
#include "job.h"

#include <string.h>

#include "base/failpoint.h"
#include "base/json.h"
#include "base/log.h"
#include "base/str.h"
#include "beat.h"
#include "claim.h"
#include "control.h"
#include "report.h"

/* A box that cannot be removed yet is tried again after this. */
#define RELEASE_PAUSE_USEC  (500 * USEC_PER_MSEC)
#define CONCLUDE_PAUSE_USEC (500 * USEC_PER_MSEC)

/* The end of a job that could not be written down is tried again after this. */
#define REPORT_AGAIN_USEC USEC_PER_SEC
/* Of events that follow each other faster, `started` may be left out. */
#define STARTED_PAUSE_USEC (20 * USEC_PER_MSEC)

static void release_box(void *user);

const char *job_state_name(enum job_state s)
{
	static const char *const names[JOB_STATE_N] = { "claiming", "fetching", "running",
							"reporting", "releasing" };

	return names[s];
}

static bool holds_slot(const struct job *j)
{
	return j->state <= JOB_RUNNING || j->stuck;
}

static struct log_ctx job_log(const struct job *j)
{
	return (struct log_ctx){ .evaluation = j->spec->evaluation,
				 .attempt_id = j->spec->attempt_id };
}

static void job_set_state(struct job *j, enum job_state state)
{
	static const bool allowed[JOB_STATE_N][JOB_STATE_N] = {
		[JOB_CLAIMING] = { [JOB_FETCHING] = true },
		[JOB_FETCHING] = { [JOB_RUNNING] = true, [JOB_REPORTING] = true },
		[JOB_RUNNING] = { [JOB_REPORTING] = true },
		[JOB_REPORTING] = { [JOB_RELEASING] = true },
	};
	bool held;

	if (!allowed[j->state][state])
		abort(); /* a bug: going on would report a wrong outcome */
	held = holds_slot(j);
	j->state = state;
	if (held && !holds_slot(j))
		j->ev->n_jobs--;
	j->since_wall_usec = time_wall_usec();
	beat_changed(j->ev->beat);
	eval_update_intake(j->ev);
}

static void drop_started(struct job *j)
{
	j->started_timer = loop_src_free(j->started_timer);
	json_decref(j->isolation);
	j->isolation = NULL;
}

static void job_free(struct job *j)
{
	struct eval *ev = j->ev;

	TAILQ_REMOVE(&ev->jobs, j, entry);
	if (holds_slot(j))
		ev->n_jobs--;
	fetch_wait_free(j->fetch);
	loop_src_free(j->next);
	drop_started(j);
	box_free(j->box);
	free(j->end_detail);
	free(j);
	beat_changed(ev->beat);
	eval_update_intake(ev);
}

/* --- the end ------------------------------------------------------------------------------- */

static void release_box(void *user)
{
	struct job *j = user;
	struct log_ctx ctx = job_log(j);
	struct eval *ev = j->ev;
	struct err e = { 0 };
	bool was_stuck;
	int r;

	FAILPOINT("release.box");
	r = box_release(j->box, false, &e);

	/* A keeper that has not quite gone, or no descriptor to spare. */
	if (r < 0 && e.kind == ERR_TRANSIENT) {
		loop_timer_set(j->next, RELEASE_PAUSE_USEC);
		return;
	}
	if (r < 0) {
		log_ctx(&ctx, LOG_WARNING,
			"box cannot be removed: %s, leaving it for the next start", e.msg);
	} else {
		FAILPOINT("release.gone");
		j->box = NULL;
		if (j->note)
			channel_forget(j->ev->channel, j->note);
	}
	was_stuck = j->stuck;
	if (was_stuck)
		log_ctx(&ctx, LOG_NOTICE,
			"what was left of the evaluation is gone: its place is free");
	job_free(j);
	if (was_stuck)
		eval_update_intake(ev);
}

/* The terminal event is on disk: nobody needs the box any more. */
static void on_reported(void *user)
{
	struct job *j = user;

	FAILPOINT("report.durable");
	job_set_state(j, JOB_RELEASING);
	loop_timer_set(j->next, 0);
}

static void log_end(const struct job *j, const struct box_result *r)
{
	struct log_ctx ctx = job_log(j);
	char wall[32];

	str_span_text(wall, sizeof(wall), r->wall_usec / USEC_PER_MSEC * USEC_PER_MSEC);
	log_ctx(&ctx, LOG_INFO, "evaluation %s ended: %s%s%s after %s", j->spec->evaluation,
		box_reason_name(r->reason), r->detail ? ", " : "", r->detail ? r->detail : "",
		wall);
}

static void log_stuck(const struct job *j)
{
	struct log_ctx ctx = job_log(j);
	const struct eval *ev = j->ev;

	log_ctx(&ctx, LOG_ERR,
		"a process of evaluation %s is still there: its place, one of %u, is withdrawn "
		"until it is gone",
		j->spec->evaluation, ev->slots);
}

/* A full disk, most likely: the box keeps its result until there is room again. */
static void report_later(struct job *j, const struct err *why)
{
	struct log_ctx ctx = job_log(j);

	log_ctx(&ctx, j->report_failed ? LOG_DEBUG : LOG_ERR,
		"the end of evaluation %s cannot be reported: %s; trying again",
		j->spec->evaluation, why->msg);
	j->report_failed = true;
	loop_timer_set(j->next, REPORT_AGAIN_USEC);
}

static void on_end(void *user, unused_arg struct box *b, const struct box_result *r)
{
	struct job *j = user;
	struct err e = { 0 };

	log_end(j, r);
	drop_started(j);
	j->stuck = box_is_stuck(j->box);
	if (j->stuck)
		log_stuck(j);
	job_set_state(j, JOB_REPORTING);
	j->ev->event_usec = time_mono_usec();
	FAILPOINT("report.end");
	if (report_end(j->ev, j->spec, r, on_reported, j, &e) < 0)
		report_later(j, &e);
	FAILPOINT("report.appended");
}

static void report_again(struct job *j)
{
	auto_done(box_result) r;
	struct err e = { 0 };

	box_result_init(&r);
	if (box_result(j->box, &r, &e) < 0 ||
	    report_end(j->ev, j->spec, &r, on_reported, j, &e) < 0)
		report_later(j, &e);
}

/* --- on its way ---------------------------------------------------------------------------- */

static void tell_started(void *user)
{
	struct job *j = user;

	if (!j->started_timer)
		return;
	j->ev->event_usec = time_mono_usec();
	report_started(j->ev, j->spec, j->started_wall_usec, j->isolation);
	drop_started(j);
}

/* When evaluations end one after another, many of them are over before anybody could read that they
 * have started, and their end says it too: then the event waits a moment, and may never be sent. */
static void on_started(void *user, unused_arg struct box *b, uint64_t wall_usec,
		       const json_t *isolation)
{
	struct job *j = user;
	uint64_t now = time_mono_usec();
	bool busy = now - j->ev->event_usec < STARTED_PAUSE_USEC;

	drop_started(j);
	if (busy && loop_timer(j->ev->loop, STARTED_PAUSE_USEC, tell_started, j, &j->started_timer,
			       NULL) == 0) {
		j->started_wall_usec = wall_usec;
		j->isolation = json_deep_copy(isolation);
		return;
	}
	j->ev->event_usec = now;
	report_started(j->ev, j->spec, wall_usec, isolation);
}

static void on_phase(void *user, unused_arg struct box *b, enum phase phase)
{
	struct job *j = user;

	j->phase = phase;
	beat_changed(j->ev->beat);
}

static void on_progress(void *user, unused_arg struct box *b, enum phase phase,
			const struct progress *p)
{
	struct job *j = user;

	tell_started(j);
	report_progress(j->ev, j->spec, &j->last_seq, phase, p);
}

static void on_violation(void *user, unused_arg struct box *b, enum phase phase, json_t *violations)
{
	struct job *j = user;

	tell_started(j);
	report_violation(j->ev, j->spec, &j->last_seq, phase, violations);
}

static void on_log(void *user, struct box *b, enum box_stream stream, uint64_t size)
{
	struct job *j = user;

	tell_started(j);
	report_log(j->ev, j->spec, b, stream, &j->log_sent[stream], size, &j->last_seq);
}

static const struct box_calls calls = {
	.on_started = on_started,
	.on_phase = on_phase,
	.on_progress = on_progress,
	.on_violation = on_violation,
	.on_log = on_log,
	.on_end = on_end,
};

static void try_conclude(struct job *j)
{
	struct log_ctx ctx = job_log(j);
	struct err e = { 0 };
	int r = j->concluded ? 0 : box_conclude(j->box, j->end_reason, j->end_detail, &e);

	j->concluded |= r == 0;
	if (r == 0)
		r = box_attach(j->box, j->ev->loop, &calls, j, &e);
	if (r == 0)
		return;
	/* No descriptor to spare, or no space. */
	if (e.kind == ERR_TRANSIENT) {
		loop_timer_set(j->next, CONCLUDE_PAUSE_USEC);
		return;
	}
	log_ctx(&ctx, LOG_ERR,
		"evaluation %s cannot be ended: %s, leaving its box for the next start",
		j->spec->evaluation, e.msg);
	job_free(j);
}

/* Ends a box that never ran: the result is written like any other, so that a crash loses nothing. */
static void conclude(struct job *j, enum box_reason reason, const char *detail)
{
	j->ending = true;
	j->end_reason = reason;
	j->end_detail = detail ? strdup(detail) : NULL;
	try_conclude(j);
}

/* The keeper counts the lease from when it takes the box, which may be long after the claim. */
static void renew(struct job *j)
{
	struct log_ctx ctx = job_log(j);
	uint64_t left = beat_left_usec(j->ev->beat);
	struct err e = { 0 };

	if (left && box_renew(j->box, left, &e) < 0)
		log_ctx(&ctx, LOG_WARNING, "the lease cannot be renewed: %s", e.msg);
}

static void start_box(struct job *j)
{
	struct err e = { 0 };

	FAILPOINT("box.start");
	renew(j);
	if (box_start(j->box, j->ev->loop, j->ev->keepers, &calls, j, &e) < 0) {
		conclude(j, BOX_INFRASTRUCTURE, e.msg);
		return;
	}
	FAILPOINT("box.started");
	job_set_state(j, JOB_RUNNING);
}

static void on_fetched(void *user, const char *why, bool ours)
{
	struct job *j = user;

	j->fetch = NULL;
	if (why)
		conclude(j, ours ? BOX_INFRASTRUCTURE : BOX_SETUP, why);
	else
		start_box(j);
}

/* The next step of a box that was never started: its submission, then the keeper. */
static void begin(struct job *j)
{
	const char *digest = NULL, *source = NULL;
	struct err e = { 0 };
	json_t *submission = NULL;
	int r;

	if (fetch_is_cached(j->spec->submission)) {
		start_box(j);
		return;
	}
	r = js_obj(j->spec->claim, "submission", &submission, &e);
	if (r == 0)
		r = js_str(submission, "digest", 80, &digest, &e);
	if (r == 0)
		r = js_str(submission, "source", 4096, &source, &e);
	if (r == 0)
		r = fetcher_get(j->ev->fetcher, digest, source, on_fetched, j, &j->fetch, &e);
	if (r < 0)
		conclude(j, BOX_SETUP, e.msg);
}

/* --- the claim ----------------------------------------------------------------------------- */

static void claim_undone(struct job *j)
{
	struct log_ctx ctx = job_log(j);

	log_ctx(&ctx, LOG_NOTICE,
		"the request of evaluation %s was taken back before the claim was known",
		j->spec->evaluation);
	claim_drop(j->ev, take_ptr(j->box), j->note);
	job_free(j);
}

/* Note and beat are safe: the request is ours, and can be settled. */
static void claim_goes_on(struct job *j)
{
	const char *by =
		control_canceled_by(j->ev->control, j->spec->evaluation, j->requested_wall_usec);

	if (!j->arrived || !j->durable)
		return;
	if (j->token && !claim_settle(j->ev, j->spec, take_ptr(j->token))) {
		claim_undone(j);
		return;
	}
	job_set_state(j, JOB_FETCHING);
	if (by)
		job_cancel(j, by);
	else
		begin(j);
}

static void on_claim_durable(void *user)
{
	struct job *j = user;

	FAILPOINT("claim.durable");
	j->durable = true;
	loop_timer_set(j->next, 0);
}

void job_told(struct eval *ev, uint64_t beat)
{
	struct job *j;

	TAILQ_FOREACH (j, &ev->jobs, entry) {
		if (j->state != JOB_CLAIMING || j->arrived || j->told > beat)
			continue;
		j->arrived = true;
		loop_timer_set(j->next, 0);
	}
}

void job_renew_all(struct eval *ev)
{
	struct job *j;

	TAILQ_FOREACH (j, &ev->jobs, entry)
		if (j->state == JOB_RUNNING)
			renew(j);
}

/* Others begin anew what nobody was heard of. A keeper ends its own; this is what has none yet. */
void job_lease_lost(struct eval *ev)
{
	struct job *j, *next;

	for (j = TAILQ_FIRST(&ev->jobs); j; j = next) {
		next = TAILQ_NEXT(j, entry);
		if (j->state != JOB_FETCHING || j->ending)
			continue;
		fetch_wait_free(j->fetch);
		j->fetch = NULL;
		conclude(j, BOX_LOST, "the lease was not renewed before it was begun");
	}
}

static void on_next(void *user)
{
	struct job *j = user;

	if (j->state == JOB_CLAIMING)
		claim_goes_on(j);
	else if (j->state == JOB_RELEASING)
		release_box(j);
	else if (j->state == JOB_REPORTING)
		report_again(j);
	else if (j->state == JOB_FETCHING && j->ending)
		try_conclude(j);
	else if (j->state == JOB_FETCHING)
		begin(j);
}

/* From the claim's notes. */
static uint64_t requested_at(const struct box_spec *spec)
{
	const char *text = NULL;
	uint64_t usec = 0;

	if (js_opt_str(spec->claim, "requested_at", TIME_TEXT_MAX, &text, NULL) == 1 &&
	    time_parse(text, &usec) < 0)
		return 0;
	return usec;
}

/* What is new is made known first. */
static int begin_claim(struct job *j, struct err *e)
{
	j->told = beat_tell(j->ev->beat);
	if (!j->token) {
		j->durable = true;
		return 0;
	}
	return report_wait(j->ev, j->note, on_claim_durable, j, e);
}

int job_take(struct eval *ev, struct box *box, uint64_t note, struct channel_request *token,
	     struct err *e)
{
	bool fresh = box_state(box) == BOX_NEW;
	struct job *j = calloc(1, sizeof(*j));
	int r;

	if (!j) {
		box_free(box);
		return err_nomem(e);
	}
	*j = (struct job){ .ev = ev, .box = box, .spec = box_spec(box), .note = note };
	j->token = token;
	j->state = fresh ? JOB_CLAIMING : JOB_RUNNING;
	j->since_wall_usec = time_wall_usec();
	j->requested_wall_usec = requested_at(j->spec);
	ev->n_jobs++;
	TAILQ_INSERT_TAIL(&ev->jobs, j, entry);
	r = loop_timer(ev->loop, USEC_INFINITY, on_next, j, &j->next, e);
	if (r == 0)
		r = fresh ? begin_claim(j, e) : box_attach(box, ev->loop, &calls, j, e);
	if (r < 0) {
		job_free(j);
		return r;
	}
	beat_changed(ev->beat);
	eval_update_intake(ev);
	return 0;
}

struct job *job_find(struct eval *ev, const char *evaluation)
{
	struct job *j;

	TAILQ_FOREACH (j, &ev->jobs, entry)
		if (str_eq(j->spec->evaluation, evaluation))
			return j;
	return NULL;
}

void job_cancel(struct job *j, const char *by)
{
	struct log_ctx ctx = job_log(j);
	struct err e = { 0 };
	auto_free char *detail = NULL;

	/* A claim that goes on asks again. */
	if (j->state > JOB_RUNNING || j->state == JOB_CLAIMING || j->ending)
		return;
	log_ctx(&ctx, LOG_NOTICE, "evaluation %s is being canceled by %s", j->spec->evaluation,
		STR_ESC(by));
	if (j->state == JOB_RUNNING) {
		if (box_cancel(j->box, &e) < 0)
			log_ctx(&ctx, LOG_ERR, "cancel: %s", e.msg);
		return;
	}
	fetch_wait_free(j->fetch);
	j->fetch = NULL;
	loop_timer_set(j->next, USEC_INFINITY);
	if (str_fmt(&detail, "canceled by %s before it started", by) < 0)
		detail = NULL;
	conclude(j, BOX_CANCELED, detail);
}

static void adopt(struct eval *ev, const char *attempt_id)
{
	struct log_ctx ctx = { .attempt_id = attempt_id };
	struct box *box = NULL;
	struct err e = { 0 };
	int r = box_open(ev->settings->state_dir, attempt_id, &box, &e);

	if (r == -EWOULDBLOCK)
		return;
	if (r == 0) {
		log_ctx(&ctx, LOG_NOTICE, "adopting evaluation %s", box_spec(box)->evaluation);
		r = claim_adopt(ev, box, claim_note_of(ev, attempt_id), &e);
	}
	if (r < 0)
		log_ctx(&ctx, LOG_ERR, "box cannot be adopted: %s", e.msg);
}

void job_adopt_all(struct eval *ev)
{
	auto_strv char **ids = NULL;
	struct err e = { 0 };

	ev->adopted = true;
	if (box_list(ev->settings->state_dir, &ids, &e) < 0) {
		log_err("boxes of former workers cannot be listed: %s", e.msg);
		return;
	}
	for (char **id = ids; id && *id; id++)
		adopt(ev, *id);
}

void job_free_all(struct eval *ev)
{
	struct job *j;

	while ((j = TAILQ_FIRST(&ev->jobs)))
		job_free(j);
}

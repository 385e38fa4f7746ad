/* SPDX-License-Identifier: MIT */
#include "report.h"

#include <string.h>

#include "base/failpoint.h"
#include "base/id.h"
#include "base/json.h"
#include "base/log.h"
#include "base/str.h"

/* One event's piece of a log; JSON may need six bytes for one of them. */
#define LOG_PIECE_MAX 16384

/* Somebody who waits for an event to be on disk. */
struct wait {
	TAILQ_ENTRY(wait) entry;
	uint64_t id;
	void (*durable)(void *user);
	void *user;
};

/* An attempt lives in one boot: what its next worker says comes after what was said before, whatever
 * the wall clock does. */
static uint64_t next_seq(uint64_t *last_seq)
{
	uint64_t seq = REPORT_SEQ_START + 1 + time_boot_usec() / USEC_PER_MSEC;

	if (seq <= *last_seq)
		seq = *last_seq + 1;
	return *last_seq = seq < REPORT_SEQ_END ? seq : REPORT_SEQ_END - 1;
}

static struct message_event event_of(const struct eval *ev, const struct box_spec *spec,
				     enum message_kind kind, uint64_t seq, json_t *body)
{
	return (struct message_event){
		.kind = kind,
		.evaluation = spec->evaluation,
		.attempt = (int)spec->attempt,
		.attempt_id = spec->attempt_id,
		.seq = (int64_t)seq,
		.host = ev->settings->host,
		.worker = ev->name,
		.body = body,
	};
}

/* What is lost here is repeated or superseded by what follows, so a line in the log is enough. */
static void send_now_or_never(struct eval *ev, const struct message_event *m)
{
	struct err e = { 0 };

	if (channel_event(ev->channel, m, false, NULL, &e) < 0)
		log_debug("event %s of evaluation %s was dropped: %s", message_kind_name(m->kind),
			  m->evaluation, e.msg);
}

void report_started(struct eval *ev, const struct box_spec *spec, uint64_t wall_usec,
		    const json_t *isolation)
{
	char at[TIME_TEXT_MAX];
	json_auto_t *body =
		json_pack("{s:s, s:s, s:O?}", "evaluator", spec->evaluator, "started_at",
			  time_text(at, wall_usec), "isolation", isolation);
	struct message_event m = event_of(ev, spec, MESSAGE_STARTED, REPORT_SEQ_START, body);
	struct log_ctx ctx = { .evaluation = spec->evaluation, .attempt_id = spec->attempt_id };
	struct err e = { 0 };

	log_ctx(&ctx, LOG_INFO, "evaluation %s started with %s", spec->evaluation, spec->evaluator);
	m.at_wall_usec = wall_usec;
	/* Without it the row stays `queued` until the end is applied: odd, but no loss. */
	if (!body || channel_event(ev->channel, &m, true, NULL, &e) < 0)
		log_ctx(&ctx, LOG_WARNING, "the start of evaluation %s is not reported: %s",
			spec->evaluation, e.msg);
}

void report_progress(struct eval *ev, const struct box_spec *spec, uint64_t *last_seq,
		     enum phase phase, const struct progress *p)
{
	json_auto_t *body = progress_json(p);
	struct message_event m = event_of(ev, spec, MESSAGE_PROGRESS, next_seq(last_seq), body);

	if (body && json_object_set_new(body, "phase", json_string(phase_name(phase))) == 0)
		send_now_or_never(ev, &m);
}

void report_violation(struct eval *ev, const struct box_spec *spec, uint64_t *last_seq,
		      enum phase phase, json_t *violations)
{
	json_auto_t *body =
		json_pack("{s:s, s:O}", "phase", phase_name(phase), "violations", violations);
	struct message_event m = event_of(ev, spec, MESSAGE_VIOLATION, next_seq(last_seq), body);

	if (body)
		send_now_or_never(ev, &m);
}

/* Up to LOG_PIECE_MAX bytes at *sent; false at the end of what is there. */
static bool send_piece(struct eval *ev, const struct box_spec *spec, int fd, enum box_stream stream,
		       uint64_t *sent, uint64_t size, uint64_t *last_seq)
{
	char piece[LOG_PIECE_MAX];
	size_t want = size - *sent < sizeof(piece) ? (size_t)(size - *sent) : sizeof(piece);
	ssize_t n = pread(fd, piece, want, (off_t)*sent);
	json_auto_t *body = NULL;
	struct message_event m;

	if (n <= 0)
		return false;
	body = json_pack("{s:s, s:I, s:o}", "stream", stream == BOX_OUT ? "out" : "err", "offset",
			 (json_int_t)*sent, "text", js_from_bytes(piece, (size_t)n));
	*sent += (uint64_t)n;
	if (!body)
		return false;
	m = event_of(ev, spec, MESSAGE_LOG, next_seq(last_seq), body);
	send_now_or_never(ev, &m);
	return *sent < size;
}

void report_log(struct eval *ev, const struct box_spec *spec, const struct box *box,
		enum box_stream stream, uint64_t *sent, uint64_t size, uint64_t *last_seq)
{
	auto_close int fd = -1;
	struct err e = { 0 };

	if (size <= *sent || box_open_log(box, stream, &fd, &e) < 0)
		return;
	while (send_piece(ev, spec, fd, stream, sent, size, last_seq))
		;
}

static enum message_kind end_kind(enum box_reason r)
{
	return r == BOX_OK         ? MESSAGE_COMPLETED
	       : r == BOX_CANCELED ? MESSAGE_CANCELED
				   : MESSAGE_FAILED;
}

static struct wait *wait_new(void (*durable)(void *user), void *user)
{
	struct wait *w = calloc(1, sizeof(*w));

	if (w)
		*w = (struct wait){ .durable = durable, .user = user };
	return w;
}

int report_wait(struct eval *ev, uint64_t id, void (*durable)(void *user), void *user,
		struct err *e)
{
	struct wait *w = wait_new(durable, user);

	if (!w)
		return err_nomem(e);
	w->id = id;
	TAILQ_INSERT_TAIL(&ev->waits, w, entry);
	return 0;
}

static int send_durable(struct eval *ev, const struct message_event *m, uint64_t *ret_id,
			void (*durable)(void *user), void *user, struct err *e)
{
	struct wait *w = wait_new(durable, user);
	int r = w ? channel_event(ev->channel, m, true, &w->id, e) : err_nomem(e);

	if (r < 0) {
		free(w);
		return r;
	}
	TAILQ_INSERT_TAIL(&ev->waits, w, entry);
	*ret_id = w->id;
	return 0;
}

static void ended_free(struct ended *d)
{
	if (d)
		free(d->evaluation);
	free(d);
}

static struct ended *ended_new(const struct box_spec *spec)
{
	struct ended *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	d->attempt = (int)spec->attempt;
	d->since_wall_usec = time_wall_usec();
	snprintf(d->attempt_id, sizeof(d->attempt_id), "%s", spec->attempt_id);
	d->evaluation = strdup(spec->evaluation);
	if (d->evaluation)
		return d;
	free(d);
	return NULL;
}

static int send_end(struct eval *ev, const struct box_spec *spec, const struct box_result *r,
		    struct ended *d, void (*durable)(void *user), void *user, struct err *e)
{
	json_auto_t *body = box_result_json(r);
	struct message_event m = event_of(ev, spec, end_kind(r->reason), REPORT_SEQ_END, body);

	if (!body ||
	    (spec->retries &&
	     json_object_set_new(body, "retries", json_integer((json_int_t)spec->retries)) < 0))
		return err_nomem(e);
	m.at_wall_usec = r->finished_wall_usec;
	return durable ? send_durable(ev, &m, &d->id, durable, user, e)
		       : channel_event(ev->channel, &m, true, &d->id, e);
}

/* `durable` or NULL; the one to be called on arrival is in what is returned. */
static int end_attempt(struct eval *ev, const struct box_spec *spec, const struct box_result *r,
		       void (*durable)(void *user), void *user, struct ended **ret, struct err *e)
{
	struct ended *d = ended_new(spec);
	int n = d ? send_end(ev, spec, r, d, durable, user, e) : err_nomem(e);

	if (n < 0) {
		ended_free(d);
		return n;
	}
	TAILQ_INSERT_TAIL(&ev->ended, d, entry);
	*ret = d;
	return 0;
}

int report_end(struct eval *ev, const struct box_spec *spec, const struct box_result *r,
	       void (*durable)(void *user), void *user, struct err *e)
{
	struct ended *d = NULL;

	return end_attempt(ev, spec, r, durable, user, &d, e);
}

void report_confirmed(struct eval *ev, uint64_t id)
{
	struct ended *d;

	TAILQ_FOREACH (d, &ev->ended, entry)
		if (d->id == id)
			break;
	if (!d)
		return;
	FAILPOINT("report.confirmed");
	TAILQ_REMOVE(&ev->ended, d, entry);
	if (d->arrived)
		d->arrived(d->user);
	ended_free(d);
}

int report_refused(struct eval *ev, const struct message_request *rq, enum box_reason reason,
		   const char *detail, void (*arrived)(void *user), void *user, struct err *e)
{
	char attempt_id[UUID_LEN + 1], detail_copy[512];
	struct box_spec spec = { .attempt = rq->attempt, .attempt_id = id_uuid7(attempt_id) };
	auto_done(box_result) r = { 0 };
	struct ended *d = NULL;
	int status;

	box_result_init(&r);
	snprintf(detail_copy, sizeof(detail_copy), "%s", detail);
	r.reason = reason;
	r.detail = strdup(detail_copy);
	r.finished_wall_usec = time_wall_usec();
	spec.evaluation = strdup(rq->evaluation);
	status = r.detail && spec.evaluation ? end_attempt(ev, &spec, &r, NULL, NULL, &d, e)
					     : err_nomem(e);
	if (status == 0) {
		d->arrived = arrived;
		d->user = user;
	}
	free(spec.evaluation);
	return status;
}

void report_durable(struct eval *ev, uint64_t id)
{
	struct wait *w;

	while ((w = TAILQ_FIRST(&ev->waits)) && w->id <= id) {
		TAILQ_REMOVE(&ev->waits, w, entry);
		w->durable(w->user);
		free(w);
	}
}

void report_done(struct eval *ev)
{
	struct ended *d;
	struct wait *w;

	while ((d = TAILQ_FIRST(&ev->ended))) {
		TAILQ_REMOVE(&ev->ended, d, entry);
		ended_free(d);
	}

	while ((w = TAILQ_FIRST(&ev->waits))) {
		TAILQ_REMOVE(&ev->waits, w, entry);
		free(w);
	}
}

/* SPDX-License-Identifier: MIT */
/* One message as one line: for people, or as JSON. Foreign bytes never reach the terminal raw. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/json.h"
#include "base/str.h"
#include "base/time.h"
#include "echo.h"
#include "messaging/message.h"

/* --- for people --- */

static void print_clock(void)
{
	uint64_t now = time_wall_usec();
	time_t sec = (time_t)(now / USEC_PER_SEC);
	char text[16] = "";
	struct tm tm;

	if (localtime_r(&sec, &tm))
		strftime(text, sizeof(text), "%H:%M:%S", &tm);
	printf("%s.%03u", text, (unsigned)(now % USEC_PER_SEC / 1000));
}

/* " name=value", or nothing for a NULL. */
static void print_member(const char *name, const char *value)
{
	if (value)
		printf(" %s=%s", name, STR_ESC(value));
}

static void print_json_member(const char *name, const json_t *value)
{
	auto_free char *text = value ? js_text(value) : NULL;

	print_member(name, text);
}

static void print_end(const struct message_event *ev)
{
	struct message_end end;

	message_end(ev->body, &end);
	print_member("reason", end.reason);
	if (end.exit_code >= 0)
		printf(" exit=%d", end.exit_code);
	if (end.signal)
		printf(" signal=%d", end.signal);
	print_member("detail", end.detail);
	print_json_member("scores", end.scores);
	print_member("scores_error", end.scores_error);
}

static void print_progress(const struct message_event *ev)
{
	struct message_progress p;

	message_progress(ev->body, &p);
	print_member("phase", p.phase);
	if (p.fraction >= 0)
		printf(" %.0f%%", p.fraction * 100);
	if (p.done >= 0)
		printf(" done=%" PRId64, p.done);
	if (p.total >= 0)
		printf(" total=%" PRId64, p.total);
	print_member("text", p.text);
}

static void print_event(const struct message_event *ev)
{
	struct message_started started;
	struct message_log log;
	struct message_violation violation;

	printf("%s evaluation=%s attempt=%d seq=%" PRId64 " worker=%s", message_kind_name(ev->kind),
	       ev->evaluation, ev->attempt, ev->seq, ev->worker);
	switch (ev->kind) {
	case MESSAGE_STARTED:
		message_started(ev->body, &started);
		print_member("evaluator", started.evaluator);
		return;
	case MESSAGE_PROGRESS:
		print_progress(ev);
		return;
	case MESSAGE_LOG:
		message_log(ev->body, &log);
		printf(" stream=%s offset=%" PRId64, log.err ? "err" : "out", log.offset);
		print_member("text", log.text);
		return;
	case MESSAGE_VIOLATION:
		message_violation(ev->body, &violation);
		print_member("phase", violation.phase);
		print_json_member("violations", violation.violations);
		return;
	case MESSAGE_COMPLETED:
	case MESSAGE_FAILED:
	case MESSAGE_CANCELED:
	case MESSAGE_KIND_N:
		print_end(ev);
		return;
	}
}

static void print_request(const struct message_request *q)
{
	printf("request evaluation=%s submission=%s evaluator=%s attempt=%d", q->evaluation,
	       q->submission, q->evaluator, q->attempt);
	print_member("priority", q->high ? "high" : NULL);
	print_member("source", q->source);
	print_json_member("args", q->args);
	print_json_member("limits", q->limits);
}

static void print_worker(const struct message_worker *w)
{
	printf("worker %s %s", w->worker, message_worker_state_name(w->state));
	for (size_t i = 0; i < w->n_jobs; i++)
		printf("%s%s", i ? "," : " evaluations=", w->jobs[i].evaluation);
	print_member("role", w->role);
}

static void print_control(const struct message *m)
{
	auto_free char *kind = NULL;
	char key[MESSAGE_KEY_MAX];

	if (str_fmt(&kind, "%s", strchr(message_key(key, m), '.') + 1) >= 0)
		printf("%s", kind);
	print_member("evaluation", m->control.evaluation);
	print_member("attempt_id", m->control.attempt_id);
	print_member("by", m->control.by);
}

static void print_message(const struct message *m)
{
	switch (m->type) {
	case MESSAGE_REQUEST:
		print_request(&m->request);
		return;
	case MESSAGE_EVENT:
		print_event(&m->event);
		return;
	case MESSAGE_WORKER:
		print_worker(&m->worker);
		return;
	case MESSAGE_CONTROL:
		print_control(m);
		return;
	case MESSAGE_ECHO:
	case MESSAGE_TYPE_N:
		printf("echo %s", STR_ESC(m->echo.message));
		return;
	}
}

static void print_text(const struct delivery *d, enum message_bad bad, const struct message *m,
		       const char *detail)
{
	char body[512];

	print_clock();
	printf(" %s%s ", *d->routing_key ? STR_ESC(d->routing_key) : "-",
	       d->redelivered ? " (again)" : "");
	if (m)
		print_message(m);
	else if (d->body)
		printf("%s (%s): '%s'", message_bad_name(bad), detail,
		       str_escape(body, sizeof(body), d->body, d->size));
	else
		printf("%s: %zu bytes, above message_max", message_bad_name(bad), d->size);
	putchar('\n');
}

/* --- JSON --- */

static json_t *header_value(const struct broker_header *h)
{
	if (h->type == BROKER_HEADER_TEXT)
		return json_string(h->text);
	if (h->type == BROKER_HEADER_BOOL)
		return json_boolean(h->number);
	return h->type == BROKER_HEADER_INT ? json_integer(h->number) : json_null();
}

static json_t *headers(const struct delivery *d)
{
	json_t *o = json_object();

	for (size_t i = 0; i < d->n_headers; i++)
		json_object_set_new(o, d->headers[i].name, header_value(&d->headers[i]));
	return o;
}

static json_t *text(const char *s)
{
	return js_from_bytes(s, strlen(s));
}

static json_t *body_value(const struct delivery *d, const struct message *m)
{
	json_t *j = NULL;

	if (m)
		return json_incref(m->json);
	if (d->body && js_parse(d->body, d->size, JS_DEPTH_MAX, &j, NULL) == 0)
		return j;
	return d->body ? js_from_bytes(d->body, d->size) : json_null();
}

static void print_json(const struct delivery *d, enum message_bad bad, const struct message *m,
		       const char *detail)
{
	char at[TIME_TEXT_MAX];
	json_auto_t *o = json_pack(
		"{s:s, s:o, s:o, s:b, s:o, s:o, s:o, s:I, s:o, s:o, s:o}", "at",
		time_text(at, time_wall_usec()), "exchange", text(d->exchange), "routing_key",
		text(d->routing_key), "redelivered", d->redelivered, "message_id",
		text(d->message_id), "content_type", text(d->content_type), "headers", headers(d),
		"size", (json_int_t)d->size, "bad", m ? json_null() : text(message_bad_name(bad)),
		"detail", m ? json_null() : text(detail), "body", body_value(d, m));
	auto_free char *line = NULL;

	if (d->stream_offset != UINT64_MAX)
		json_object_set_new(o, "offset", json_integer((json_int_t)d->stream_offset));
	line = o ? js_text(o) : NULL;
	puts(line ? line : "{\"bad\":\"no-memory\"}");
}

bool echo_print(const struct delivery *d, bool json)
{
	auto_obj(message) m = NULL;
	struct err e = { 0 };
	enum message_bad bad = MESSAGE_TOO_LARGE;

	if (d->too_large)
		err_input(&e, "above message_max");
	else
		bad = message_decode(d->body, d->size, SIZE_MAX, &m, &e);
	if (json)
		print_json(d, bad, m, e.msg);
	else
		print_text(d, bad, m, e.msg);
	return fflush(stdout) == 0 && !ferror(stdout);
}

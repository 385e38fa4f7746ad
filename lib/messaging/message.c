/* SPDX-License-Identifier: MIT */
#include "messaging/message.h"

#include <stdio.h>
#include <string.h>

#include "base/id.h"
#include "base/json.h"
#include "base/str.h"
#include "base/time.h"

#define ATTEMPT_MAX 1000000
#define ARGS_MAX    256
#define JOBS_MAX    4096

static const char *const types[] = { "request", "event", "worker", "control", "echo", NULL };
static const char *const control_kinds[] = { "cancel", "release", NULL };
static const char *const worker_states[] = { "idle", "busy", "draining", "gone", NULL };
static const char *const priorities[] = { "normal", "high", NULL };

const char *message_type_name(enum message_type t)
{
	return types[t];
}

const char *message_worker_state_name(enum message_worker_state s)
{
	return worker_states[s];
}

void message_free(struct message *m)
{
	if (!m)
		return;
	json_decref(m->json);
	free(m->jobs);
	free(m);
}

/* --- decoding --- */

/* Where a submission may come from. What the path means is the fetcher's to judge. */
static bool is_source(const char *s)
{
	for (const char *p = s; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return false;
	return str_eq(s, "incoming:") || str_starts(s, "file:///") ||
	       (str_starts(s, "ssh://") && s[6] && s[6] != '/');
}

/* "<host>/<n>" */
static bool is_worker(const char *s)
{
	const char *slash = strchr(s, '/');
	char host[ID_MAX + 1];
	uint64_t n;

	if (!slash || (size_t)(slash - s) > ID_MAX || str_u64(slash + 1, &n) < 0)
		return false;
	memcpy(host, s, (size_t)(slash - s));
	host[slash - s] = '\0';
	return id_valid(host);
}

static const struct rd_rule rule_source = { 4096, is_source,
					    "file:///path, ssh://host/path or incoming:" };
static const struct rd_rule rule_worker = { ID_MAX + 8, is_worker, "a host's name, '/', a number" };

static void read_attempt(struct message_reader *rd, bool optional, int *ret)
{
	int64_t n = 1;

	rd_int(rd, "attempt", 1, ATTEMPT_MAX, optional, &n);
	*ret = (int)n;
}

static void read_limits(struct message_reader *rd, json_t **ret)
{
	const char *key;
	json_t *v;

	rd_object(rd, "limits", true, ret);
	json_object_foreach(*ret, key, v)
	{
		if (!json_is_integer(v) || json_integer_value(v) <= 0)
			rd_fail(rd, MESSAGE_BAD_VALUE, "limit '%s' is not a positive integer",
				STR_ESC(key));
	}
}

static void read_submission(struct message_reader *rd, struct message_request *q)
{
	struct message_reader sub = *rd;
	json_t *o;

	rd_object(rd, "submission", false, &o);
	if (rd->bad)
		return;
	sub.o = o;
	rd_str(&sub, "id", &rd_id, false, &q->submission);
	rd_str(&sub, "digest", &rd_digest, false, &q->digest);
	rd_str(&sub, "source", &rule_source, false, &q->source);
	rd->bad = sub.bad;
}

static void read_request(struct message_reader *rd, struct message_request *q)
{
	int priority = 0;

	rd_str(rd, "id", &rd_uuid, false, &q->id);
	rd_str(rd, "evaluation", &rd_id, false, &q->evaluation);
	read_submission(rd, q);
	rd_str(rd, "evaluator", &rd_id, false, &q->evaluator);
	rd_texts(rd, "args", ARGS_MAX, &rd_arg, true, &q->args);
	read_limits(rd, &q->limits);
	read_attempt(rd, true, &q->attempt);
	if (json_object_get(rd->o, "priority"))
		rd_word(rd, "priority", priorities, &priority);
	q->high = priority == 1;
	rd_time(rd, "created_at", &q->created_wall_usec);
}

static void read_event(struct message_reader *rd, struct message_event *ev)
{
	struct message_reader body = *rd;
	int kind = 0;

	rd_str(rd, "id", &rd_uuid, false, &ev->id);
	rd_word(rd, "kind", message_kinds, &kind);
	ev->kind = (enum message_kind)kind;
	rd_str(rd, "evaluation", &rd_id, false, &ev->evaluation);
	read_attempt(rd, false, &ev->attempt);
	rd_str(rd, "attempt_id", &rd_uuid, false, &ev->attempt_id);
	rd_int(rd, "seq", 0, (int64_t)1 << 53, false, &ev->seq);
	rd_time(rd, "at", &ev->at_wall_usec);
	rd_str(rd, "host", &rd_id, false, &ev->host);
	rd_str(rd, "worker", &rule_worker, false, &ev->worker);
	rd_object(rd, "body", false, &ev->body);
	if (rd->bad)
		return;
	body.o = ev->body;
	message_body_check(&body, ev->kind);
	rd->bad = body.bad;
}

static void read_job(struct message_reader *rd, struct message_job *job)
{
	rd_str(rd, "evaluation", &rd_id, false, &job->evaluation);
	read_attempt(rd, false, &job->attempt);
	rd_str(rd, "attempt_id", &rd_uuid, true, &job->attempt_id);
	rd_str(rd, "phase", &rd_id, true, &job->phase);
	rd_time(rd, "since", &job->since_wall_usec);
}

static void read_jobs(struct message_reader *rd, struct message *m)
{
	json_t *list = json_object_get(rd->o, "jobs");
	size_t n = json_array_size(list);

	if (!rd->bad && (!json_is_array(list) || n > JOBS_MAX))
		rd_fail(rd, list ? MESSAGE_BAD_VALUE : MESSAGE_MISSING_FIELD,
			"'jobs' is not a list of at most %d", JOBS_MAX);
	if (rd->bad || n == 0)
		return;
	m->jobs = calloc(n, sizeof(*m->jobs));
	if (!m->jobs) {
		rd->bad = MESSAGE_NO_MEMORY;
		(void)err_nomem(rd->e);
		return;
	}
	for (size_t i = 0; i < n && !rd->bad; i++) {
		struct message_reader job = { json_array_get(list, i), MESSAGE_GOOD, rd->e };

		if (!json_is_object(job.o))
			rd_fail(&job, MESSAGE_BAD_VALUE, "member %zu of 'jobs' is not an object",
				i + 1);
		read_job(&job, &m->jobs[i]);
		rd->bad = job.bad;
	}
	m->worker.jobs = m->jobs;
	m->worker.n_jobs = n;
}

static void read_worker(struct message_reader *rd, struct message *m)
{
	struct message_worker *w = &m->worker;
	int state = 0;

	rd_str(rd, "host", &rd_id, false, &w->host);
	rd_str(rd, "worker", &rule_worker, false, &w->worker);
	rd_int(rd, "pid", 1, INT32_MAX, false, &w->pid);
	rd_str(rd, "boot_id", &rd_id, false, &w->boot_id);
	rd_time(rd, "since", &w->since_wall_usec);
	rd_time(rd, "at", &w->at_wall_usec);
	rd_word(rd, "state", worker_states, &state);
	w->state = (enum message_worker_state)state;
	read_jobs(rd, m);
	rd_texts(rd, "evaluators", JOBS_MAX, &rd_id, true, &w->evaluators);
	rd_int(rd, "lease_usec", 1, MESSAGE_LEASE_MAX_USEC, true, &w->lease_usec);
	rd_str(rd, "role", &rd_id, true, &w->role);
}

static void read_control(struct message_reader *rd, struct message_control *c)
{
	int kind = 0;

	rd_str(rd, "id", &rd_uuid, true, &c->id);
	rd_word(rd, "kind", control_kinds, &kind);
	c->kind = (enum message_control_kind)kind;
	rd_str(rd, "evaluation", &rd_id, false, &c->evaluation);
	rd_str(rd, "attempt_id", &rd_uuid, true, &c->attempt_id);
	rd_str(rd, "by", &rd_text, true, &c->by);
	rd_time(rd, "at", &c->at_wall_usec);
}

static void read_echo(struct message_reader *rd, struct message_echo *echo)
{
	rd_str(rd, "message", &rd_any_text, false, &echo->message);
	rd_time(rd, "at", &echo->at_wall_usec);
}

/* "1.<minor>": a newer minor version only adds members. */
static void read_version(struct message_reader *rd)
{
	uint64_t major, minor;
	char text[24] = "";
	const char *s;
	char *dot;

	rd_str(rd, "zr", &rd_text, false, &s);
	if (!s)
		return;
	snprintf(text, sizeof(text), "%s", s);
	dot = strchr(text, '.');
	if (dot)
		*dot = '\0';
	if (!dot || strlen(s) >= sizeof(text) || str_u64(text, &major) < 0 ||
	    str_u64(dot + 1, &minor) < 0)
		rd_fail(rd, MESSAGE_BAD_VALUE, "'zr' is '%s', not a version such as \"1.0\"",
			STR_ESC(s));
	else if (major != 1)
		rd_fail(rd, MESSAGE_UNKNOWN_VERSION, "version '%s' is not known here: this is 1.0",
			STR_ESC(s));
}

static void read_type(struct message_reader *rd, enum message_type *ret)
{
	const char *s;

	rd_str(rd, "type", &rd_text, false, &s);
	for (int i = 0; s && types[i]; i++) {
		if (str_eq(s, types[i])) {
			*ret = (enum message_type)i;
			return;
		}
	}
	if (s)
		rd_fail(rd, MESSAGE_UNKNOWN_TYPE, "type '%s' is not known", STR_ESC(s));
}

static void read_message(struct message_reader *rd, struct message *m)
{
	read_version(rd);
	read_type(rd, &m->type);
	if (rd->bad)
		return;
	switch (m->type) {
	case MESSAGE_REQUEST:
		read_request(rd, &m->request);
		return;
	case MESSAGE_EVENT:
		read_event(rd, &m->event);
		return;
	case MESSAGE_WORKER:
		read_worker(rd, m);
		return;
	case MESSAGE_CONTROL:
		read_control(rd, &m->control);
		return;
	case MESSAGE_ECHO:
	case MESSAGE_TYPE_N:
		read_echo(rd, &m->echo);
		return;
	}
}

/* What js_parse() refused, by code. Depth is the one thing that it judges before the library. */
static enum message_bad classify(const char *data, size_t n)
{
	json_error_t je = { 0 };
	json_auto_t *j = json_loadb(data, n, JSON_REJECT_DUPLICATES, &je);

	if (j)
		return MESSAGE_TOO_DEEP;
	switch ((int)json_error_code(&je)) {
	case json_error_out_of_memory:
		return MESSAGE_NO_MEMORY;
	case json_error_stack_overflow:
		return MESSAGE_TOO_DEEP;
	case json_error_duplicate_key:
		return MESSAGE_DUPLICATE_KEY;
	case json_error_numeric_overflow:
		return MESSAGE_BAD_VALUE;
	default:
		return MESSAGE_MALFORMED;
	}
}

static enum message_bad parse(const void *data, size_t n, size_t max, json_t **ret, struct err *e)
{
	if (n > max) {
		err_input(e, "%zu bytes, more than the %zu allowed", n, max);
		return MESSAGE_TOO_LARGE;
	}
	if (!str_utf8_valid(data, n)) {
		err_input(e, "not valid UTF-8");
		return MESSAGE_BAD_UTF8;
	}
	if (js_parse(data, n, MESSAGE_DEPTH, ret, e) < 0)
		return classify(n ? data : "", n);
	if (!json_is_object(*ret)) {
		err_input(e, "not a JSON object");
		return MESSAGE_MALFORMED;
	}
	return MESSAGE_GOOD;
}

enum message_bad message_decode(const void *data, size_t n, size_t max, struct message **ret,
				struct err *e)
{
	auto_obj(message) m = calloc(1, sizeof(*m));
	struct message_reader rd = { .e = e };

	if (!m) {
		(void)err_nomem(e);
		return MESSAGE_NO_MEMORY;
	}
	rd.bad = parse(data, n, max, &m->json, e);
	rd.o = m->json;
	if (rd.bad)
		return rd.bad;
	read_message(&rd, m);
	if (!rd.bad)
		*ret = take_ptr(m);
	return rd.bad;
}

/* --- encoding --- */

/* Collects members; a failed allocation is remembered. */
struct writer {
	json_t *o;
	bool nomem;
};

static void put(struct writer *w, const char *key, json_t *v)
{
	if (json_object_set_new(w->o, key, v) < 0)
		w->nomem = true;
}

static void put_text(struct writer *w, const char *key, const char *s)
{
	if (s)
		put(w, key, js_from_bytes(s, strlen(s)));
}

static void put_int(struct writer *w, const char *key, int64_t n)
{
	put(w, key, json_integer(n));
}

static void put_time(struct writer *w, const char *key, uint64_t wall_usec)
{
	char text[TIME_TEXT_MAX];

	put_text(w, key, time_text(text, wall_usec ? wall_usec : time_wall_usec()));
}

static void put_json(struct writer *w, const char *key, json_t *v)
{
	if (v)
		put(w, key, json_incref(v));
}

static void put_id(struct writer *w, const char *id)
{
	char fresh[UUID_LEN + 1];

	put_text(w, "id", id ? id : id_uuid7(fresh));
}

static void put_submission(struct writer *w, const struct message *m)
{
	struct writer sub = { json_object(), false };

	put_text(&sub, "id", m->request.submission);
	put_text(&sub, "digest", m->request.digest);
	put_text(&sub, "source", m->request.source);
	if (m->json &&
	    json_object_update_missing(sub.o, json_object_get(m->json, "submission")) < 0)
		sub.nomem = true;
	w->nomem |= sub.nomem;
	put(w, "submission", sub.o);
}

static void write_request(struct writer *w, const struct message *m)
{
	const struct message_request *q = &m->request;

	put_id(w, q->id);
	put_text(w, "evaluation", q->evaluation);
	put_submission(w, m);
	put_text(w, "evaluator", q->evaluator);
	put_json(w, "args", q->args);
	put_json(w, "limits", q->limits);
	put_int(w, "attempt", q->attempt ? q->attempt : 1);
	put_text(w, "priority", priorities[q->high]);
	put_time(w, "created_at", q->created_wall_usec);
}

static void write_event(struct writer *w, const struct message_event *ev)
{
	put_id(w, ev->id);
	put_text(w, "kind", message_kinds[ev->kind]);
	put_text(w, "evaluation", ev->evaluation);
	put_int(w, "attempt", ev->attempt);
	put_text(w, "attempt_id", ev->attempt_id);
	put_int(w, "seq", ev->seq);
	put_time(w, "at", ev->at_wall_usec);
	put_text(w, "host", ev->host);
	put_text(w, "worker", ev->worker);
	put_json(w, "body", ev->body);
}

static void write_jobs(struct writer *w, const struct message_worker *worker)
{
	json_t *list = json_array();

	for (size_t i = 0; i < worker->n_jobs; i++) {
		const struct message_job *job = &worker->jobs[i];
		struct writer item = { json_object(), false };

		put_text(&item, "evaluation", job->evaluation);
		put_int(&item, "attempt", job->attempt);
		put_text(&item, "attempt_id", job->attempt_id);
		put_text(&item, "phase", job->phase);
		put_time(&item, "since", job->since_wall_usec);
		w->nomem |= item.nomem || json_array_append_new(list, item.o) < 0;
	}
	put(w, "jobs", list);
}

static void write_worker(struct writer *w, const struct message_worker *worker)
{
	put_text(w, "host", worker->host);
	put_text(w, "worker", worker->worker);
	put_int(w, "pid", worker->pid);
	put_text(w, "boot_id", worker->boot_id);
	put_time(w, "since", worker->since_wall_usec);
	put_time(w, "at", worker->at_wall_usec);
	put_text(w, "state", worker_states[worker->state]);
	write_jobs(w, worker);
	put_json(w, "evaluators", worker->evaluators);
	if (worker->lease_usec)
		put_int(w, "lease_usec", worker->lease_usec);
	put_text(w, "role", worker->role);
}

static void write_control(struct writer *w, const struct message_control *c)
{
	put_id(w, c->id);
	put_text(w, "kind", control_kinds[c->kind]);
	put_text(w, "evaluation", c->evaluation);
	put_text(w, "attempt_id", c->attempt_id);
	put_text(w, "by", c->by);
	put_time(w, "at", c->at_wall_usec);
}

static void write_message(struct writer *w, const struct message *m)
{
	put_text(w, "zr", "1.0");
	put_text(w, "type", types[m->type]);
	switch (m->type) {
	case MESSAGE_REQUEST:
		write_request(w, m);
		break;
	case MESSAGE_EVENT:
		write_event(w, &m->event);
		break;
	case MESSAGE_WORKER:
		write_worker(w, &m->worker);
		break;
	case MESSAGE_CONTROL:
		write_control(w, &m->control);
		break;
	case MESSAGE_ECHO:
	case MESSAGE_TYPE_N:
		put_text(w, "message", m->echo.message);
		put_time(w, "at", m->echo.at_wall_usec);
		break;
	}
	if (m->json && json_object_update_missing(w->o, m->json) < 0)
		w->nomem = true;
}

int message_encode(const struct message *m, char **ret, size_t *ret_n, struct err *e)
{
	json_auto_t *o = json_object();
	struct writer w = { o, false };
	struct message check = { 0 };
	struct message_reader rd = { .o = o, .e = e };
	char *text;

	if (!o)
		return err_nomem(e);
	write_message(&w, m);
	if (w.nomem)
		return err_nomem(e);
	/* The decoder is the judge of what may be sent. */
	read_message(&rd, &check);
	free(check.jobs);
	if (rd.bad == MESSAGE_NO_MEMORY)
		return -ENOMEM;
	if (rd.bad)
		return e ? err_wrap(e, "%s message", types[m->type]) : -EINVAL;
	text = js_text(o);
	if (!text)
		return err_nomem(e);
	*ret = text;
	*ret_n = strlen(text);
	return 0;
}

int message_encode_event(const struct message_event *ev, char **ret, size_t *ret_n, struct err *e)
{
	struct message m = { .type = MESSAGE_EVENT, .event = *ev };

	return message_encode(&m, ret, ret_n, e);
}

/* --- routing keys --- */

char *message_key(char *out, const struct message *m)
{
	switch (m->type) {
	case MESSAGE_EVENT:
		snprintf(out, MESSAGE_KEY_MAX, "event.%s.%s", message_kinds[m->event.kind],
			 m->event.evaluation);
		break;
	case MESSAGE_WORKER:
		snprintf(out, MESSAGE_KEY_MAX, "event.worker.%s", m->worker.host);
		break;
	case MESSAGE_CONTROL:
		snprintf(out, MESSAGE_KEY_MAX, "control.%s", control_kinds[m->control.kind]);
		break;
	case MESSAGE_ECHO:
		snprintf(out, MESSAGE_KEY_MAX, "echo.message");
		break;
	case MESSAGE_REQUEST:
	case MESSAGE_TYPE_N:
		out[0] = '\0';
		break;
	}
	return out;
}

bool message_key_is_end(const char *key)
{
	return str_starts(key, "event.completed.") || str_starts(key, "event.failed.") ||
	       str_starts(key, "event.canceled.");
}

char *message_request_key(char *out, const char *pool, const char *host, bool high)
{
	if (host)
		snprintf(out, MESSAGE_KEY_MAX, "eval.host.%s", host);
	else
		snprintf(out, MESSAGE_KEY_MAX, "eval.pool.%s%s", pool, high ? ".high" : "");
	return out;
}

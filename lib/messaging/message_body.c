/* SPDX-License-Identifier: MIT */
#include "messaging/message_body.h"

#include <string.h>

#include "base/id.h"
#include "base/json.h"
#include "base/str.h"
#include "base/time.h"

const char *const message_kinds[] = { "started",   "progress", "log",      "violation",
				      "completed", "failed",   "canceled", NULL };

const char *const message_reasons[] = {
	"ok",           "exit",   "signal",    "cpu-limit", "wall-limit",     "memory",
	"output-limit", "disk",   "pids",      "setup",     "infrastructure", "canceled",
	"lost",         "poison", "violation", NULL,
};

const char *message_kind_name(enum message_kind k)
{
	return message_kinds[k];
}

/* Members that were checked: a wrong type reads as absent. */
static const char *text(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

static int64_t number(const json_t *o, const char *key, int64_t absent)
{
	const json_t *v = json_object_get(o, key);

	return json_is_integer(v) ? json_integer_value(v) : absent;
}

static json_t *object(const json_t *o, const char *key)
{
	json_t *v = json_object_get(o, key);

	return json_is_object(v) ? v : NULL;
}

void message_started(const json_t *body, struct message_started *ret)
{
	ret->evaluator = text(body, "evaluator");
	ret->isolation = object(body, "isolation");
}

static void check_started(struct message_reader *rd)
{
	const char *evaluator;
	json_t *isolation;

	rd_str(rd, "evaluator", &rd_id, false, &evaluator);
	rd_object(rd, "isolation", true, &isolation);
}

void message_progress(const json_t *body, struct message_progress *ret)
{
	const json_t *fraction = json_object_get(body, "fraction");

	ret->fraction = json_is_number(fraction) ? json_number_value(fraction) : -1;
	ret->done = number(body, "done", -1);
	ret->total = number(body, "total", -1);
	ret->text = text(body, "text");
	ret->phase = text(body, "phase");
}

static void check_progress(struct message_reader *rd)
{
	struct err e = { 0 };
	const char *s;
	double f = 0;
	int64_t n;

	if (!rd->bad && js_opt_num(rd->o, "fraction", &f, &e) < 0)
		rd_fail(rd, MESSAGE_BAD_VALUE, "%s", e.msg);
	if (f < 0 || f > 1)
		rd_fail(rd, MESSAGE_BAD_VALUE, "'fraction' is %g, outside 0 to 1", f);
	rd_int(rd, "done", 0, INT64_MAX, true, &n);
	rd_int(rd, "total", 0, INT64_MAX, true, &n);
	rd_str(rd, "text", &rd_long_text, true, &s);
	rd_str(rd, "phase", &rd_id, true, &s);
}

void message_log(const json_t *body, struct message_log *ret)
{
	ret->err = str_eq(text(body, "stream"), "err");
	ret->offset = number(body, "offset", 0);
	ret->text = text(body, "text");
}

void message_violation(const json_t *body, struct message_violation *ret)
{
	ret->phase = text(body, "phase");
	ret->violations = object(body, "violations");
}

static void check_violation(struct message_reader *rd)
{
	const char *s;
	json_t *o;

	rd_str(rd, "phase", &rd_id, true, &s);
	rd_object(rd, "violations", false, &o);
}

static void check_log(struct message_reader *rd)
{
	static const char *const streams[] = { "out", "err", NULL };
	const char *s;
	int64_t n;
	int i;

	rd_word(rd, "stream", streams, &i);
	rd_int(rd, "offset", 0, INT64_MAX, false, &n);
	rd_str(rd, "text", &rd_any_text, false, &s);
}

void message_end(const json_t *body, struct message_end *ret)
{
	*ret = (struct message_end){
		.reason = text(body, "reason"),
		.detail = text(body, "detail"),
		.exit_code = (int)number(body, "exit_code", -1),
		.signal = (int)number(body, "signal", 0),
		.phase = text(body, "phase"),
		.scores = object(body, "scores"),
		.scores_error = text(body, "scores_error"),
		.root_hash = text(body, "root_hash"),
		.result_bytes = number(body, "result_bytes", -1),
		.started_at = text(body, "started_at"),
		.finished_at = text(body, "finished_at"),
		.usage = object(body, "usage"),
		.log = object(body, "log"),
		.isolation = object(body, "isolation"),
		.retries = (int)number(body, "retries", 0),
		.keeper_died = json_is_true(json_object_get(body, "keeper_died")),
	};
}

static void check_bool(struct message_reader *rd, const char *key)
{
	struct err e = { 0 };
	bool v;

	if (!rd->bad && js_opt_bool(rd->o, key, &v, &e) < 0)
		rd_fail(rd, MESSAGE_BAD_VALUE, "%s", e.msg);
}

static bool is_time(const char *s)
{
	uint64_t usec;

	return time_parse(s, &usec) == 0;
}

/* Each of the three kinds of end has its own reasons. */
static void check_reason(struct message_reader *rd, enum message_kind kind)
{
	enum message_kind belongs = MESSAGE_FAILED;
	int i = 0;

	rd_word(rd, "reason", message_reasons, &i);
	if (rd->bad)
		return;
	if (str_eq(message_reasons[i], "ok"))
		belongs = MESSAGE_COMPLETED;
	else if (str_eq(message_reasons[i], "canceled"))
		belongs = MESSAGE_CANCELED;
	if (kind != belongs)
		rd_fail(rd, MESSAGE_BAD_VALUE, "the reason of kind '%s' cannot be '%s'",
			message_kinds[kind], message_reasons[i]);
}

static void check_end(struct message_reader *rd, enum message_kind kind)
{
	static const struct rd_rule rule = { 64, is_time, "an RFC 3339 time" };
	static const char *const objects[] = { "scores",    "usage",      "log",
					       "isolation", "violations", "conditions" };
	const char *s;
	int64_t n;
	json_t *o;

	check_reason(rd, kind);
	rd_str(rd, "detail", &rd_long_text, true, &s);
	rd_int(rd, "exit_code", 0, 255, true, &n);
	rd_int(rd, "signal", 1, 64, true, &n);
	rd_int(rd, "retries", 0, 1000, true, &n);
	check_bool(rd, "keeper_died");
	rd_str(rd, "phase", &rd_id, true, &s);
	rd_str(rd, "scores_error", &rd_long_text, true, &s);
	rd_str(rd, "root_hash", &rd_digest, true, &s);
	rd_int(rd, "result_bytes", 0, INT64_MAX, true, &n);
	rd_str(rd, "started_at", &rule, true, &s);
	rd_str(rd, "finished_at", &rule, true, &s);
	for (size_t i = 0; i < ARRAY_LEN(objects); i++)
		rd_object(rd, objects[i], true, &o);
}

void message_body_check(struct message_reader *rd, enum message_kind kind)
{
	switch (kind) {
	case MESSAGE_STARTED:
		check_started(rd);
		return;
	case MESSAGE_PROGRESS:
		check_progress(rd);
		return;
	case MESSAGE_LOG:
		check_log(rd);
		return;
	case MESSAGE_VIOLATION:
		check_violation(rd);
		return;
	case MESSAGE_COMPLETED:
	case MESSAGE_FAILED:
	case MESSAGE_CANCELED:
	case MESSAGE_KIND_N:
		check_end(rd, kind);
		return;
	}
}

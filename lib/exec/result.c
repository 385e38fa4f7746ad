/* SPDX-License-Identifier: MIT */
#include "exec/result.h"

#include <string.h>

#include "base/id.h"
#include "base/json.h"
#include "base/str.h"
#include "base/time.h"

#define DETAIL_MAX 4096

static const char *const reason_names[BOX_REASON_N] = {
	[BOX_OK] = "ok",
	[BOX_EXIT] = "exit",
	[BOX_SIGNAL] = "signal",
	[BOX_CPU_LIMIT] = "cpu-limit",
	[BOX_WALL_LIMIT] = "wall-limit",
	[BOX_MEMORY] = "memory",
	[BOX_OUTPUT_LIMIT] = "output-limit",
	[BOX_DISK] = "disk",
	[BOX_PIDS] = "pids",
	[BOX_SETUP] = "setup",
	[BOX_INFRASTRUCTURE] = "infrastructure",
	[BOX_CANCELED] = "canceled",
	[BOX_LOST] = "lost",
	[BOX_POISON] = "poison",
	[BOX_VIOLATION] = "violation",
};

const char *box_reason_name(enum box_reason r)
{
	return reason_names[r];
}

int box_reason_parse(const char *name, enum box_reason *ret)
{
	for (enum box_reason r = 0; r < BOX_REASON_N; r++) {
		if (!str_eq(name, reason_names[r]))
			continue;
		*ret = r;
		return 0;
	}
	return -EINVAL;
}

void box_result_init(struct box_result *r)
{
	*r = (struct box_result){
		.exit_code = -1,
		.phase = PHASE_RUN,
		.memory_peak_bytes = BOX_UNKNOWN,
		.gpu_wait_usec = BOX_UNKNOWN,
		.gpu_hold_usec = BOX_UNKNOWN,
	};
}

void box_result_done(struct box_result *r)
{
	if (!r)
		return;
	free(r->detail);
	free(r->scores_error);
	free(r->root_hash);
	json_decref(r->scores);
	json_decref(r->violations);
	json_decref(r->conditions);
	json_decref(r->isolation);
	box_result_init(r);
}

static json_t *text_or_null(const char *s)
{
	return s ? js_from_bytes(s, strlen(s)) : json_null();
}

static json_t *number_or_null(bool known, uint64_t v)
{
	return known ? json_integer((json_int_t)v) : json_null();
}

static json_t *time_or_null(uint64_t wall_usec)
{
	char text[TIME_TEXT_MAX];

	return wall_usec ? json_string(time_text(text, wall_usec)) : json_null();
}

static json_t *usage_json(const struct box_result *r)
{
	json_t *o = json_pack(
		"{s:I, s:I, s:o}", "wall_usec", (json_int_t)r->wall_usec, "cpu_usec",
		(json_int_t)r->cpu_usec, "memory_peak_bytes",
		number_or_null(r->memory_peak_bytes != BOX_UNKNOWN, r->memory_peak_bytes));
	int n = o ? 0 : -1;

	if (n == 0 && r->gpu_wait_usec != BOX_UNKNOWN)
		n = json_object_set_new(o, "gpu_wait_usec",
					json_integer((json_int_t)r->gpu_wait_usec));
	if (n == 0 && r->gpu_hold_usec != BOX_UNKNOWN)
		n = json_object_set_new(o, "gpu_hold_usec",
					json_integer((json_int_t)r->gpu_hold_usec));
	if (n == 0)
		return o;
	json_decref(o);
	return NULL;
}

static json_t *log_json(const struct box_result *r)
{
	return json_pack("{s:I, s:I, s:b}", "out_bytes", (json_int_t)r->out_bytes, "err_bytes",
			 (json_int_t)r->err_bytes, "truncated", r->log_truncated);
}

static json_t *result_json(const struct box_result *r)
{
	return json_pack(
		"{s:s, s:o, s:o, s:o, s:s, s:O?, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:O?}",
		"reason", box_reason_name(r->reason), "detail", text_or_null(r->detail),
		"exit_code",
		number_or_null(r->exit_code >= 0, r->exit_code >= 0 ? (uint64_t)r->exit_code : 0),
		"signal", number_or_null(r->signal > 0, (uint64_t)r->signal), "phase",
		phase_name(r->phase), "scores", r->scores, "scores_error",
		text_or_null(r->scores_error), "root_hash", text_or_null(r->root_hash),
		"result_bytes", number_or_null(r->root_hash, r->result_bytes), "started_at",
		time_or_null(r->started_wall_usec), "finished_at",
		time_or_null(r->finished_wall_usec), "usage", usage_json(r), "log", log_json(r),
		"isolation", r->isolation);
}

json_t *box_result_json(const struct box_result *r)
{
	json_t *o = result_json(r);

	if (o && ((r->keeper_died && json_object_set_new(o, "keeper_died", json_true()) < 0) ||
		  (r->violations && json_object_set(o, "violations", r->violations) < 0) ||
		  (r->conditions && json_object_set(o, "conditions", r->conditions) < 0))) {
		json_decref(o);
		return NULL;
	}
	return o;
}

/* --- and back --------------------------------------------------------------------------------- */

static int get_uint(const json_t *o, const char *key, uint64_t *ret, struct err *e)
{
	int64_t v = 0;
	int r = js_opt_int(o, key, 0, INT64_MAX, &v, e);

	if (r > 0)
		*ret = (uint64_t)v;
	return r < 0 ? r : 0;
}

static int get_int(const json_t *o, const char *key, int64_t max, int *ret, struct err *e)
{
	int64_t v;
	int r = js_opt_int(o, key, 0, max, &v, e);

	if (r > 0)
		*ret = (int)v;
	return r < 0 ? r : 0;
}

static int get_bool(const json_t *o, const char *key, bool *ret, struct err *e)
{
	int r = js_opt_bool(o, key, ret, e);

	return r < 0 ? r : 0;
}

static int get_text(const json_t *o, const char *key, char **ret, struct err *e)
{
	const char *s = NULL;
	int r = js_opt_str(o, key, DETAIL_MAX, &s, e);

	if (r <= 0)
		return r;
	*ret = strdup(s);
	return *ret ? 0 : err_nomem(e);
}

static int get_time(const json_t *o, const char *key, uint64_t *ret, struct err *e)
{
	const char *s = NULL;
	int r = js_opt_str(o, key, TIME_TEXT_MAX, &s, e);

	if (r <= 0)
		return r;
	return time_parse(s, ret) < 0 ? err_input(e, "'%s' is not a time", key) : 0;
}

static int get_object(const json_t *o, const char *key, json_t **ret, struct err *e)
{
	json_t *v = NULL;
	int r = js_opt_obj(o, key, &v, e);

	if (r > 0)
		*ret = json_incref(v);
	return r < 0 ? r : 0;
}

static int get_names(const json_t *o, struct box_result *ret, struct err *e)
{
	const char *reason, *phase;

	if (js_str(o, "reason", 32, &reason, e) < 0 || js_str(o, "phase", 32, &phase, e) < 0)
		return -EINVAL;
	if (box_reason_parse(reason, &ret->reason) < 0)
		return err_input(e, "there is no reason '%s'", STR_ESC(reason));
	if (phase_parse(phase, &ret->phase) < 0)
		return err_input(e, "there is no phase '%s'", STR_ESC(phase));
	return 0;
}

static int get_usage(const json_t *o, struct box_result *ret, struct err *e)
{
	json_t *u = NULL, *l = NULL;
	int r = js_opt_obj(o, "usage", &u, e);

	if (r > 0) {
		r = get_uint(u, "wall_usec", &ret->wall_usec, e);
		if (r == 0)
			r = get_uint(u, "cpu_usec", &ret->cpu_usec, e);
		if (r == 0)
			r = get_uint(u, "memory_peak_bytes", &ret->memory_peak_bytes, e);
		if (r == 0)
			r = get_uint(u, "gpu_wait_usec", &ret->gpu_wait_usec, e);
		if (r == 0)
			r = get_uint(u, "gpu_hold_usec", &ret->gpu_hold_usec, e);
	}
	if (r == 0)
		r = js_opt_obj(o, "log", &l, e);
	if (r > 0) {
		r = get_uint(l, "out_bytes", &ret->out_bytes, e);
		if (r == 0)
			r = get_uint(l, "err_bytes", &ret->err_bytes, e);
		if (r == 0)
			r = js_opt_bool(l, "truncated", &ret->log_truncated, e);
	}
	return r < 0 ? r : 0;
}

static int get_all(const json_t *o, struct box_result *ret, struct err *e)
{
	int r = get_names(o, ret, e);

	if (r == 0)
		r = get_text(o, "detail", &ret->detail, e);
	if (r == 0)
		r = get_bool(o, "keeper_died", &ret->keeper_died, e);
	if (r == 0)
		r = get_int(o, "exit_code", 255, &ret->exit_code, e);
	if (r == 0)
		r = get_int(o, "signal", 127, &ret->signal, e);
	if (r == 0)
		r = get_object(o, "scores", &ret->scores, e);
	if (r == 0)
		r = get_text(o, "scores_error", &ret->scores_error, e);
	if (r == 0)
		r = get_text(o, "root_hash", &ret->root_hash, e);
	if (r == 0)
		r = get_uint(o, "result_bytes", &ret->result_bytes, e);
	if (r == 0)
		r = get_time(o, "started_at", &ret->started_wall_usec, e);
	if (r == 0)
		r = get_time(o, "finished_at", &ret->finished_wall_usec, e);
	if (r == 0)
		r = get_usage(o, ret, e);
	if (r == 0)
		r = get_object(o, "isolation", &ret->isolation, e);
	if (r == 0)
		r = get_object(o, "violations", &ret->violations, e);
	if (r == 0)
		r = get_object(o, "conditions", &ret->conditions, e);
	if (r == 0 && ret->root_hash && !id_is_digest(ret->root_hash))
		r = err_input(e, "'root_hash' is not a digest");
	return r;
}

int box_result_from_json(const json_t *o, struct box_result *ret, struct err *e)
{
	auto_done(box_result) res;
	int r;

	box_result_init(&res);
	if (!json_is_object(o))
		return err_input(e, "a result is not an object");
	r = get_all(o, &res, e);
	if (r < 0)
		return r;
	*ret = res;
	box_result_init(&res);
	return 0;
}

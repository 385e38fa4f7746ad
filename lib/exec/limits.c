/* SPDX-License-Identifier: MIT */
#include "exec/limits.h"

#include <stddef.h>

#include "base/json.h"
#include "base/str.h"

static const char *const phase_names[PHASE_N] = {
	[PHASE_PREPARE] = "prepare",
	[PHASE_RUN] = "run",
	[PHASE_SCORE] = "score",
};

/* One row per limit: the JSON member and where it lives. */
static const struct {
	const char *key;
	size_t offset;
} rows[] = {
	{ "wall_usec", offsetof(struct limits, wall_usec[PHASE_RUN]) },
	{ "prepare_wall_usec", offsetof(struct limits, wall_usec[PHASE_PREPARE]) },
	{ "score_wall_usec", offsetof(struct limits, wall_usec[PHASE_SCORE]) },
	{ "cpu_usec", offsetof(struct limits, cpu_usec) },
	{ "memory_bytes", offsetof(struct limits, memory_bytes) },
	{ "pids", offsetof(struct limits, pids) },
	{ "disk_bytes", offsetof(struct limits, disk_bytes) },
	{ "output_bytes", offsetof(struct limits, output_bytes) },
};

static uint64_t *row_value(struct limits *l, size_t i)
{
	return (uint64_t *)(void *)((char *)l + rows[i].offset);
}

static uint64_t row_get(const struct limits *l, size_t i)
{
	return *(const uint64_t *)(const void *)((const char *)l + rows[i].offset);
}

const char *phase_name(enum phase p)
{
	return phase_names[p];
}

int phase_parse(const char *name, enum phase *ret)
{
	for (enum phase p = 0; p < PHASE_N; p++) {
		if (!str_eq(name, phase_names[p]))
			continue;
		*ret = p;
		return 0;
	}
	return -EINVAL;
}

static int known_row(const char *key, size_t *ret)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (!str_eq(key, rows[i].key))
			continue;
		*ret = i;
		return 0;
	}
	return -EINVAL;
}

int limits_from_json(const json_t *o, struct limits *ret, struct err *e)
{
	struct limits l = { 0 };

	if (!json_is_object(o))
		return err_input(e, "limits are not an object");
	for (void *it = json_object_iter((json_t *)(uintptr_t)o); it;
	     it = json_object_iter_next((json_t *)(uintptr_t)o, it)) {
		const char *key = json_object_iter_key(it);
		int64_t v = 0;
		size_t i;
		int r;

		if (known_row(key, &i) < 0)
			return err_input(e, "there is no limit '%s'", STR_ESC(key));
		r = js_opt_int(o, key, 1, INT64_MAX, &v, e);
		if (r < 0)
			return r;
		*row_value(&l, i) = (uint64_t)v;
	}
	*ret = l;
	return 0;
}

json_t *limits_to_json(const struct limits *l)
{
	json_t *o = json_object();

	for (size_t i = 0; o && i < ARRAY_LEN(rows); i++) {
		uint64_t v = row_get(l, i);

		if (v && json_object_set_new(o, rows[i].key, json_integer((json_int_t)v)) < 0) {
			json_decref(o);
			return NULL;
		}
	}
	return o;
}

int limits_lower(struct limits *l, const struct limits *asked, struct err *e)
{
	struct limits lowered = *l;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		uint64_t have = row_get(l, i), want = row_get(asked, i);

		if (!want)
			continue;
		if (have && want > have)
			return err_input(
				e, "the request asks for %s %llu, the evaluator allows %llu",
				rows[i].key, (unsigned long long)want, (unsigned long long)have);
		*row_value(&lowered, i) = want;
	}
	*l = lowered;
	return 0;
}

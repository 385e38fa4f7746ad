/* SPDX-License-Identifier: MIT */
#include "messaging/dirretry.h"

#include <stdbool.h>

#include "base/json.h"
#include "base/str.h"
#include "base/time.h"

#define TRIES_MAX      10000
#define DELAY_MAX_USEC (600 * USEC_PER_SEC)
/* An evaluation whose keepers are killed on living hosts is taken for the cause. */
#define KILLED_MAX 1

struct tries {
	int64_t own, infrastructure, killed;
};

/* Of the evaluation's own, and such that the next time may go otherwise. */
static bool is_retryable(const char *reason)
{
	static const char *const own[] = { "exit",   "signal",       "cpu-limit", "wall-limit",
					   "memory", "output-limit", "disk",      "pids" };

	for (size_t i = 0; i < ARRAY_LEN(own); i++)
		if (str_eq(reason, own[i]))
			return true;
	return false;
}

static bool is_of_the_host(const char *reason)
{
	return str_eq(reason, "infrastructure") || str_eq(reason, "lost");
}

static void read_tries(const json_t *request, struct tries *t)
{
	const json_t *o = json_object_get(request, "tries");

	*t = (struct tries){ 0 };
	if (js_opt_int(o, "own", 0, TRIES_MAX, &t->own, NULL) < 0 ||
	    js_opt_int(o, "infrastructure", 0, TRIES_MAX, &t->infrastructure, NULL) < 0 ||
	    js_opt_int(o, "killed", 0, TRIES_MAX, &t->killed, NULL) < 0)
		*t = (struct tries){ 0 };
}

static int make_next(struct message *m, const struct tries *t, char id[UUID_LEN + 1], struct err *e)
{
	json_t *o = json_pack("{s:I, s:I, s:I}", "own", (json_int_t)t->own, "infrastructure",
			      (json_int_t)t->infrastructure, "killed", (json_int_t)t->killed);

	if (!o || json_object_set_new(m->json, "tries", o) < 0)
		return err_nomem(e);
	m->request.attempt++;
	m->request.id = id_uuid7(id);
	return 1;
}

/* Doubled for each one before. */
static uint64_t delay_of(const struct settings *s, const struct tries *t)
{
	uint64_t delay = s->retry_delay_usec;

	for (int64_t n = t->own + t->infrastructure; n > 0 && delay < DELAY_MAX_USEC; n--)
		delay *= 2;
	return delay < DELAY_MAX_USEC ? delay : DELAY_MAX_USEC;
}

int dirretry_after(struct message *m, const json_t *end, const struct settings *s,
		   char id[UUID_LEN + 1], uint64_t *ret_delay_usec, struct err *e)
{
	const char *reason = json_string_value(json_object_get(end, "reason"));
	bool host = is_of_the_host(reason);
	int64_t retries = 0;
	struct tries t;

	read_tries(m->json, &t);
	if (js_opt_int(end, "retries", 0, TRIES_MAX, &retries, NULL) < 0)
		retries = 0;
	if (host ? (uint64_t)t.infrastructure >= s->infrastructure_retries
		 : !is_retryable(reason) || t.own >= retries)
		return 0;
	if (json_is_true(json_object_get(end, "keeper_died")) && t.killed++ >= KILLED_MAX)
		return 0;
	*ret_delay_usec = delay_of(s, &t);
	if (host)
		t.infrastructure++;
	else
		t.own++;
	return make_next(m, &t, id, e);
}

int dirretry_lost(struct message *m, const struct settings *s, char id[UUID_LEN + 1], struct err *e)
{
	struct tries t;

	read_tries(m->json, &t);
	if ((uint64_t)t.infrastructure >= s->infrastructure_retries)
		return 0;
	t.infrastructure++;
	return make_next(m, &t, id, e);
}

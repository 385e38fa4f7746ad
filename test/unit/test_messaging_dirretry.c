/* SPDX-License-Identifier: MIT */
#include <stdio.h>

#include "base/json.h"
#include "base/time.h"
#include "messaging/dirretry.h"
#include "unit.h"

static const struct settings settings = { .infrastructure_retries = 2,
					  .retry_delay_usec = 100 * USEC_PER_SEC };

static const struct {
	const char *tries, *end; /* JSON; "": no member `tries` */
	const char *next;        /* tries of the next one; NULL: there is none */
	uint64_t delay_sec;
} cases[] = {
	{ "", "{\"reason\": \"exit\"}", NULL, 0 },
	{ "", "{\"reason\": \"exit\", \"retries\": 1}", "1 0 0", 100 },
	{ "{\"own\": 1}", "{\"reason\": \"exit\", \"retries\": 1}", NULL, 0 },
	{ "{\"own\": 1}", "{\"reason\": \"memory\", \"retries\": 2}", "2 0 0", 200 },
	/* What was lost does not use up an evaluator's own, nor the other way round. */
	{ "{\"own\": 0, \"infrastructure\": 2}", "{\"reason\": \"exit\", \"retries\": 1}", "1 2 0",
	  400 },
	{ "{\"own\": 9, \"infrastructure\": 1}", "{\"reason\": \"lost\"}", "9 2 0", 600 },
	{ "{\"infrastructure\": 2}", "{\"reason\": \"infrastructure\", \"retries\": 9}", NULL, 0 },
	/* What would only fail the same way. */
	{ "", "{\"reason\": \"setup\", \"retries\": 9}", NULL, 0 },
	{ "", "{\"reason\": \"violation\", \"retries\": 9}", NULL, 0 },
	{ "", "{\"retries\": 9}", NULL, 0 },
	/* A keeper that is killed once may have been unlucky. */
	{ "", "{\"reason\": \"lost\", \"keeper_died\": true}", "0 1 1", 100 },
	{ "{\"killed\": 1}", "{\"reason\": \"lost\", \"keeper_died\": true}", NULL, 0 },
	{ "{\"killed\": 1}", "{\"reason\": \"lost\", \"keeper_died\": false}", "0 1 1", 100 },
	/* Counts that are none. */
	{ "{\"own\": -1}", "{\"reason\": \"exit\", \"retries\": 1}", "1 0 0", 100 },
	{ "{\"own\": 1e9}", "{\"reason\": \"exit\", \"retries\": 1}", "1 0 0", 100 },
	{ "[1]", "{\"reason\": \"exit\", \"retries\": 1}", "1 0 0", 100 },
	{ "", "{\"reason\": \"exit\", \"retries\": -1}", NULL, 0 },
};

static struct message *request(const char *tries)
{
	struct message *m = NULL;
	struct err e = { 0 };
	char text[1024];

	snprintf(
		text, sizeof(text),
		"{\"zr\": \"1.0\", \"type\": \"request\", \"id\": "
		"\"01890a5d-ac96-774b-bcce-b302099a8057\", \"evaluation\": \"42\", \"attempt\": 3, "
		"\"submission\": {\"id\": \"7\", \"digest\": \"sha256:"
		"4b7fe83b93bbe23d43bf4c943967d1b8e5c04857edcec4cc02a7aa8d62c70bb5\", "
		"\"source\": \"file:///x\"}, \"evaluator\": \"hello\", "
		"\"created_at\": \"2026-11-27T02:00:00Z\"%s%s}",
		*tries ? ", \"tries\": " : "", tries);
	ck_assert_msg(message_decode(text, strlen(text), MESSAGE_MAX, &m, &e) == MESSAGE_GOOD, "%s",
		      e.msg);
	return m;
}

static void check_next(const struct message *m, const char *want)
{
	auto_obj(message) again = NULL;
	auto_free char *body = NULL;
	struct err e = { 0 };
	json_t *o;
	char got[64];
	size_t n = 0;

	ck_ok(message_encode(m, &body, &n, &e), e);
	ck_assert_int_eq(message_decode(body, n, MESSAGE_MAX, &again, &e), MESSAGE_GOOD);
	ck_assert_int_eq(again->request.attempt, 4);
	ck_assert_str_eq(again->request.evaluation, "42");
	ck_assert_str_ne(again->request.id, "01890a5d-ac96-774b-bcce-b302099a8057");
	o = json_object_get(again->json, "tries");
	snprintf(got, sizeof(got), "%d %d %d", (int)json_integer_value(json_object_get(o, "own")),
		 (int)json_integer_value(json_object_get(o, "infrastructure")),
		 (int)json_integer_value(json_object_get(o, "killed")));
	ck_assert_str_eq(got, want);
}

START_TEST(what_follows_an_end)
{
	auto_obj(message) m = request(cases[_i].tries);
	json_auto_t *end = NULL;
	struct err e = { 0 };
	uint64_t delay = 0;
	char id[UUID_LEN + 1];

	ck_ok(js_parse(cases[_i].end, strlen(cases[_i].end), 4, &end, &e), e);
	ck_assert_msg(dirretry_after(m, end, &settings, id, &delay, &e) == (cases[_i].next != NULL),
		      "%s after %s", cases[_i].end, cases[_i].tries);
	ck_assert_uint_eq(delay, cases[_i].delay_sec * USEC_PER_SEC);
	if (cases[_i].next)
		check_next(m, cases[_i].next);
}
END_TEST

START_TEST(what_is_lost_with_its_worker)
{
	auto_obj(message) first = request("{\"own\": 5, \"killed\": 1}");
	auto_obj(message) last = request("{\"infrastructure\": 2}");
	struct err e = { 0 };
	char id[UUID_LEN + 1];

	ck_assert_int_eq(dirretry_lost(first, &settings, id, &e), 1);
	check_next(first, "5 1 1");
	ck_assert_int_eq(dirretry_lost(last, &settings, id, &e), 0);
	ck_assert_int_eq(last->request.attempt, 3);
}
END_TEST

static void tests(TCase *t)
{
	tcase_add_loop_test(t, what_follows_an_end, 0, (int)ARRAY_LEN(cases));
	tcase_add_test(t, what_is_lost_with_its_worker);
}

int main(void)
{
	return unit_main("messaging/dirretry", tests);
}

/* SPDX-License-Identifier: MIT */
#include <check.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"
#include "messaging/message.h"

#define UUID   "01890a5d-ac96-774b-bcce-b302099a8057"
#define DIGEST "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define AT     "\"at\":\"2026-11-21T23:00:00.123456Z\""

#define REQUEST                                                                                    \
	"{\"zr\":\"1.0\",\"type\":\"request\",\"id\":\"" UUID "\",\"evaluation\":\"42\","          \
	"\"submission\":{\"id\":\"7\",\"digest\":\"" DIGEST "\",\"source\":\"incoming:\"},"        \
	"\"evaluator\":\"c-kernel\",\"args\":[\"-x\"],\"limits\":{\"cpu_usec\":5},\"attempt\":2,"  \
	"\"priority\":\"high\",\"created_at\":\"2026-11-21T23:00:00.000001Z\"}"
#define EVENT(kind, body)                                                                          \
	"{\"zr\":\"1.0\",\"type\":\"event\",\"id\":\"" UUID "\",\"kind\":\"" kind                  \
	"\",\"evaluation\":\"42\",\"attempt\":1,\"attempt_id\":\"" UUID "\",\"seq\":3," AT         \
	",\"host\":\"oberon\",\"worker\":\"oberon/1\",\"body\":" body "}"
#define WORKER                                                                                     \
	"{\"zr\":\"1.0\",\"type\":\"worker\",\"host\":\"oberon\",\"worker\":\"oberon/1\","         \
	"\"pid\":12,\"boot_id\":\"" UUID "\",\"since\":\"2026-11-21T23:00:00.000000Z\"," AT        \
	",\"state\":\"busy\",\"jobs\":[{\"evaluation\":\"42\",\"attempt\":1,\"phase\":\"run\","    \
	"\"since\":\"2026-11-21T23:00:00.000000Z\"}],\"evaluators\":[\"hello\"]}"
/* The same with what came later. */
#define LEASED                                                                                     \
	"{\"zr\":\"1.0\",\"type\":\"worker\",\"host\":\"oberon\",\"worker\":\"oberon/1\","         \
	"\"pid\":12,\"boot_id\":\"" UUID "\",\"since\":\"2026-11-21T23:00:00.000000Z\"," AT        \
	",\"state\":\"busy\",\"jobs\":[{\"evaluation\":\"42\",\"attempt\":1,\"attempt_id\":"       \
	"\"" UUID "\",\"since\":\"2026-11-21T23:00:00.000000Z\"}],\"lease_usec\":60000000}"
#define CONTROL                                                                                    \
	"{\"zr\":\"1.0\",\"type\":\"control\",\"id\":\"" UUID "\",\"kind\":\"cancel\","            \
	"\"evaluation\":\"42\",\"attempt_id\":\"" UUID "\",\"by\":\"anna\"," AT "}"
#define ECHO "{\"zr\":\"1.0\",\"type\":\"echo\",\"message\":\"hi\"," AT "}"

static struct message *decode(const char *text)
{
	struct message *m = NULL;
	struct err e = { 0 };

	ck_assert_msg(message_decode(text, strlen(text), MESSAGE_MAX, &m, &e) == MESSAGE_GOOD,
		      "%s: %s", e.msg, text);
	return m;
}

static const char *const good[] = {
	REQUEST,
	EVENT("started", "{\"evaluator\":\"hello\",\"isolation\":{\"level\":\"none\"}}"),
	EVENT("progress", "{\"fraction\":0.25,\"done\":1,\"total\":4,\"text\":\"a\"}"),
	EVENT("progress", "{\"fraction\":null}"),
	EVENT("log", "{\"stream\":\"err\",\"offset\":17,\"text\":\"\\u00e9\"}"),
	EVENT("completed",
	      "{\"reason\":\"ok\",\"exit_code\":0,\"scores\":{\"a\":1.5},\"root_hash\":"
	      "\"" DIGEST "\",\"result_bytes\":12,\"extra\":[1]}"),
	EVENT("failed", "{\"reason\":\"signal\",\"signal\":9,\"exit_code\":null,\"detail\":\"x\"}"),
	EVENT("failed", "{\"reason\":\"exit\",\"exit_code\":1,\"retries\":2}"),
	EVENT("canceled", "{\"reason\":\"canceled\"}"),
	EVENT("failed", "{\"reason\":\"lost\",\"keeper_died\":true}"),
	EVENT("failed", "{\"reason\":\"lost\",\"keeper_died\":null}"),
	WORKER,
	CONTROL,
	ECHO,
	LEASED,
	EVENT("violation", "{\"phase\":\"run\",\"violations\":{\"network\":1}}"),
};

/* What is decoded and encoded again is the same value, unknown members included. */
START_TEST(round_trip)
{
	auto_obj(message) m = decode(good[_i]);
	auto_free char *text = NULL, *want = NULL, *have = NULL;
	auto_obj(message) again = NULL;
	struct err e = { 0 };
	size_t n = 0;

	json_object_set_new(m->json, "of_tomorrow", json_integer(5));
	ck_assert_msg(message_encode(m, &text, &n, &e) == 0, "%s", e.msg);
	ck_assert_uint_eq(n, strlen(text));
	again = decode(text);
	want = js_canonical(m->json);
	have = js_canonical(again->json);
	ck_assert_str_eq(have, want);
	ck_assert_int_eq(again->type, m->type);
}
END_TEST

START_TEST(fields)
{
	auto_obj(message) q = decode(REQUEST);
	auto_obj(message) end = decode(good[5]);
	auto_obj(message) lost = decode(good[9]);
	auto_obj(message) w = decode(WORKER);
	struct message_end done;
	char key[MESSAGE_KEY_MAX];

	ck_assert_str_eq(q->request.submission, "7");
	ck_assert_str_eq(q->request.source, "incoming:");
	ck_assert_int_eq(q->request.attempt, 2);
	ck_assert(q->request.high);
	ck_assert_uint_eq(q->request.created_wall_usec % 1000000, 1);
	message_end(end->event.body, &done);
	ck_assert_str_eq(done.reason, "ok");
	ck_assert_int_eq(done.exit_code, 0);
	ck_assert_int_eq(done.signal, 0);
	ck_assert_int_eq(done.result_bytes, 12);
	ck_assert(!done.keeper_died);
	message_end(lost->event.body, &done);
	ck_assert(done.keeper_died);
	ck_assert_str_eq(message_key(key, end), "event.completed.42");
	ck_assert_uint_eq(w->worker.n_jobs, 1);
	ck_assert_str_eq(w->worker.jobs[0].phase, "run");
	ck_assert_str_eq(message_key(key, w), "event.worker.oberon");
	ck_assert_str_eq(message_request_key(key, "default", NULL, true), "eval.pool.default.high");
	ck_assert_str_eq(message_request_key(key, "default", "h", true), "eval.host.h");
}
END_TEST

static const struct {
	const char *text;
	enum message_bad bad;
} refused[] = {
	{ "", MESSAGE_MALFORMED },
	{ "hello", MESSAGE_MALFORMED },
	{ "[]", MESSAGE_MALFORMED },
	{ ECHO " x", MESSAGE_MALFORMED },
	{ "{\"zr\":\"1.0\",\"type\":\"echo\",\"message\":\"\xc3\x28\"," AT "}", MESSAGE_BAD_UTF8 },
	{ "{\"zr\":\"1.0\",\"zr\":\"1.0\"}", MESSAGE_DUPLICATE_KEY },
	{ "{\"a\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}",
	  MESSAGE_TOO_DEEP },
	{ "{\"zr\":\"1.0\",\"type\":\"echo\",\"n\":99999999999999999999}", MESSAGE_BAD_VALUE },
	{ "{}", MESSAGE_MISSING_FIELD },
	{ "{\"zr\":1}", MESSAGE_BAD_VALUE },
	{ "{\"zr\":\"x\"}", MESSAGE_BAD_VALUE },
	{ "{\"zr\":\"2.0\",\"type\":\"echo\"}", MESSAGE_UNKNOWN_VERSION },
	{ "{\"zr\":\"1.7\",\"type\":\"holiday\"}", MESSAGE_UNKNOWN_TYPE },
	{ "{\"zr\":\"1.0\",\"type\":\"echo\"," AT "}", MESSAGE_MISSING_FIELD },
	{ "{\"zr\":\"1.0\",\"type\":\"echo\",\"message\":\"a\",\"at\":\"noon\"}",
	  MESSAGE_BAD_VALUE },
	{ EVENT("started", "{}"), MESSAGE_MISSING_FIELD },
	{ EVENT("started", "{\"evaluator\":\"../sh\"}"), MESSAGE_BAD_VALUE },
	{ EVENT("exploded", "{}"), MESSAGE_BAD_VALUE },
	{ EVENT("progress", "{\"fraction\":1.5}"), MESSAGE_BAD_VALUE },
	{ EVENT("violation", "{\"violations\":[]}"), MESSAGE_BAD_VALUE },
	{ EVENT("completed", "{\"reason\":\"exit\"}"), MESSAGE_BAD_VALUE },
	{ EVENT("failed", "{\"reason\":\"canceled\"}"), MESSAGE_BAD_VALUE },
	{ EVENT("failed", "{\"reason\":\"boredom\"}"), MESSAGE_BAD_VALUE },
	{ EVENT("failed", "{\"reason\":\"lost\",\"keeper_died\":1}"), MESSAGE_BAD_VALUE },
	{ EVENT("failed", "{\"reason\":\"exit\",\"retries\":-1}"), MESSAGE_BAD_VALUE },
	{ EVENT("failed", "{\"reason\":\"exit\",\"retries\":\"2\"}"), MESSAGE_BAD_VALUE },
	{ EVENT("log", "{\"stream\":\"out\",\"offset\":-1,\"text\":\"\"}"), MESSAGE_BAD_VALUE },
};

START_TEST(reasons)
{
	struct message *m = NULL;
	struct err e = { 0 };

	enum message_bad bad =
		message_decode(refused[_i].text, strlen(refused[_i].text), MESSAGE_MAX, &m, &e);
	ck_assert_msg(bad == refused[_i].bad, "%s instead of %s for %s (%s)", message_bad_name(bad),
		      message_bad_name(refused[_i].bad), refused[_i].text, e.msg);
	ck_assert_ptr_null(m);
	ck_assert_int_eq(e.kind, ERR_INPUT);
	ck_assert_uint_gt(strlen(e.msg), 5);
}
END_TEST

/* Each member of a request in turn gets a value it cannot have. */
START_TEST(wrong_members)
{
	static const struct {
		const char *key, *value;
	} wrong[] = {
		{ "id", "\"1\"" },
		{ "evaluation", "\"../../etc\"" },
		{ "evaluation", "42" },
		{ "submission", "[]" },
		{ "submission", "{\"id\":\"7\",\"digest\":\"md5:1\",\"source\":\"incoming:\"}" },
		{ "submission",
		  "{\"id\":\"7\",\"digest\":\"" DIGEST "\",\"source\":\"http://x/\"}" },
		{ "submission",
		  "{\"id\":\"7\",\"digest\":\"" DIGEST "\",\"source\":\"file:///a\\nb\"}" },
		{ "evaluator", "\"/bin/sh\"" },
		{ "evaluator", "\"-c\"" },
		{ "evaluator", "\"a\\nb\"" },
		{ "args", "\"-x\"" },
		{ "args", "[1]" },
		{ "limits", "{\"cpu_usec\":0}" },
		{ "limits", "{\"cpu_usec\":\"5\"}" },
		{ "attempt", "0" },
		{ "attempt", "1.5" },
		{ "priority", "\"urgent\"" },
		{ "created_at", "\"2026-13-21T23:00:00Z\"" },
	};
	auto_obj(message) q = decode(REQUEST);
	auto_free char *text = NULL;
	struct message *m = NULL;
	struct err e = { 0 };

	json_object_set_new(q->json, wrong[_i].key,
			    json_loads(wrong[_i].value, JSON_DECODE_ANY, NULL));
	text = js_text(q->json);
	ck_assert_msg(message_decode(text, strlen(text), MESSAGE_MAX, &m, &e) == MESSAGE_BAD_VALUE,
		      "%s", text);
	ck_assert_msg(strstr(e.msg, "'"), "%s", e.msg);
}
END_TEST

/* A lease has bounds, a role may be one of tomorrow. */
START_TEST(leases)
{
	static const char *const wrong[][2] = {
		{ "lease_usec", "0" },
		{ "lease_usec", "604800000001" },
		{ "lease_usec", "\"60s\"" },
		{ "role", "\"a b\"" },
		{ "role", "1" },
	};
	auto_obj(message) plain = decode(WORKER);
	auto_obj(message) m = decode(LEASED);
	auto_obj(message) other = NULL;
	auto_free char *tick = NULL;

	ck_assert_int_eq(plain->worker.lease_usec, 0);
	ck_assert_ptr_null(plain->worker.role);
	ck_assert_ptr_null(plain->worker.jobs[0].attempt_id);
	ck_assert_int_eq(m->worker.lease_usec, 60000000);
	ck_assert_str_eq(m->worker.jobs[0].attempt_id, UUID);
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		auto_obj(message) broken = decode(LEASED);
		auto_free char *text = NULL;
		struct message *none = NULL;
		struct err e = { 0 };

		json_object_set_new(broken->json, wrong[i][0],
				    json_loads(wrong[i][1], JSON_DECODE_ANY, NULL));
		text = js_text(broken->json);
		ck_assert_msg(message_decode(text, strlen(text), MESSAGE_MAX, &none, &e) ==
				      MESSAGE_BAD_VALUE,
			      "%s", text);
	}
	json_object_set_new(m->json, "role", json_string("gardener"));
	tick = js_text(m->json);
	other = decode(tick);
	ck_assert_str_eq(other->worker.role, "gardener");
}
END_TEST

START_TEST(limits_of_size)
{
	struct message *m = NULL;
	struct err e = { 0 };

	ck_assert_int_eq(message_decode(ECHO, strlen(ECHO), strlen(ECHO) - 1, &m, &e),
			 MESSAGE_TOO_LARGE);
	ck_assert_int_eq(message_decode(ECHO, strlen(ECHO), strlen(ECHO), &m, &e), MESSAGE_GOOD);
	message_free(m);
}
END_TEST

/* The encoder refuses what the decoder would. */
START_TEST(encoder_checks)
{
	struct message m = { .type = MESSAGE_ECHO };
	auto_free char *text = NULL;
	struct err e = { 0 };
	size_t n;

	ck_assert_int_eq(message_encode(&m, &text, &n, &e), -EINVAL);
	ck_assert_str_eq(e.msg, "echo message: 'message' is missing");
	m.echo.message = "bytes \xff of somebody";
	ck_assert_int_eq(message_encode(&m, &text, &n, &e), 0);
	ck_assert_ptr_nonnull(strstr(text, "bytes \xef\xbf\xbd of"));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("messaging/message");
	TCase *t = tcase_create("message");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_loop_test(t, round_trip, 0, (int)ARRAY_LEN(good));
	tcase_add_test(t, fields);
	tcase_add_loop_test(t, reasons, 0, (int)ARRAY_LEN(refused));
	tcase_add_loop_test(t, wrong_members, 0, 18);
	tcase_add_test(t, leases);
	tcase_add_test(t, limits_of_size);
	tcase_add_test(t, encoder_checks);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}

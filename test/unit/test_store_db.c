/* SPDX-License-Identifier: MIT */
#include <check.h>
#include <string.h>

#include "store/db.h"
#include "store/db_impl.h"
#include "store/events.h"
#include "store/schema.h"

START_TEST(classes)
{
	static const struct {
		const char *state;
		enum db_class class;
	} t[] = {
		{ "08006", DB_CONNECTION }, { "57P01", DB_CONNECTION }, { "57P03", DB_CONNECTION },
		{ "25006", DB_READ_ONLY },  { "40001", DB_CONFLICT },   { "40P01", DB_CONFLICT },
		{ "53100", DB_RESOURCES },  { "55P03", DB_LOCKED },     { "57014", DB_TIMEOUT },
		{ "22021", DB_DATA },       { "23505", DB_DATA },       { "42P01", DB_SETUP },
		{ "28P01", DB_SETUP },      { "3D000", DB_SETUP },      { "XX000", DB_UNKNOWN },
		{ "26000", DB_CONFLICT },
	};

	for (size_t i = 0; i < ARRAY_LEN(t); i++)
		ck_assert_msg(db_classify(t[i].state) == t[i].class, "%s", t[i].state);
}
END_TEST

/* No part of a password may reach an error text. */
START_TEST(no_password_in_errors)
{
	static const char *const bad[] = {
		"postgresql://u:hunter2@h:12x4/d",
		"postgresql://u:hunt@er2@h/d",
		"hunter2",
		"postgresql://u:hunter2%zz@h/d",
		"",
	};
	struct err e = { 0 };
	struct db *d = NULL;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		ck_assert_int_lt(db_open(bad[i], 1000000, &d, &e), 0);
		ck_assert_msg(!strstr(e.msg, "hunt") && !strstr(e.msg, "er2"), "%s", e.msg);
	}
	/* Nobody listens there: the place is named, the rest is not. */
	ck_assert_int_lt(db_open("postgresql://u:hunter2@127.0.0.1:1/d", 1000000, &d, &e), 0);
	ck_assert_int_eq(e.kind, ERR_TRANSIENT);
	ck_assert_ptr_nonnull(strstr(e.msg, "127.0.0.1:1/d"));
	ck_assert_ptr_null(strstr(e.msg, "hunter2"));
}
END_TEST

START_TEST(steps)
{
	int before = 0;

	for (const struct schema_step *s = schema_steps(); s->version; s++) {
		ck_assert_int_gt(s->version, before);
		ck_assert_uint_eq(strlen(s->sql), s->len);
		ck_assert_int_eq(strncmp(s->sql, "-- SPDX", 7), 0);
		before = s->version;
	}
	ck_assert_int_eq(schema_newest(), before);
}
END_TEST

START_TEST(versions)
{
	struct err e = { 0 };

	ck_assert_int_eq(schema_judge(schema_newest(), &e), 0);
	ck_assert_int_eq(schema_judge(schema_newest() + 1, &e), 0);
	ck_assert_int_eq(schema_judge(0, &e), -EPROTO);
	ck_assert_ptr_nonnull(strstr(e.msg, "zr db:migrate"));
	ck_assert_int_eq(schema_judge(schema_newest() - 1, &e), -EPROTO);
	ck_assert_ptr_nonnull(strstr(e.msg, "zr db:migrate"));
	ck_assert_int_eq(schema_judge(schema_newest() + 100, &e), -EPROTO);
	ck_assert_ptr_nonnull(strstr(e.msg, "install a newer zr"));
}
END_TEST

static const struct store_event sample = {
	.evaluation = "42",
	.attempt = 1,
	.attempt_id = "018f0000-0000-7000-8000-000000000001",
	.seq = 0,
	.kind = "started",
	.at = "2026-11-21T22:00:00.5Z",
	.host = "oberon",
	.worker = "oberon/1",
	.body = "{}",
};

START_TEST(events)
{
	auto_buf struct buf b = { 0 };
	struct store_event ev = sample, bad = sample;
	const struct event_policy policy = { 3, 10 * USEC_PER_SEC };
	struct db_args a = { 0 };
	struct err e = { 0 };

	ev.host = "q\"\\\n";
	ev.evaluation = "0042";
	ck_assert_int_eq(events_add(&b, &ev, &e), 0);
	bad.evaluation = "x";
	ck_assert_int_eq(events_add(&b, &bad, &e), -EINVAL);
	bad = sample;
	bad.worker = "\xff";
	ck_assert_int_eq(events_add(&b, &bad, &e), -EINVAL);
	ck_assert_str_eq(e.msg, "'worker' is not UTF-8");
	bad = sample;
	bad.seq = (int64_t)1 << 62;
	ck_assert_int_eq(events_add(&b, &bad, &e), -EINVAL);
	bad = sample;
	bad.kind = "log";
	ck_assert_int_eq(events_add(&b, &bad, &e), -EINVAL);
	ck_assert_int_eq(events_add(&b, &sample, &e), 0);
	ck_assert_int_eq(events_args(&b, &policy, &a, &e), 0);
	ck_assert_str_eq(a.value[1], "3");
	ck_assert_str_eq(a.value[2], "10000000");
	ck_assert_str_eq(
		a.value[0],
		"[{\"evaluation\":42,\"attempt\":1,"
		"\"attempt_id\":\"018f0000-0000-7000-8000-000000000001\",\"seq\":0,"
		"\"kind\":\"started\",\"at\":\"2026-11-21T22:00:00.5Z\",\"host\":\"q\\\"\\\\\\n\","
		"\"worker\":\"oberon/1\",\"body\":{}},{\"evaluation\":42,\"attempt\":1,"
		"\"attempt_id\":\"018f0000-0000-7000-8000-000000000001\",\"seq\":0,"
		"\"kind\":\"started\",\"at\":\"2026-11-21T22:00:00.5Z\",\"host\":\"oberon\","
		"\"worker\":\"oberon/1\",\"body\":{}}]");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("store_db");
	TCase *t = tcase_create("all");
	SRunner *r;
	int failed;

	tcase_add_test(t, classes);
	tcase_add_test(t, no_password_in_errors);
	tcase_add_test(t, steps);
	tcase_add_test(t, versions);
	tcase_add_test(t, events);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}

/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "base/id.h"
#include "base/json.h"
#include "base/time.h"

#include "unit.h"

static json_t *parse(const char *text)
{
	struct err e = { 0 };
	json_t *j = NULL;

	ck_assert_msg(js_parse(text, strlen(text), 8, &j, &e) == 0, "%s", e.msg);
	return j;
}

START_TEST(refused)
{
	static const char *const bad[] = {
		"",
		"1",
		"{\"a\":1,\"a\":2}",
		"{\"a\":NaN}",
		"{\"a\":1e999}",
		"{\"a\":99999999999999999999}",
		"{\"a\":\"\xff\"}",
		"{\"a\":1} x",
		"[[[[[[[[[]]]]]]]]]",
	};
	struct err e = { 0 };
	json_t *j = NULL;

	ck_assert_int_eq(js_parse(bad[_i], strlen(bad[_i]), 8, &j, &e), -EINVAL);
	ck_assert_int_eq(e.kind, ERR_INPUT);
}
END_TEST

START_TEST(getters)
{
	json_auto_t *j = parse("{\"s\":\"abc\",\"n\":7,\"z\":null,\"d\":1.5}");
	const char *s = NULL;
	struct err e = { 0 };
	int64_t n = 0;
	double d = 0;

	ck_assert_int_eq(js_str(j, "s", 3, &s, &e), 0);
	ck_assert_str_eq(s, "abc");
	ck_assert_int_eq(js_str(j, "s", 2, &s, &e), -EINVAL);
	ck_assert_str_eq(e.msg, "'s' is longer than 2 bytes");
	ck_assert_int_eq(js_int(j, "n", 8, 9, &n, &e), -EINVAL);
	ck_assert_str_eq(e.msg, "'n' is 7, outside 8 to 9");
	ck_assert_int_eq(js_opt_int(j, "z", 0, 9, &n, &e), 0);
	ck_assert_int_eq(js_int(j, "z", 0, 9, &n, &e), -EINVAL);
	ck_assert_str_eq(e.msg, "'z' is missing");
	ck_assert_int_eq(js_num(j, "d", &d, &e), 0);
	ck_assert(d == 1.5);
	ck_assert_int_eq(js_num(j, "n", &d, &e), 0);
}
END_TEST

START_TEST(foreign_bytes)
{
	json_auto_t *j = js_from_bytes("a\0b\xff\xc3\xbc", 6);

	ck_assert_str_eq(json_string_value(j), "a\xe2\x90\x80"
					       "b\xef\xbf\xbd\xc3\xbc");
}
END_TEST

START_TEST(times)
{
	char out[TIME_TEXT_MAX];
	uint64_t t = 0;

	ck_assert_int_eq(time_parse("2026-11-21T23:00:00.5+01:00", &t), 0);
	ck_assert_str_eq(time_text(out, t), "2026-11-21T22:00:00.500000Z");
	ck_assert_int_eq(time_parse("2026-11-21T23:00:00", &t), -EINVAL);
	ck_assert_int_eq(time_parse("2026-13-21T23:00:00Z", &t), -EINVAL);
}
END_TEST

START_TEST(ids)
{
	char a[UUID_LEN + 1], b[UUID_LEN + 1];

	ck_assert(id_is_uuid(id_uuid7(a)));
	ck_assert_str_ne(a, id_uuid7(b));
	ck_assert_int_eq(a[14], '7');
	ck_assert(id_valid("devhost-1.x"));
	ck_assert(!id_valid("../x") && !id_valid("a/b") && !id_valid("") && !id_valid("a\n"));
	ck_assert(!id_is_digest("sha256:00"));
}
END_TEST

static void tests(TCase *t)
{
	tcase_add_loop_test(t, refused, 0, 9);
	tcase_add_test(t, getters);
	tcase_add_test(t, foreign_bytes);
	tcase_add_test(t, times);
	tcase_add_test(t, ids);
}

int main(void)
{
	return unit_main("base/json", tests);
}

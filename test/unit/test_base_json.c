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

START_TEST(numbers_without_bounds)
{
	static const char text[] = "{\"big\":10000000000000000000,\"n\":[9223372036854775807,"
				   "-9223372036854775808,-1e2],\"t\":\"\\\"99999999999999999999\"}";
	auto_buf struct buf huge = { 0 };
	json_auto_t *j = NULL, *k = NULL;
	auto_free char *out = NULL;
	struct err e = { 0 };

	ck_ok(js_parse_numeric(text, strlen(text), &j, &e), e);
	out = js_text(j);
	ck_assert_str_eq(out,
			 "{\"big\":1e19,\"n\":[9223372036854775807,-9223372036854775808,-100.0],"
			 "\"t\":\"\\\"99999999999999999999\"}");
	ck_assert(buf_str(&huge, "[1") == 0);
	for (int i = 0; i < 308; i++)
		ck_assert(buf_str(&huge, "0") == 0);
	ck_assert(buf_str(&huge, ",1e400]") == 0);
	ck_ok(js_parse_numeric(huge.data, huge.len, &k, &e), e);
	ck_assert(json_real_value(json_array_get(k, 0)) == 1e308);
	ck_assert_str_eq(json_string_value(json_array_get(k, 1)), "1e400");
}
END_TEST

START_TEST(shortest_reals)
{
	static const double reals[] = { 0.3, 0.1 + 0.2, 1e308, 5e-324, -1.0, 1e16, 1e-7, 1.0 / 3 };
	json_auto_t *j =
		json_pack("{s:f, s:f, s:s}", "a", 0.3, "b", -2.5, "c", "0.29999999999999999");
	auto_free char *text = js_text(j);

	ck_assert_str_eq(text, "{\"a\":0.3,\"b\":-2.5,\"c\":\"0.29999999999999999\"}");
	for (size_t i = 0; i < sizeof(reals) / sizeof(reals[0]); i++) {
		json_auto_t *list = json_pack("[f]", reals[i]);
		auto_free char *one = js_pretty(list);
		json_auto_t *again = parse(one);

		ck_assert(json_equal(list, again));
	}
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
	ck_assert_int_eq(time_parse("2024-02-29T00:00:00.123456789Z", &t), 0);
	ck_assert_str_eq(time_text(out, t), "2024-02-29T00:00:00.123456Z");
	ck_assert_int_eq(time_parse("2016-12-31T23:59:60Z", &t), 0);
	ck_assert_str_eq(time_text(out, t), "2017-01-01T00:00:00.000000Z");
	ck_assert_int_eq(time_parse("1970-01-01T00:00:00Z", &t), 0);
	ck_assert_uint_eq(t, 0);
	time_text(out, UINT64_MAX); /* absurd, but inside its room */
}
END_TEST

START_TEST(bad_times)
{
	static const char *const bad[] = {
		"",
		"2026-11-21",
		"2026-11-21T23:00:00",
		"2026-13-21T23:00:00Z",
		"2026-00-21T23:00:00Z",
		"2026-02-29T00:00:00Z",
		"2026-04-31T00:00:00Z",
		"2026-04-00T00:00:00Z",
		"2026-11-21T24:00:00Z",
		"2026-11-21T23:60:00Z",
		"2026-11-21T23:00:61Z",
		"2026-11-21T23:00:00.Z",
		"2026-11-21T23:00:00.1234567890Z",
		"2026-11-21T23:00:00+1:00",
		"2026-11-21T23:00:00+24:00",
		"2026-11-21T23:00:00Zx",
		"2026-11-21t23:00:00z",
		"2026-11-21 23:00:00Z",
		"-026-11-21T23:00:00Z",
		"1969-12-31T23:59:59Z",
		"1970-01-01T00:00:00+01:00",
		" 2026-11-21T23:00:00Z",
	};
	uint64_t t = 0;
	int r = time_parse(bad[_i], &t);

	ck_assert_msg(r == -EINVAL, "'%s': %d", bad[_i], r);
}
END_TEST

START_TEST(uuids_are_ordered)
{
	char last[UUID_LEN + 1] = "", now[UUID_LEN + 1];

	for (int i = 0; i < 20000; i++) {
		id_uuid7(now);
		ck_assert_msg(strcmp(last, now) < 0, "%s is before %s", now, last);
		memcpy(last, now, sizeof(now));
	}
}
END_TEST

START_TEST(bad_ids)
{
	static const char *const bad[] = {
		"",
		".",
		"..",
		"-x",
		"_x",
		"a/b",
		"a b",
		"a\n",
		"\xc3\xbc",
		"a:b",
		"0123456789012345678901234567890123456789012345678901234567890123x",
	};

	ck_assert_msg(!id_valid(bad[_i]), "'%s'", bad[_i]);
	ck_assert(!id_is_uuid(bad[_i]) && !id_is_digest(bad[_i]));
}
END_TEST

START_TEST(limits_of_depth_and_content)
{
	json_auto_t *j = parse("[[[[[[[[]]]]]]]]");
	struct err e = { 0 };
	json_t *none = NULL;

	ck_fails(js_parse("[[[[[[[[[]]]]]]]]]", 18, 8, &none, &e), EINVAL);
	ck_assert_str_eq(e.msg, "JSON is nested more than 8 deep");
	json_decref(j);
	/* Brackets in texts are no depth. */
	j = parse("{\"[[[[[[[[[[[\":\"\\\"[[[[[[[[[[[[[\"}");
	ck_fails(js_parse("{\"a\":\"\\u0000\"}", 14, 8, &none, &e), EINVAL);
	ck_fails(js_parse("{\"a\":1,\n\"a\":2}", 14, 8, &none, &e), EINVAL);
	ck_has(e.msg, "line 2");
}
END_TEST

START_TEST(one_text_for_one_value)
{
	json_auto_t *j = parse("{\"b\":[1,true,null],\"a\":\"x\"}");
	auto_free char *text = js_text(j), *same = js_canonical(j);

	ck_assert_str_eq(text, "{\"b\":[1,true,null],\"a\":\"x\"}");
	ck_assert_str_eq(same, "{\"a\":\"x\",\"b\":[1,true,null]}");
}
END_TEST

START_TEST(files)
{
	json_t *j = NULL;
	struct err e = { 0 };
	char dir[32], name[64];

	snprintf(name, sizeof(name), "%s/f.json", unit_mkdir(dir));
	ck_ok(fd_write_file(AT_FDCWD, name, "[1", 2, 0600, false, &e), e);
	ck_fails(js_read_file(AT_FDCWD, name, 100, &j, &e), EINVAL);
	ck_assert_int_eq(strncmp(e.msg, name, strlen(name)), 0);
	ck_ok(fd_write_file(AT_FDCWD, name, "", 0, 0600, false, &e), e);
	ck_fails(js_read_file(AT_FDCWD, name, 100, &j, &e), EINVAL);
	ck_ok(fd_write_file(AT_FDCWD, name, "[1]", 3, 0600, false, &e), e);
	ck_fails(js_read_file(AT_FDCWD, name, 2, &j, &e), EFBIG);
	ck_ok(js_read_file(AT_FDCWD, name, 3, &j, &e), e);
	json_decref(j);
	unit_rmdir(dir);
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
	tcase_add_test(t, numbers_without_bounds);
	tcase_add_test(t, shortest_reals);
	tcase_add_test(t, foreign_bytes);
	tcase_add_test(t, limits_of_depth_and_content);
	tcase_add_test(t, one_text_for_one_value);
	tcase_add_test(t, files);
	tcase_add_test(t, times);
	tcase_add_loop_test(t, bad_times, 0, 22);
	tcase_add_test(t, uuids_are_ordered);
	tcase_add_loop_test(t, bad_ids, 0, 11);
	tcase_add_test(t, ids);
}

int main(void)
{
	return unit_main("base/json", tests);
}

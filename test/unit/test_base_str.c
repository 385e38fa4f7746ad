/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "base/str.h"

#include "unit.h"

START_TEST(sizes)
{
	static const struct {
		const char *text;
		int r;
		uint64_t v;
	} t[] = {
		{ "512", 0, 512 },      { "64K", 0, 65536 },
		{ "1MiB", 0, 1 << 20 }, { "2G", 0, 2ull << 30 },
		{ "0", 0, 0 },          { "", -EINVAL, 0 },
		{ "64Q", -EINVAL, 0 },  { "-1", -EINVAL, 0 },
		{ "1 M", -EINVAL, 0 },  { "99999999999T", -ERANGE, 0 },
	};
	uint64_t v = 0;

	ck_assert_int_eq(str_size(t[_i].text, &v), t[_i].r);
	if (t[_i].r == 0)
		ck_assert_uint_eq(v, t[_i].v);
}
END_TEST

START_TEST(spans)
{
	uint64_t v = 0;
	char out[32];

	ck_assert_int_eq(str_span("1h30m", &v), 0);
	ck_assert_uint_eq(v, 5400000000ull);
	ck_assert_str_eq(str_span_text(out, sizeof(out), v), "90m");
	ck_assert_int_eq(str_span("250ms", &v), 0);
	ck_assert_uint_eq(v, 250000);
	ck_assert_int_eq(str_span("90", &v), 0);
	ck_assert_uint_eq(v, 90000000);
	ck_assert_int_eq(str_span("90x", &v), -EINVAL);
	ck_assert_int_eq(str_span("1h30", &v), -EINVAL);
	ck_assert_int_eq(str_span("999999999999d", &v), -ERANGE);
}
END_TEST

START_TEST(escape)
{
	char out[16];

	ck_assert_str_eq(STR_ESC("a\x1b[1m\n"), "a\\x1b[1m\\x0a");
	ck_assert_str_eq(STR_ESC("z\xc3\xbcrich \xff"), "z\xc3\xbcrich \\xff");
	ck_assert_str_eq(STR_ESC("\xc2\x9b"), "\\xc2\\x9b");
	str_escape(out, sizeof(out), "aaaaaaaaaaaaaaaaaaaaaaaaa", 25);
	ck_assert_str_eq(out, "aaaaaaaaaaaa...");
	str_escape(out, 1, "abc", 3);
	ck_assert_str_eq(out, "");
}
END_TEST

START_TEST(utf8)
{
	ck_assert(str_utf8_valid("a\xf0\x9f\x98\x80", 5));
	ck_assert(!str_utf8_valid("\xc0\x80", 2));
	ck_assert(!str_utf8_valid("\xed\xa0\x80", 3));
	ck_assert(!str_utf8_valid("\xe2\x82", 2));
}
END_TEST

START_TEST(words)
{
	auto_strv char **v = NULL;
	struct err e = { 0 };

	ck_assert_int_eq(strv_words("a 'b c'  \"d\\\"e\" f\\ g ''", &v, &e), 0);
	ck_assert_uint_eq(strv_len(v), 5);
	ck_assert_str_eq(v[1], "b c");
	ck_assert_str_eq(v[2], "d\"e");
	ck_assert_str_eq(v[3], "f g");
	ck_assert_str_eq(v[4], "");
	ck_assert_int_eq(strv_words("a 'b", &(char **){ NULL }, &e), -EINVAL);
	ck_assert_str_eq(e.msg, "a quote is not closed in 'a 'b'");
}
END_TEST

START_TEST(words_of_every_blank)
{
	auto_strv char **v = NULL;
	struct err e = { 0 };

	ck_ok(strv_words("\v a\vb\fc\r\nd\t", &v, &e), e);
	ck_assert_uint_eq(strv_len(v), 4);
	ck_assert_str_eq(v[0], "a");
	ck_assert_str_eq(v[3], "d");
}
END_TEST

START_TEST(bad_words)
{
	static const char *const bad[] = { "'", "\"", "a\\", "\"a\\\"", "'a\\", "a'b\"" };
	char **v = NULL;
	struct err e = { 0 };

	ck_fails(strv_words(bad[_i], &v, &e), EINVAL);
	ck_assert_int_eq(e.kind, ERR_INPUT);
	ck_assert_ptr_null(v);
}
END_TEST

START_TEST(no_words)
{
	auto_strv char **v = NULL;
	struct err e = { 0 };

	ck_ok(strv_words(" \t", &v, &e), e);
	ck_assert_ptr_nonnull(v);
	ck_assert_uint_eq(strv_len(v), 0);
}
END_TEST

START_TEST(whole_numbers)
{
	static const struct {
		const char *text;
		int r;
		int64_t v;
	} t[] = {
		{ "0", 0, 0 },
		{ "-9223372036854775808", 0, INT64_MIN },
		{ "9223372036854775807", 0, INT64_MAX },
		{ "9223372036854775808", -ERANGE, 0 },
		{ "-9223372036854775809", -ERANGE, 0 },
		{ "99999999999999999999", -ERANGE, 0 },
		{ "", -EINVAL, 0 },
		{ "-", -EINVAL, 0 },
		{ "+1", -EINVAL, 0 },
		{ " 1", -EINVAL, 0 },
		{ "1 ", -EINVAL, 0 },
		{ "0x1", -EINVAL, 0 },
		{ "--1", -EINVAL, 0 },
	};
	int64_t v = 0;
	uint64_t u = 7;

	ck_assert_int_eq(str_i64(t[_i].text, &v), t[_i].r);
	if (t[_i].r == 0)
		ck_assert_int_eq(v, t[_i].v);
	ck_fails(str_u64("-1", &u), EINVAL);
	ck_fails(str_u64("18446744073709551616", &u), ERANGE);
	ck_assert_uint_eq(u, 7);
	ck_assert_int_eq(str_u64("18446744073709551615", &u), 0);
	ck_assert_uint_eq(u, UINT64_MAX);
}
END_TEST

START_TEST(doubles)
{
	static const struct {
		const char *text;
		int r;
	} t[] = {
		{ "1.5", 0 },       { "-1e-3", 0 },     { ".5", 0 },         { "1e999", -ERANGE },
		{ "", -EINVAL },    { " 1", -EINVAL },  { "1 ", -EINVAL },   { "0x10", -EINVAL },
		{ "nan", -EINVAL }, { "inf", -EINVAL }, { "-Inf", -EINVAL }, { "nan(7)", -EINVAL },
		{ "1,5", -EINVAL }, { "e5", -EINVAL },  { "1e", -EINVAL },   { "0x1p3", -EINVAL },
	};
	double v = 0;
	int r = str_double(t[_i].text, &v);

	ck_assert_msg(r == t[_i].r, "'%s': %d", t[_i].text, r);
}
END_TEST

START_TEST(span_texts_parse_back)
{
	static const uint64_t t[] = {
		0, 1, 999, 1000, 1500000, 90000000, 86400000000, 86400000001
	};
	char out[32];
	uint64_t v = 0;

	ck_assert_int_eq(str_span(str_span_text(out, sizeof(out), t[_i]), &v), 0);
	ck_assert_uint_eq(v, t[_i]);
}
END_TEST

/* Every cut of every width ends in a NUL inside the room given. */
START_TEST(escape_fits)
{
	static const char text[] = "a\xff\n\xc3\xbc\xf0\x9f\x98\x80zzzzzzzzzz";
	char out[40];

	for (size_t size = 0; size < sizeof(out) - 1; size++) {
		memset(out, '#', sizeof(out));
		str_escape(out, size, text, sizeof(text) - 1);
		if (size)
			ck_assert_uint_lt(strnlen(out, sizeof(out)), size);
		ck_assert_int_eq(out[size], '#');
		ck_assert(size == 0 || str_utf8_valid(out, strlen(out)));
	}
}
END_TEST

START_TEST(prefixes)
{
	ck_assert(str_starts("abc", "ab") && str_starts("abc", "") && !str_starts("ab", "abc"));
	ck_assert(str_ends("abc", "bc") && str_ends("abc", "") && !str_ends("bc", "abc"));
	ck_assert(str_eq(NULL, NULL) && !str_eq("a", NULL) && !str_eq(NULL, "a"));
}
END_TEST

START_TEST(buffers_refuse_what_cannot_fit)
{
	auto_buf struct buf b = { 0 };

	ck_assert_int_eq(buf_str(&b, "abc"), 0);
	ck_fails(buf_reserve(&b, SIZE_MAX), ENOMEM);
	ck_fails(buf_reserve(&b, SIZE_MAX - 3), ENOMEM);
	ck_fails(buf_reserve(&b, SIZE_MAX / 2), ENOMEM);
	ck_assert_str_eq(b.data, "abc");
	ck_assert_int_eq(buf_add(&b, NULL, 0), 0);
	buf_done(&b);
	ck_assert_int_eq(buf_reserve(&b, 0), 0);
	ck_assert_str_eq(b.data, "");
}
END_TEST

START_TEST(buffers)
{
	auto_buf struct buf b = { 0 };

	ck_assert_int_eq(buf_fmt(&b, "%d-%s", 7, "x"), 0);
	ck_assert_int_eq(buf_add(&b, "\0y", 2), 0);
	ck_assert_uint_eq(b.len, 5);
	buf_drop_front(&b, 2);
	ck_assert_uint_eq(b.len, 3);
	ck_assert_mem_eq(b.data, "x\0y", 4);
	buf_drop_front(&b, 99);
	ck_assert_uint_eq(b.len, 0);
}
END_TEST

static void tests(TCase *t)
{
	tcase_add_loop_test(t, sizes, 0, 10);
	tcase_add_test(t, spans);
	tcase_add_test(t, escape);
	tcase_add_test(t, utf8);
	tcase_add_test(t, words);
	tcase_add_test(t, words_of_every_blank);
	tcase_add_loop_test(t, bad_words, 0, 6);
	tcase_add_test(t, no_words);
	tcase_add_loop_test(t, whole_numbers, 0, 13);
	tcase_add_loop_test(t, doubles, 0, 16);
	tcase_add_loop_test(t, span_texts_parse_back, 0, 8);
	tcase_add_test(t, escape_fits);
	tcase_add_test(t, prefixes);
	tcase_add_test(t, buffers);
	tcase_add_test(t, buffers_refuse_what_cannot_fit);
}

int main(void)
{
	return unit_main("base/str", tests);
}

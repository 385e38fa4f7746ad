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
	tcase_add_test(t, buffers);
}

int main(void)
{
	return unit_main("base/str", tests);
}

/* SPDX-License-Identifier: MIT */
#include <check.h>
#include <math.h>
#include <string.h>

#include "base/str.h"
#include "store/expr.h"

static json_t *scores(void)
{
	return json_loads("{\"a\":2,\"b\":0.5,\"n\":-3,\"ok\":true,\"t\":\"x\",\"big\":1e308,"
			  "\"abx\":{\"within\":{\"clean\":7}},\"f1 (macro)\":0.25,\"min\":4,"
			  "\"z\":0}",
			  0, NULL);
}

static const struct {
	const char *text;
	double value;
} good[] = {
	{ "a", 2 },
	{ "abx.within.clean", 7 },
	{ "\"f1 (macro)\" * 4", 1 },
	{ "\"abx\".within.\"clean\"", 7 },
	{ "1 + 2 * 3", 7 },
	{ "(1 + 2) * 3", 9 },
	{ "8 - 4 - 2", 2 },
	{ "8 / 4 / 2", 1 },
	{ "-a + 3", 1 },
	{ "--a", 2 },
	{ "2 * -a", -4 },
	{ "1.5e3", 1500 },
	{ "2e-1*10", 2 },
	{ ".5", 0.5 },
	{ "min(a, b, n)", -3 },
	{ "max( a ,b )", 2 },
	{ "abs(n) + ok", 4 },
	{ "min", 4 },
	{ "min (min, 9)", 4 },
	{ "\ta\t-\tb ", 1.5 },
};

START_TEST(values)
{
	auto_obj(expr) x = NULL;
	json_auto_t *s = scores();
	struct err e = { 0 };
	double v = (double)NAN;

	ck_assert_msg(expr_parse(good[_i].text, &x, &e) == 0, "%s", e.msg);
	ck_assert_msg(expr_eval(x, s, &v, &e) == 0, "%s: %s", good[_i].text, e.msg);
	ck_assert_msg(v == good[_i].value, "%s is %g, want %g", good[_i].text, v, good[_i].value);
	ck_assert_str_eq(expr_text(x), good[_i].text);
}
END_TEST

static const struct {
	const char *text, *why;
} bad[] = {
	{ "", "in '': want a key, a number or '(' at position 1" },
	{ "a b", "in 'a b': want the end at position 3" },
	{ "a +", "in 'a +': want a key, a number or '(' at position 4" },
	{ "(a", "in '(a': want ')' at position 3" },
	{ "min(a", "in 'min(a': want ')' at position 6" },
	{ "min()", "in 'min()': want a key, a number or '(' at position 5" },
	{ "abs(a, b)", "abs() takes one value" },
	{ "a..b", "in 'a..b': want a name at position 3" },
	{ "\"a", "in '\"a': want a closing quote and a name before it at position 1" },
	{ "\"\"", "in '\"\"': want a closing quote and a name before it at position 1" },
	{ "1.2.3", "in '1.2.3': want a number at position 1" },
	{ "1e999", "in '1e999': want a number at position 1" },
	{ "+a", "in '+a': want a key, a number or '(' at position 1" },
	{ "a;b", "in 'a;b': want the end at position 2" },
};

START_TEST(refused)
{
	struct expr *x = NULL;
	struct err e = { 0 };

	ck_assert_int_eq(expr_parse(bad[_i].text, &x, &e), -EINVAL);
	ck_assert_int_eq(e.kind, ERR_INPUT);
	ck_assert_str_eq(e.msg, bad[_i].why);
	ck_assert_ptr_null(x);
}
END_TEST

static const struct {
	const char *text, *why;
} no_value[] = {
	{ "nope", "no 'nope' in the scores" },
	{ "abx.nope", "no 'nope' in the scores" },
	{ "a.b", "no 'b' in the scores" },
	{ "t", "'t' is not a number" },
	{ "abx", "'abx' is not a number" },
	{ "a / z", "'a / z' has no finite value" },
	{ "z / z", "'z / z' has no finite value" },
	{ "big * big", "'big * big' has no finite value" },
};

START_TEST(without_value)
{
	auto_obj(expr) x = NULL;
	json_auto_t *s = scores();
	struct err e = { 0 };
	double v;

	ck_assert_msg(expr_parse(no_value[_i].text, &x, &e) == 0, "%s", e.msg);
	ck_assert_int_eq(expr_eval(x, s, &v, &e), -EINVAL);
	ck_assert_str_eq(e.msg, no_value[_i].why);
	ck_assert_int_eq(expr_eval(x, NULL, &v, NULL), -EINVAL);
}
END_TEST

/* Whatever the text, neither the parser nor the machine runs out of stack. */
START_TEST(bounds)
{
	static const char *const unit[] = {
		"(", "-", "a+", "min(", "1+(", "a,", "min(a,a,a,a,a,a,"
	};
	auto_buf struct buf b = { 0 };
	struct expr *x = NULL;
	struct err e = { 0 };

	while (b.len < 900)
		ck_assert_int_ge(buf_str(&b, unit[_i]), 0);
	ck_assert_int_lt(expr_parse(b.data, &x, &e), 0);
	while (b.len <= EXPR_TEXT_MAX)
		ck_assert_int_ge(buf_str(&b, "a"), 0);
	ck_assert_int_eq(expr_parse(b.data, &x, &e), -EINVAL);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("store_expr");
	TCase *t = tcase_create("all");
	SRunner *r;
	int failed;

	tcase_add_loop_test(t, values, 0, ARRAY_LEN(good));
	tcase_add_loop_test(t, refused, 0, ARRAY_LEN(bad));
	tcase_add_loop_test(t, without_value, 0, ARRAY_LEN(no_value));
	tcase_add_loop_test(t, bounds, 0, 7);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}

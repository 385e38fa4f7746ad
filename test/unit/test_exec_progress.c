/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "exec/progress.h"

#include "unit.h"

static const struct {
	const char *line;
	bool ok;
	double fraction, done, total;
} lines[] = {
	{ "{\"fraction\":0.5}", true, 0.5, -1, -1 },
	{ "{\"done\":15,\"total\":200,\"text\":\"x\"}", true, 0.075, 15, 200 },
	{ "{\"done\":3}", true, -1, 3, -1 },
	{ "{\"text\":\"only\"}", true, -1, -1, -1 },
	{ "{\"done\":9,\"total\":3}", true, 1, 9, 3 },
	{ "{\"fraction\":1.5}", false, 0, 0, 0 },
	{ "{\"fraction\":-1}", false, 0, 0, 0 },
	{ "{\"fraction\":\"0.5\"}", false, 0, 0, 0 },
	{ "{\"fraction\":NaN}", false, 0, 0, 0 },
	{ "{}", false, 0, 0, 0 },
	{ "[]", false, 0, 0, 0 },
	{ "0.5", false, 0, 0, 0 },
	{ "{\"done\":1e300,\"total\":1}", false, 0, 0, 0 },
	{ "{\"text\":\"\xff\"}", false, 0, 0, 0 },
};

START_TEST(descriptor)
{
	struct progress p;

	ck_assert_int_eq(progress_parse_line(lines[_i].line, strlen(lines[_i].line), &p),
			 lines[_i].ok);
	if (!lines[_i].ok)
		return;
	ck_assert_double_eq(p.fraction, lines[_i].fraction);
	ck_assert_double_eq(p.done, lines[_i].done);
	ck_assert_double_eq(p.total, lines[_i].total);
}
END_TEST

static const struct {
	const char *line;
	double done, total; /* -2: no match */
} logs[] = {
	{ "Test 15 of 200", 15, 200 },
	{ "  step 1 of 2: fine", 1, 2 },
	{ "Test\t3  of 4.", -2, 0 },
	{ "Test 3 of 4)", 3, 4 },
	{ "Test 5 of 4", -2, 0 },
	{ "15 of 200", -2, 0 },
	{ "Test 15 of many", -2, 0 },
	{ "Test -1 of 4", -2, 0 },
	{ "Test 1.5 of 4", -2, 0 },
	{ "Test 0 of 0", -2, 0 },
	{ "Test 1 of 3rd", -2, 0 },
	{ "", -2, 0 },
	{ "Test", -2, 0 },
	{ "Test 1 of", -2, 0 },
	{ "Test 1 of 99999999999999999999", -2, 0 },
};

START_TEST(log_line)
{
	struct progress p;
	bool ok = progress_match(NULL, logs[_i].line, strlen(logs[_i].line), &p);

	ck_assert_msg(ok == (logs[_i].done >= 0), "%s", logs[_i].line);
	if (!ok)
		return;
	ck_assert_double_eq(p.done, logs[_i].done);
	ck_assert_double_eq(p.total, logs[_i].total);
}
END_TEST

START_TEST(patterns)
{
	auto_obj(progress_pattern) two = NULL;
	auto_obj(progress_pattern) one = NULL;
	auto_obj(progress_pattern) none = NULL;
	struct err e = { 0 };
	struct progress p;

	ck_ok(progress_pattern_new("iter ([0-9]+)/([0-9]+)", &two, &e), e);
	ck_ok(progress_pattern_new("([0-9.]+)%", &one, &e), e);
	ck_ok(progress_pattern_new("nothing", &none, &e), e);
	ck_assert(progress_match(two, "x iter 3/4 y", 12, &p));
	ck_assert_double_eq(p.fraction, 0.75);
	ck_assert(!progress_match(two, "iter 3/4", 7, &p)); /* the line ends before the 4 */
	ck_assert(progress_match(one, "12.5%|###", 9, &p));
	ck_assert_double_eq(p.fraction, 0.125);
	ck_assert(!progress_match(one, "120%", 4, &p));
	ck_assert(!progress_match(none, "nothing", 7, &p));
	ck_fails(progress_pattern_new("(", &none, &e), EINVAL);
}
END_TEST

START_TEST(texts)
{
	struct progress p;
	char line[600];
	size_t n = (size_t)snprintf(line, sizeof(line), "{\"text\":\"a\\u0001\\n%*s\"}", 300, "");

	ck_assert(progress_parse_line(line, n, &p));
	ck_assert_uint_eq(strlen(p.text), PROGRESS_TEXT_MAX);
	ck_assert(strncmp(p.text, "a  ", 3) == 0);
	n = (size_t)snprintf(line, sizeof(line), "{\"text\":\"%0199d\xc3\xbc\"}", 0);
	ck_assert(progress_parse_line(line, n, &p));
	ck_assert_uint_eq(strlen(p.text), 199); /* no half character */
	ck_assert(progress_match(NULL, "Test 1 of 2 \x1b[1m\xff", 18, &p));
	ck_assert(str_utf8_valid(p.text, strlen(p.text)));
	ck_assert_ptr_null(strchr(p.text, '\x1b'));
}
END_TEST

static void feed(struct progress_feed *f, const char *s, uint64_t now)
{
	progress_feed_add(f, s, strlen(s), now);
}

START_TEST(chunks)
{
	static struct progress_feed f;
	static const char text[] = "noise\nTest 1 of 9\rTest 2 of 9\nTest 3 of 9";

	for (size_t chunk = 1; chunk < sizeof(text); chunk++) {
		progress_feed_init(&f, PROGRESS_LOG, NULL);
		for (size_t i = 0; i < sizeof(text) - 1; i += chunk)
			progress_feed_add(
				&f, text + i,
				chunk < sizeof(text) - 1 - i ? chunk : sizeof(text) - 1 - i, 0);
		ck_assert_double_eq(f.last.done, 2);
		progress_feed_end(&f);
		ck_assert_double_eq(f.last.done, 3);
	}
}
END_TEST

START_TEST(garbage)
{
	static struct progress_feed f;
	static char big[100000];

	memset(big, 'x', sizeof(big));
	progress_feed_init(&f, PROGRESS_DESCRIPTOR, NULL);
	feed(&f, "hello\n\n{\"done\":1}\n", 0);
	ck_assert_uint_eq(f.refused, 1);
	ck_assert_double_eq(f.last.done, 1);
	for (int i = 0; i < 20; i++)
		progress_feed_add(&f, big, sizeof(big), 0);
	feed(&f, "\n{\"done\":2}\n", 0);
	ck_assert_uint_eq(f.refused, 2);
	ck_assert_double_eq(f.last.done, 2);
}
END_TEST

/* A flood is not looked at line by line, but what it ended with is found. */
START_TEST(flood)
{
	static struct progress_feed f;
	static char big[65536];
	size_t n = 0;

	progress_feed_init(&f, PROGRESS_LOG, NULL);
	for (int i = 1; n + 32 < sizeof(big); i++)
		n += (size_t)sprintf(big + n, "Test %d of 99999\n", i);
	n += (size_t)sprintf(big + n, "Test 77777 of 99999\n");
	for (int i = 0; i < 1000; i++)
		progress_feed_add(&f, big, n, 5);
	ck_assert_double_eq(f.last.done, 77777);
	ck_assert_uint_lt(f.looked, 1000 * 80);
}
END_TEST

static void tests(TCase *t)
{
	tcase_add_loop_test(t, descriptor, 0, ARRAY_LEN(lines));
	tcase_add_loop_test(t, log_line, 0, ARRAY_LEN(logs));
	tcase_add_test(t, patterns);
	tcase_add_test(t, texts);
	tcase_add_test(t, chunks);
	tcase_add_test(t, garbage);
	tcase_add_test(t, flood);
}

int main(void)
{
	return unit_main("exec/progress", tests);
}

/* SPDX-License-Identifier: MIT */
#include <check.h>
#include <fcntl.h>
#include <string.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/str.h"
#include "store/leaderboard.h"

static json_t *load(const char *text)
{
	json_error_t e;
	json_t *j = json_loads(text, JSON_DECODE_ANY, &e);

	ck_assert_msg(j != NULL, "%s: %s", text, e.text);
	return j;
}

/* In the order of submission. */
#define ENTRIES                                                                                    \
	"[{\"author_label\":\"ann\",\"submission\":1,\"score\":{\"acc\":0.5,\"ms\":9}},"           \
	"{\"author_label\":\"bob\",\"submission\":2,\"score\":{\"acc\":0.7,\"ms\":3}},"            \
	"{\"author_label\":\"ann\",\"submission\":3,\"score\":{\"acc\":0.9,\"ms\":8}},"            \
	"{\"author_label\":\"eve\",\"submission\":4,\"score\":{\"ms\":1}},"                        \
	"{\"author_label\":\"ann\",\"submission\":5,\"score\":{\"acc\":0.6,\"ms\":7}},"            \
	"{\"author_label\":\"dan\",\"submission\":6,\"score\":{\"acc\":0.7,\"ms\":2}},"            \
	"{\"author_label\":\"zoe\",\"submission\":7,\"score\":null}]"

static json_t *rank(const char *def, const char *entries, const char *external, json_t *skipped)
{
	auto_obj(leaderboard) b = NULL;
	json_auto_t *d = load(def), *list = load(entries), *more = load(external);
	struct err e = { 0 };
	json_t *board = NULL;

	ck_assert_msg(leaderboard_parse(d, &b, &e) == 0, "%s", e.msg);
	ck_assert_msg(leaderboard_rank(b, list, more, "T", &board, skipped, &e) == 0, "%s", e.msg);
	return board;
}

static void assert_order(const json_t *board, const char *want)
{
	const json_t *data = json_object_get(board, "data");
	auto_buf struct buf got = { 0 };

	for (size_t i = 0; i < json_array_size(data); i++) {
		const json_t *o = json_array_get(data, i);

		ck_assert_int_eq(json_integer_value(json_object_get(o, "index")), (int)i + 1);
		ck_assert_int_ge(buf_fmt(&got, "%s%lld", i ? " " : "",
					 json_integer_value(json_object_get(o, "submission"))),
				 0);
	}
	ck_assert_str_eq(got.data ? got.data : "", want);
}

#define DEF(rest) "{\"label\":\"b\",\"challenge\":\"c\"" rest "}"

static const struct {
	const char *def, *order;
	int skipped;
} cases[] = {
	{ DEF(",\"score\":\"acc\",\"order\":\"desc\""), "3 2 6", 2 },
	{ DEF(",\"score\":\"acc\",\"order\":\"asc\""), "1 2 6", 2 },
	{ DEF(",\"score\":\"acc\""), "3 2 6", 2 },
	{ DEF(",\"score\":\"acc\",\"order\":\"desc\",\"entries\":\"last\""), "2 6 5", 2 },
	{ DEF(",\"score\":\"acc\",\"order\":\"desc\",\"entries\":\"all\""), "3 2 6 5 1", 2 },
	{ DEF(",\"score\":\"acc\",\"order\":\"desc\",\"tie_break\":\"later\""), "3 6 2", 2 },
	{ DEF(",\"score\":\"acc\",\"order\":\"desc\",\"tie_break\":\"-ms\""), "3 6 2", 2 },
	{ DEF(",\"score\":\"acc\",\"order\":\"desc\",\"tie_break\":\"ms\""), "3 2 6", 2 },
	{ DEF(",\"score\":\"acc\",\"order\":\"desc\",\"limit\":1"), "3", 2 },
	{ DEF(",\"score\":\"acc - ms / 10\",\"order\":\"desc\""), "6 2 3", 2 },
	{ DEF(",\"score\":null"), "2 4 5 6 7", 0 },
	{ DEF(",\"score\":null,\"entries\":\"all\""), "1 2 3 4 5 6 7", 0 },
	{ DEF(""), "", 7 },
};

START_TEST(orders)
{
	json_auto_t *skipped = json_array();
	json_auto_t *board = rank(cases[_i].def, ENTRIES, "[]", skipped);

	assert_order(board, cases[_i].order);
	ck_assert_uint_eq(json_array_size(skipped), (size_t)cases[_i].skipped);
}
END_TEST

START_TEST(bad_entries_are_named)
{
	json_auto_t *skipped = json_array();
	json_auto_t *board = rank(DEF(",\"score\":\"acc\",\"order\":\"asc\""), ENTRIES,
				  "[7,{\"author_label\":\"x\"}]", skipped);
	auto_free char *text = js_text(skipped);

	assert_order(board, "1 2 6");
	ck_assert_str_eq(
		text,
		"[{\"entry\":\"submission 4 of eve\",\"why\":\"no 'acc' in the scores\"},"
		"{\"entry\":\"submission 7 of zoe\",\"why\":\"it has no scores\"},"
		"{\"entry\":\"an entry without an author\",\"why\":\"the entry is not an object\"},"
		"{\"entry\":\"x\",\"why\":\"it has no scores\"}]");
}
END_TEST

/* External entries stand beside those of the database, whatever their author has there. */
START_TEST(shape)
{
	json_auto_t *skipped = json_array();
	json_auto_t *board = rank(
		DEF(",\"score\":\"acc\",\"order\":\"asc\",\"columns\":[\"ms\",{\"name\":\"half\","
		    "\"value\":\"acc/"
		    "2\"}]"),
		"[{\"author_label\":\"ann\",\"submission\":1,\"score\":{\"acc\":0.5}}]",
		"[{\"author_label\":\"ann\",\"score\":{\"acc\":0.25,\"ms\":1},\"note\":\"base\"}]",
		skipped);
	auto_free char *text = js_text(board);

	ck_assert_str_eq(
		text,
		"{\"updatedOn\":\"T\",\"data\":[{\"author_label\":\"ann\",\"score\":{\"acc\":0.25,"
		"\"ms\":1},\"note\":\"base\",\"index\":1,\"value\":0.25,\"columns\":{\"ms\":1.0,"
		"\"half\":0.125}},{\"author_label\":\"ann\",\"submission\":1,\"score\":{\"acc\":0."
		"5},"
		"\"index\":2,\"value\":0.5,\"columns\":{\"ms\":null,\"half\":0.25}}]}");
}
END_TEST

START_TEST(csv)
{
	json_auto_t *board =
		load("{\"data\":[{\"index\":1,\"author_label\":\"=cmd()\",\"value\":-1.5,"
		     "\"score\":{\"a\":{\"b\":1},\"t\":\"x,\\\"y\\\"\"}},"
		     "{\"index\":2,\"author_label\":\"z\",\"score\":{\"c\":[1,2],\"ok\":true}}]}");
	auto_free char *text = NULL;
	struct err e = { 0 };

	ck_assert_int_eq(leaderboard_csv(board, &text, &e), 0);
	ck_assert_str_eq(text, "index,author_label,value,submission,submitted_at,a.b,t,c,ok\r\n"
			       "1,'=cmd(),-1.5,,,1,\"x,\"\"y\"\"\",,\r\n"
			       "2,z,,,,,,\"[1,2]\",true\r\n");
}
END_TEST

static const struct {
	const char *def, *why;
} bad[] = {
	{ "[]", "a leaderboard is a JSON object" },
	{ "{\"challenge\":\"c\"}", "'label' is missing" },
	{ "{\"label\":\"../x\",\"challenge\":\"c\"}",
	  "'label' is ../x: letters, digits, '.', '_' and '-' only" },
	{ DEF(",\"sore\":\"acc\""), "a leaderboard has no 'sore'" },
	{ DEF(",\"score\":\"acc +\""),
	  "'score': in 'acc +': want a key, a number or '(' at position 6" },
	{ DEF(",\"order\":\"down\""), "'order' is down, want 'asc' or 'desc'" },
	{ DEF(",\"score\":null,\"entries\":\"best\""),
	  "'entries' is 'best', and 'score' is null: nothing tells" },
	{ DEF(",\"columns\":[7]"), "'columns': 'name' is missing" },
	{ DEF(",\"limit\":0"), "'limit' is 0, outside 1 to 1000000" },
};

START_TEST(definitions_refused)
{
	json_auto_t *d = load(bad[_i].def);
	struct leaderboard *b = NULL;
	struct err e = { 0 };

	ck_assert_int_lt(leaderboard_parse(d, &b, &e), 0);
	ck_assert_int_eq(e.kind, ERR_INPUT);
	ck_assert_str_eq(e.msg, bad[_i].why);
}
END_TEST

static void put(const char *dir, const char *name, const char *text)
{
	auto_free char *path = NULL;
	struct err e = { 0 };

	ck_assert_int_ge(str_fmt(&path, "%s/%s", dir, name), 0);
	ck_assert_int_eq(fd_write_file(AT_FDCWD, path, text, strlen(text), 0600, false, &e), 0);
}

/* Files and folders; what cannot be read is named and skipped. */
START_TEST(publish)
{
	char dir[] = "/tmp/zr-board-XXXXXX";
	auto_free char *sub = NULL, *left_out = NULL;
	auto_done(leaderboard_report) report = { 0 };
	json_auto_t *def = load(DEF(",\"score\":\"acc\",\"order\":\"asc\",\"external\":\"ext\"")),
		    *list = load(ENTRIES), *board = NULL;
	struct err e = { 0 };

	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_ge(str_fmt(&sub, "%s/ext/more", dir), 0);
	ck_assert_int_eq(fd_mkdirs(sub, 0755, &e), 0);
	put(sub, "one.json", "{\"author_label\":\"x1\",\"score\":{\"acc\":1}}");
	put(sub, "list.json", "[{\"author_label\":\"x2\",\"score\":{\"acc\":2}},3]");
	put(sub, "broken.json", "{\"author_label\":");
	put(sub, "nan.json", "{\"author_label\":\"x\",\"score\":{\"acc\":NaN}}");
	put(sub, "board.json", "{\"data\":[{\"author_label\":\"x3\",\"score\":{\"acc\":0}}]}");
	put(sub, "nameless.json", "{\"score\":{\"acc\":5}}");
	put(sub, "notes.txt", "not an entry");
	ck_assert_msg(leaderboard_publish(def, list, dir, &report, &e) == 0, "%s", e.msg);
	ck_assert_uint_eq(report.entries, 6);
	ck_assert_uint_eq(json_array_size(report.skipped), 6);
	left_out = js_text(report.skipped);
	ck_assert_ptr_nonnull(strstr(left_out, "/ext/more/list.json, entry 2\",\"why\":\"the entry "
					       "is not an object\""));
	ck_assert_ptr_nonnull(strstr(left_out, "/ext/more/nameless.json, entry 1\",\"why\":"
					       "\"'author_label' is missing\""));
	ck_assert_int_eq(js_read_file(AT_FDCWD, report.json_path, 1u << 20, &board, &e), 0);
	ck_assert_str_eq(
		json_string_value(json_object_get(json_array_get(json_object_get(board, "data"), 0),
						  "author_label")),
		"x3");
	ck_assert_int_eq(access(report.csv_path, R_OK), 0);
	ck_assert_int_eq(fd_rmtree(AT_FDCWD, dir, &e), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("store_leaderboard");
	TCase *t = tcase_create("all");
	SRunner *r;
	int failed;

	tcase_add_loop_test(t, orders, 0, ARRAY_LEN(cases));
	tcase_add_test(t, bad_entries_are_named);
	tcase_add_test(t, shape);
	tcase_add_test(t, csv);
	tcase_add_loop_test(t, definitions_refused, 0, ARRAY_LEN(bad));
	tcase_add_test(t, publish);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}

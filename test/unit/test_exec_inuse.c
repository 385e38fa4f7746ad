/* SPDX-License-Identifier: MIT */
#include "exec/inuse.h"

#include "base/id.h"
#include "base/str.h"
#include "exec/box.h"

#include "unit.h"

static char dir[32];

static void setup(void)
{
	unit_mkdir(dir);
}

static void teardown(void)
{
	unit_rmdir(dir);
}

static struct box *claim(const char *submission)
{
	auto_spec s = calloc(1, sizeof(*s));
	struct box *b = NULL;
	char id[UUID_LEN + 1];
	struct err e = { 0 };

	s->evaluation = strdup("42");
	s->attempt = 1;
	s->attempt_id = strdup(id_uuid7(id));
	s->evaluator = strdup("ev");
	s->submission = strdup(submission);
	s->evaluator_dir = strdup(dir);
	s->sealed_dir = strdup(dir);
	ck_assert_int_ge(strv_add(&s->argv[PHASE_RUN], "/bin/true"), 0);
	ck_ok(box_prepare(dir, s, &b, &e), e);
	return b;
}

static size_t count(char *const *v, const char *word)
{
	size_t n = 0;

	for (; *v; v++)
		n += str_eq(*v, word);
	return n;
}

START_TEST(no_boxes)
{
	auto_strv char **v = NULL;
	struct err e = { 0 };

	ck_ok(inuse_submissions(dir, &v, &e), e);
	ck_assert_uint_eq(strv_len(v), 0);
}
END_TEST

/* Whoever holds them: here it is this process, as it would be another worker. */
START_TEST(every_box_counts)
{
	struct box *a = claim("/cache/one"), *b = claim("/cache/two");
	struct box *c = claim("/cache/one");
	auto_strv char **v = NULL;
	struct err e = { 0 };

	ck_ok(inuse_submissions(dir, &v, &e), e);
	ck_assert_uint_eq(count(v, "/cache/two"), 1);
	ck_assert_uint_ge(count(v, "/cache/one"), 1);
	ck_ok(box_release(b, false, &e), e);
	ck_ok(box_release(c, false, &e), e);
	strv_free(take_ptr(v));
	ck_ok(inuse_submissions(dir, &v, &e), e);
	ck_assert_uint_eq(count(v, "/cache/two"), 0);
	ck_assert_uint_ge(count(v, "/cache/one"), 1);
	box_free(a);
}
END_TEST

/* What cannot be told must not be taken for "nothing". */
START_TEST(a_box_that_cannot_be_read)
{
	auto_obj(box) b = claim("/cache/one");
	auto_strv char **v = NULL;
	struct err e = { 0 };

	ck_ok(fd_write_file(box_dirfd(b), "spec.json", "{", 1, 0600, false, &e), e);
	ck_assert_int_lt(inuse_submissions(dir, &v, &e), 0);
	ck_has(e.msg, box_spec(b)->attempt_id);
}
END_TEST

static void tests(TCase *t)
{
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, no_boxes);
	tcase_add_test(t, every_box_counts);
	tcase_add_test(t, a_box_that_cannot_be_read);
}

int main(void)
{
	return unit_main("exec/inuse", tests);
}

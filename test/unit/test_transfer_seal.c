/* SPDX-License-Identifier: MIT */
#include <check.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "transfer/manifest.h"
#include "transfer/path.h"
#include "transfer/pax.h"
#include "transfer/seal.h"

static char dir_path[] = "/tmp/zr-test-seal-XXXXXX";
static int dir = -1;

static void setup(void)
{
	ck_assert_ptr_nonnull(mkdtemp(dir_path));
	dir = open(dir_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(dir, 0);
	ck_assert_int_eq(mkdirat(dir, "in", 0755), 0);
	ck_assert_int_eq(mkdirat(dir, "sealed", 0755), 0);
}

static void teardown(void)
{
	close(dir);
	ck_assert_int_eq(fd_rmtree(AT_FDCWD, dir_path, NULL), 0);
	memcpy(dir_path + strlen(dir_path) - 6, "XXXXXX", 6);
}

static void put(const char *path, const char *text)
{
	ck_assert_int_eq(fd_write_file(dir, path, text, strlen(text), 0640, false, NULL), 0);
}

static int seal(const struct seal_limits *l, struct seal_result *res, struct manifest *m,
		struct err *e)
{
	struct seal_part parts[] = {
		{ .dirfd = dir, .source = "out.log", .as = ".zr/out.log", .optional = true },
		{ .dirfd = dir, .source = "in", .as = "" },
	};
	auto_close int out = openat(dir, "sealed", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_buf struct buf b = { 0 };
	struct seal_spec spec = {
		.name = "result",
		.parts = parts,
		.n_parts = 2,
		.out_dirfd = out,
		.out_name = "a1",
		.replace = true,
	};
	int r;

	if (l)
		spec.limits = *l;
	r = seal_tree(&spec, res, e);
	if (r == 0) {
		ck_assert_int_eq(fd_read_file(dir, "sealed/a1/manifest.json", 1 << 26, &b, NULL),
				 0);
		ck_assert_msg(manifest_parse(b.data, b.len, 0, m, e) == 0, "%s", e->msg);
	}
	ck_assert_int_ne(faccessat(out, ".a1.tmp", F_OK, 0), 0);
	return r;
}

START_TEST(round_trip)
{
	auto_done(manifest) m = { 0 };
	struct seal_result res;
	struct err e = { 0 };

	put("out.log", "hello\n");
	put("in/b", "two");
	put("in/a\xc3\xa9", "one");
	ck_assert_int_eq(mkdirat(dir, "in/d", 0755), 0);
	put("in/d/c", "");
	ck_assert_msg(seal(NULL, &res, &m, &e) == 0, "%s", e.msg);
	ck_assert_uint_eq(res.files, 4);
	ck_assert_uint_eq(res.dirs, 2);
	ck_assert_uint_eq(res.bytes, 12);
	ck_assert_uint_eq(res.refused, 0);
	ck_assert_str_eq(res.truncated, "");
	ck_assert_ptr_nonnull(manifest_find(&m, ".zr/out.log"));
	ck_assert_uint_eq(manifest_find(&m, "a\xc3\xa9")->size, 3);
	ck_assert_int_eq(manifest_find(&m, "d")->type, MANIFEST_DIR);
	ck_assert_ptr_null(manifest_find(&m, "nothing"));
}
END_TEST

static const struct manifest_refused *refused(const struct manifest *m, const char *path)
{
	for (size_t i = 0; i < m->n_refused; i++)
		if (str_eq(m->refused[i].path, path))
			return &m->refused[i];
	ck_abort_msg("%s is not refused", path);
	return NULL;
}

START_TEST(refusals)
{
	auto_done(manifest) m = { 0 };
	struct seal_result res;
	struct err e = { 0 };

	put("out.log", "");
	put("in/a", "1");
	put("in/A", "2");
	put("in/new\nline", "x");
	put("in/bad\xff", "x");
	ck_assert_int_eq(linkat(dir, "in/a", dir, "in/hard", 0), 0);
	ck_assert_int_eq(symlinkat("/etc/passwd", dir, "in/link"), 0);
	ck_assert_int_eq(mkfifoat(dir, "in/fifo", 0600), 0);
	ck_assert_int_eq(mkdirat(dir, "in/.zr", 0755), 0);
	put("in/.zr/out.log", "forged");
	ck_assert_msg(seal(NULL, &res, &m, &e) == 0, "%s", e.msg);
	ck_assert_str_eq(refused(&m, "a")->reason,
			 "differs from another name only by case or Unicode form");
	ck_assert_str_eq(refused(&m, "new\\x0aline")->reason, "a control character");
	ck_assert_str_eq(refused(&m, "bad\\xff")->reason, "a name that is not UTF-8");
	ck_assert_str_eq(refused(&m, "link")->type, "symlink");
	ck_assert_str_eq(refused(&m, "fifo")->type, "fifo");
	ck_assert_str_eq(refused(&m, ".zr")->reason, "a reserved name");
	ck_assert_uint_eq(manifest_find(&m, ".zr/out.log")->size, 0);
	/* "a" is a twin and out, so "hard" is the first packed name of its inode. */
	ck_assert_ptr_nonnull(manifest_find(&m, "hard"));
	ck_assert_uint_eq(res.refused, 6);
}
END_TEST

/* A constant of the format: other programs know it without sealing anything. */
START_TEST(nothing)
{
	auto_done(manifest) m = { 0 };
	struct seal_result res;
	struct err e = { 0 };

	ck_assert_msg(seal(NULL, &res, &m, &e) == 0, "%s", e.msg);
	ck_assert_str_eq(res.root_text, MANIFEST_EMPTY_RESULT);
	ck_assert_uint_eq(m.n_entries + m.n_refused, 0);
	/* What was left out is not nothing. */
	manifest_done(&m);
	ck_assert_int_eq(symlinkat("/etc/passwd", dir, "in/link"), 0);
	ck_assert_msg(seal(NULL, &res, &m, &e) == 0, "%s", e.msg);
	ck_assert_str_ne(res.root_text, MANIFEST_EMPTY_RESULT);
	manifest_done(&m);
	ck_assert_int_eq(unlinkat(dir, "in/link", 0), 0);
	put("out.log", "x");
	ck_assert_msg(seal(NULL, &res, &m, &e) == 0, "%s", e.msg);
	ck_assert_str_ne(res.root_text, MANIFEST_EMPTY_RESULT);
}
END_TEST

START_TEST(hardlinks)
{
	auto_done(manifest) m = { 0 };
	struct seal_result res;
	struct err e = { 0 };

	for (int i = 0; i < 100; i++) {
		char a[32], b[32];

		snprintf(a, sizeof(a), "in/%03d", i);
		snprintf(b, sizeof(b), "in/%03d-again", i);
		put(a, "x");
		ck_assert_int_eq(linkat(dir, a, dir, b, 0), 0);
	}
	ck_assert_msg(seal(NULL, &res, &m, &e) == 0, "%s", e.msg);
	ck_assert_uint_eq(res.files, 100);
	ck_assert_uint_eq(res.refused, 100);
	ck_assert_str_eq(refused(&m, "007-again")->type, "hardlink");
}
END_TEST

START_TEST(limits)
{
	static const struct {
		struct seal_limits l;
		const char *truncated;
		uint64_t files, dirs;
	} t[] = {
		{ { .entries = 3 }, "entries", 1, 2 }, { { .bytes = 25 }, "bytes", 3, 3 },
		{ { .file_bytes = 9 }, "file", 1, 3 }, { { .depth = 1 }, "depth", 3, 2 },
		{ { .entries = 9 }, "", 4, 3 },
	};
	auto_done(manifest) m = { 0 };
	struct seal_result res;
	struct err e = { 0 };

	put("out.log", "log");
	ck_assert_int_eq(mkdirat(dir, "in/d", 0755), 0);
	ck_assert_int_eq(mkdirat(dir, "in/d/e", 0755), 0);
	put("in/d/e/deep", "0123456789");
	put("in/x", "0123456789");
	put("in/y", "0123456789");
	ck_assert_msg(seal(&t[_i].l, &res, &m, &e) == 0, "%s", e.msg);
	ck_assert_str_eq(res.truncated, t[_i].truncated);
	ck_assert_uint_eq(res.files, t[_i].files);
	ck_assert_uint_eq(res.dirs, t[_i].dirs);
	ck_assert_ptr_nonnull(manifest_find(&m, ".zr/out.log"));
}
END_TEST

START_TEST(same_bytes)
{
	struct seal_result a, b;
	struct err e = { 0 };
	auto_done(manifest) m = { 0 };
	auto_done(manifest) n = { 0 };

	put("in/x", "1");
	put("in/y", "2");
	ck_assert_int_eq(seal(NULL, &a, &m, &e), 0);
	ck_assert_int_eq(unlinkat(dir, "in/x", 0), 0);
	put("in/x", "1");
	ck_assert_int_eq(seal(NULL, &b, &n, &e), 0);
	ck_assert_str_eq(a.root_text, b.root_text);
	put("in/x", "3");
	manifest_done(&n);
	ck_assert_int_eq(seal(NULL, &b, &n, &e), 0);
	ck_assert_str_ne(a.root_text, b.root_text);
}
END_TEST

/* A job that left a writer behind: the result is not final, and nothing is left. */
START_TEST(late_writer)
{
	auto_close int fd = openat(dir, "in/big", O_CREAT | O_RDWR | O_CLOEXEC, 0640);
	auto_done(manifest) m = { 0 };
	struct seal_result res;
	struct err e = { 0 };
	pid_t pid;

	ck_assert_int_eq(ftruncate(fd, 64 << 20), 0);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	while (pid == 0) {
		if (pwrite(fd, "x", 1, 5) != 1)
			_exit(1);
		usleep(500);
	}
	ck_assert_int_eq(seal(NULL, &res, &m, &e), -EAGAIN);
	ck_assert_int_eq(e.kind, ERR_TRANSIENT);
	ck_assert_str_eq(e.msg, "not final: 'big' changed while it was packed");
	kill(pid, SIGKILL);
	ck_assert_int_ne(faccessat(dir, "sealed/a1", F_OK, 0), 0);
}
END_TEST

START_TEST(taken_name)
{
	struct seal_part part = { .dirfd = dir, .source = "in", .as = "" };
	struct seal_spec spec = { .name = "result",
				  .parts = &part,
				  .n_parts = 1,
				  .out_dirfd = dir,
				  .out_name = "sealed" };
	struct seal_result res;
	struct err e = { 0 };

	ck_assert_int_eq(seal_tree(&spec, &res, &e), -EEXIST);
	ck_assert_int_ne(faccessat(dir, ".sealed.tmp", F_OK, 0), 0);
	part.source = "gone";
	ck_assert_int_eq(seal_tree(&spec, &res, &e), -ENOENT);
	part.source = "in";
	part.as = "../x";
	ck_assert_int_eq(seal_tree(&spec, &res, &e), -EINVAL);
}
END_TEST

START_TEST(given_up)
{
	static const volatile sig_atomic_t stop = 1;
	struct seal_part part = { .dirfd = dir, .source = "in", .as = "" };
	struct seal_spec spec = { .name = "submission",
				  .parts = &part,
				  .n_parts = 1,
				  .out_dirfd = dir,
				  .out_name = "a1",
				  .stop = &stop };
	struct seal_result res;
	struct err e = { 0 };

	put("in/file", "content");
	ck_assert_int_eq(seal_tree(&spec, &res, &e), -ECANCELED);
	ck_assert_int_ne(faccessat(dir, "a1", F_OK, 0), 0);
	ck_assert_int_ne(faccessat(dir, ".a1.tmp", F_OK, 0), 0);
}
END_TEST

START_TEST(pax_long)
{
	auto_buf struct buf b = { 0 };
	char path[300];

	memset(path, 'n', sizeof(path) - 1);
	path[150] = '/';
	path[299] = '\0';
	ck_assert_int_eq(pax_header(&b, path, false, (uint64_t)9 << 30), 0);
	ck_assert_uint_eq(b.len, 3 * PAX_BLOCK);
	ck_assert_int_eq(b.data[156], 'x');
	ck_assert_mem_eq(b.data + PAX_BLOCK, "309 path=nn", 11);
	ck_assert_ptr_nonnull(strstr(b.data + PAX_BLOCK, "\n19 size=9663676416\n"));
	b.len = 0;
	ck_assert_int_eq(pax_header(&b, "plain", true, 0), 0);
	ck_assert_uint_eq(b.len, PAX_BLOCK);
}
END_TEST

START_TEST(paths)
{
	static const struct {
		const char *path;
		bool good;
	} t[] = {
		{ "a", true },         { "a/b/c.txt", true },  { "-rf", true },
		{ "...", true },       { "a/\xc3\xa9", true }, { "", false },
		{ "/a", false },       { "a/", false },        { "a//b", false },
		{ ".", false },        { "a/..", false },      { "../a", false },
		{ "a\nb", false },     { "a\x7f", false },     { "\xff", false },
		{ "\xc2\x85", false },
	};

	ck_assert_int_eq(!path_check(t[_i].path, strlen(t[_i].path)), t[_i].good);
}
END_TEST

START_TEST(deep_paths)
{
	char p[2 * 70];

	for (size_t i = 0; i < 70; i++) {
		p[2 * i] = 'a';
		p[2 * i + 1] = '/';
	}
	ck_assert_ptr_null(path_check(p, 2 * 64 - 1));
	ck_assert_ptr_nonnull(path_check(p, 2 * 65 - 1));
}
END_TEST

START_TEST(folds)
{
	static const struct {
		const char *a, *b;
		bool twins;
	} t[] = {
		{ "README", "readme", true },
		{ "a", "b", false },
		{ "caf\xc3\xa9", "cafe\xcc\x81", true },
		{ "CAF\xc3\x89", "caf\xc3\xa9", true },
		{ "cafe", "caf\xc3\xa9", false },
		{ "\xe2\x84\xaa", "k", true },           /* the Kelvin sign */
		{ "stra\xc3\x9f\x65", "STRASSE", true }, /* sharp s */
		{ "\xea\xb0\x81", "\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8", true }, /* Hangul */
		{ "a\xcc\x81\xcc\xa3", "a\xcc\xa3\xcc\x81", true }, /* two marks, two orders */
		{ "\xf0\x9d\x84\x9e", "\xf0\x9d\x84\x9f", false },
	};
	auto_buf struct buf a = { 0 }, b = { 0 };

	ck_assert_int_eq(path_fold(&a, t[_i].a, strlen(t[_i].a)), 0);
	ck_assert_int_eq(path_fold(&b, t[_i].b, strlen(t[_i].b)), 0);
	ck_assert_int_eq(str_eq(a.data, b.data), t[_i].twins);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("transfer/seal");
	TCase *t = tcase_create("all"), *p = tcase_create("paths");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, round_trip);
	tcase_add_test(t, refusals);
	tcase_add_test(t, nothing);
	tcase_add_test(t, hardlinks);
	tcase_add_loop_test(t, limits, 0, 5);
	tcase_add_test(t, same_bytes);
	tcase_add_test(t, late_writer);
	tcase_add_test(t, taken_name);
	tcase_add_test(t, given_up);
	suite_add_tcase(s, t);
	tcase_add_test(p, pax_long);
	tcase_add_loop_test(p, paths, 0, 16);
	tcase_add_test(p, deep_paths);
	tcase_add_loop_test(p, folds, 0, 10);
	suite_add_tcase(s, p);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}

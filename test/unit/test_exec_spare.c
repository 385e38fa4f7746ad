/* SPDX-License-Identifier: MIT */
#include "exec/spare.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "exec/journal.h"
#include "exec/spec.h"

#include "unit.h"

#define BOX   "0199a000-0000-7000-8000-000000000001"
#define OTHER "0199a000-0000-7000-8000-000000000002"

static char dir[32];
static int boxes = -1;

static void setup(void)
{
	char path[64];

	unit_mkdir(dir);
	snprintf(path, sizeof(path), "%s/boxes", dir);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	boxes = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(boxes, 0);
}

static void teardown(void)
{
	close(boxes);
	unit_rmdir(dir);
}

/* In the folder of the box. */
static void put(const char *name, const char *text)
{
	char path[96];
	int fd;

	snprintf(path, sizeof(path), BOX "/%s", name);
	fd = openat(boxes, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	ck_assert_int_eq(fd_write_all(fd, text, strlen(text)), 0);
	close(fd);
}

static const char *job_path(size_t i)
{
	static char path[96];

	snprintf(path, sizeof(path), BOX "/%s", job_folders[i]);
	return path;
}

/* What a job without output leaves. */
static void make_ended(void)
{
	ck_assert_int_eq(mkdirat(boxes, BOX, 0711), 0);
	put(SPEC_FILE, "{\"a long text of the box before\":1}");
	put(JOURNAL_FILE, "{\"t\":\"begun\"}\n");
	put("control", "");
	put("worker.note", "x");
	for (size_t i = 0; i < ARRAY_LEN(job_folders); i++)
		ck_assert_int_eq(mkdirat(boxes, job_path(i), 0700), 0);
}

static bool take(const char *text, int *ret_dir, int *ret_owner)
{
	return spare_take(boxes, OTHER, text, strlen(text), ret_dir, ret_owner);
}

static bool exists(int at, const char *name)
{
	return faccessat(at, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

START_TEST(a_used_box_becomes_a_new_one)
{
	auto_close int box = -1, owner = -1, same = -1;
	auto_buf struct buf b = { 0 };
	struct err e = { 0 };

	make_ended();
	ck_assert(spare_keep(boxes, BOX));
	ck_assert(!exists(boxes, BOX));
	ck_assert(take("{}", &box, &owner));
	ck_ok(fd_read_file(boxes, OTHER "/" SPEC_FILE, 100, &b, &e), e);
	ck_assert_str_eq(b.data, "{}");
	same = openat(box, SPEC_FILE, O_RDONLY | O_CLOEXEC);
	ck_assert_int_lt(flock(same, LOCK_EX | LOCK_NB), 0);
	ck_assert(journal_is_empty(box));
	ck_assert(exists(box, "work") && exists(box, "tmp") && exists(box, "output"));
	ck_assert(!exists(box, "control") && !exists(box, "worker.note") && !exists(box, SPEC_NEW));
}
END_TEST

START_TEST(each_spare_is_taken_once)
{
	int box = -1, owner = -1;

	ck_assert(!take("{}", &box, &owner));
	make_ended();
	ck_assert(spare_keep(boxes, BOX));
	ck_assert(take("{}", &box, &owner));
	close(box);
	close(owner);
	ck_assert(!take("{}", &box, &owner));
}
END_TEST

static void dirty_file(void)
{
	put("output/.hidden", "x");
}

static void dirty_mode(void)
{
	ck_assert_int_eq(fchmodat(boxes, BOX "/work", 0777, 0), 0);
}

static void dirty_attribute(void)
{
	char path[96];

	snprintf(path, sizeof(path), "%s/boxes/" BOX "/tmp", dir);
	if (setxattr(path, "user.note", "x", 1, 0) < 0)
		put("tmp/instead", "x"); /* a file system without them */
}

static void dirty_kind(void)
{
	ck_assert_int_eq(unlinkat(boxes, BOX "/work", AT_REMOVEDIR), 0);
	ck_assert_int_eq(symlinkat("/etc", boxes, BOX "/work"), 0);
}

static void dirty_folder(void)
{
	ck_assert_int_eq(mkdirat(boxes, BOX "/more", 0700), 0);
}

static void dirty_journal(void)
{
	ck_assert_int_eq(linkat(boxes, BOX "/" JOURNAL_FILE, boxes, "elsewhere", 0), 0);
}

static void dirty_spec(void)
{
	ck_assert_int_eq(fchmodat(boxes, BOX "/" SPEC_FILE, 0666, 0), 0);
}

static void (*const dirty[])(void) = {
	dirty_file,   dirty_mode,    dirty_attribute, dirty_kind,
	dirty_folder, dirty_journal, dirty_spec,
};

START_TEST(what_a_job_has_changed_is_not_used_again)
{
	int box = -1, owner = -1;

	make_ended();
	dirty[_i]();
	ck_assert(!spare_keep(boxes, BOX));
	ck_assert(!take("{}", &box, &owner));
}
END_TEST

START_TEST(a_keeper_that_still_cleans_is_not_disturbed)
{
	int box = -1;
	struct err e = { 0 };

	make_ended();
	ck_ok(fd_open_dir(boxes, BOX, &box, &e), e);
	ck_assert_int_eq(flock(box, LOCK_SH), 0);
	ck_assert(!spare_keep(boxes, BOX));
	close(box);
	ck_assert(spare_keep(boxes, BOX));
}
END_TEST

/* Killed between the name of the spec and that of the box; before it a torn text may be there. */
START_TEST(a_killed_maker_leaves_nothing)
{
	auto_close int spares = -1;
	int box = -1, owner = -1;
	struct err e = { 0 };

	make_ended();
	ck_assert(spare_keep(boxes, BOX));
	ck_ok(fd_open_dir(boxes, "../spare", &spares, &e), e);
	for (unsigned i = 0; i < SPARES_MAX; i++) {
		char from[32], to[32];

		snprintf(from, sizeof(from), "%u/" SPEC_NEW, i);
		snprintf(to, sizeof(to), "%u/" SPEC_FILE, i);
		(void)!renameat(spares, from, spares, to);
	}
	ck_assert(!take("{}", &box, &owner));
	spare_sweep(boxes);
	for (unsigned i = 0; i < SPARES_MAX; i++) {
		char slot[16];

		snprintf(slot, sizeof(slot), "%u", i);
		ck_assert(!exists(spares, slot));
	}
}
END_TEST

START_TEST(no_more_than_so_many_are_kept)
{
	for (unsigned i = 0; i < SPARES_MAX; i++) {
		make_ended();
		ck_assert(spare_keep(boxes, BOX));
	}
	make_ended();
	ck_assert(!spare_keep(boxes, BOX));
}
END_TEST

static void tests(TCase *t)
{
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_used_box_becomes_a_new_one);
	tcase_add_test(t, each_spare_is_taken_once);
	tcase_add_loop_test(t, what_a_job_has_changed_is_not_used_again, 0, ARRAY_LEN(dirty));
	tcase_add_test(t, a_keeper_that_still_cleans_is_not_disturbed);
	tcase_add_test(t, a_killed_maker_leaves_nothing);
	tcase_add_test(t, no_more_than_so_many_are_kept);
}

int main(void)
{
	return unit_main("exec/spare", tests);
}

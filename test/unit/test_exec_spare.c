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

/* What a job without output leaves, and open. */
static int make_ended(void)
{
	int fd;

	ck_assert_int_eq(mkdirat(boxes, BOX, 0711), 0);
	put(SPEC_FILE, "{\"a long text of the box before\":1}");
	put(JOURNAL_FILE, "{\"t\":\"begun\"}\n");
	put("control", "");
	put("out.log", "x");
	for (size_t i = 0; i < ARRAY_LEN(job_folders); i++)
		ck_assert_int_eq(mkdirat(boxes, job_path(i), 0700), 0);
	fd = openat(boxes, BOX, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	return fd;
}

static bool keep(void)
{
	auto_close int dir_fd = make_ended();

	return spare_keep(boxes, BOX, dir_fd);
}

static bool take(const char *text, int *ret_dir, int *ret_owner)
{
	return spare_take(boxes, OTHER, text, strlen(text), ret_dir, ret_owner);
}

static bool exists(int at, const char *name)
{
	return faccessat(at, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void check_new(int box)
{
	auto_close int same = openat(box, SPEC_FILE, O_RDONLY | O_CLOEXEC);
	auto_buf struct buf b = { 0 };
	struct err e = { 0 };

	ck_ok(fd_read_file(boxes, OTHER "/" SPEC_FILE, 100, &b, &e), e);
	ck_assert_str_eq(b.data, "{}");
	ck_assert_int_lt(flock(same, LOCK_EX | LOCK_NB), 0);
	ck_assert(journal_is_empty(box));
	for (size_t i = 0; i < ARRAY_LEN(job_folders); i++)
		ck_assert(spare_is_pristine(box, job_folders[i]));
	ck_assert(!exists(box, "control") && !exists(box, "out.log"));
}

START_TEST(a_used_box_becomes_a_new_one)
{
	auto_close int box = -1, owner = -1;

	ck_assert(keep());
	ck_assert(!exists(boxes, BOX));
	ck_assert(take("{}", &box, &owner));
	check_new(box);
}
END_TEST

START_TEST(each_spare_is_taken_once)
{
	int box = -1, owner = -1;

	ck_assert(!take("{}", &box, &owner));
	ck_assert(keep());
	ck_assert(take("{}", &box, &owner));
	close(box);
	close(owner);
	ck_assert(!take("{}", &box, &owner));
}
END_TEST

static int open_spares(void)
{
	struct err e = { 0 };
	int fd = -1;

	ck_ok(fd_open_dir(boxes, "../spare", &fd, &e), e);
	return fd;
}

/* The one spare that there is. */
static void only_slot(int spares, char slot[16])
{
	for (unsigned i = 0; i < SPARES_MAX; i++) {
		snprintf(slot, 16, "%u", i);
		if (exists(spares, slot))
			return;
	}
	ck_abort_msg("no spare");
}

START_TEST(one_that_is_locked_is_not_taken)
{
	auto_close int spares = -1, lock = -1;
	char slot[16], path[40];
	int box = -1, owner = -1;

	ck_assert(keep());
	spares = open_spares();
	only_slot(spares, slot);
	snprintf(path, sizeof(path), "%s/" SPEC_FILE, slot);
	lock = openat(spares, path, O_RDONLY | O_CLOEXEC);
	ck_assert_int_eq(flock(lock, LOCK_EX | LOCK_NB), 0);
	ck_assert(!take("{}", &box, &owner));
}
END_TEST

/* Between the new name and the emptying. */
START_TEST(a_killed_maker_leaves_a_spare)
{
	auto_close int spares = -1, box = -1, owner = -1;
	char slot[16];

	ck_assert(keep());
	spares = open_spares();
	only_slot(spares, slot);
	ck_assert_int_eq(unlinkat(spares, slot, AT_REMOVEDIR), -1);
	ck_assert_int_eq(renameat(spares, slot, boxes, BOX), 0);
	put(JOURNAL_FILE, "{\"t\":\"begun\"}\n");
	put("control", "");
	put("out.log", "x");
	ck_assert_int_eq(renameat(boxes, BOX, spares, slot), 0);
	ck_assert(take("{}", &box, &owner));
	check_new(box);
}
END_TEST

START_TEST(no_more_than_so_many_are_kept)
{
	for (unsigned i = 0; i < SPARES_MAX; i++)
		ck_assert(keep());
	ck_assert(!keep());
	ck_assert(exists(boxes, BOX));
}
END_TEST

/* --- folders ---------------------------------------------------------------------------------- */

static void dirty_file(void)
{
	put("work/.hidden", "x");
}

static void dirty_mode(void)
{
	ck_assert_int_eq(fchmodat(boxes, BOX "/work", 0777, 0), 0);
}

static void dirty_attribute(void)
{
	char path[96];

	snprintf(path, sizeof(path), "%s/boxes/" BOX "/work", dir);
	if (setxattr(path, "user.note", "x", 1, 0) < 0)
		dirty_file(); /* a file system without them */
}

static void dirty_kind(void)
{
	ck_assert_int_eq(unlinkat(boxes, BOX "/work", AT_REMOVEDIR), 0);
	ck_assert_int_eq(symlinkat("tmp", boxes, BOX "/work"), 0);
}

static void dirty_gone(void)
{
	ck_assert_int_eq(unlinkat(boxes, BOX "/work", AT_REMOVEDIR), 0);
}

static void (*const dirty[])(void) = {
	dirty_file, dirty_mode, dirty_attribute, dirty_kind, dirty_gone,
};

START_TEST(what_a_job_has_changed_is_seen)
{
	auto_close int box = make_ended();

	ck_assert(spare_is_pristine(box, "work"));
	dirty[_i]();
	ck_assert(!spare_is_pristine(box, "work"));
}
END_TEST

static void tests(TCase *t)
{
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_used_box_becomes_a_new_one);
	tcase_add_test(t, each_spare_is_taken_once);
	tcase_add_test(t, one_that_is_locked_is_not_taken);
	tcase_add_test(t, a_killed_maker_leaves_a_spare);
	tcase_add_test(t, no_more_than_so_many_are_kept);
	tcase_add_loop_test(t, what_a_job_has_changed_is_seen, 0, ARRAY_LEN(dirty));
}

int main(void)
{
	return unit_main("exec/spare", tests);
}

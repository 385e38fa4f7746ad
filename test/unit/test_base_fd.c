/* SPDX-License-Identifier: MIT */
#include "base/fd.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "unit.h"

static char dir[32];
static int at = -1; /* the folder's descriptor */
static struct err e;

static void setup(void)
{
	umask(022);
	e = (struct err){ 0 };
	unit_mkdir(dir);
	ck_ok(fd_open_dir(AT_FDCWD, dir, &at, &e), e);
}

static void teardown(void)
{
	close(at);
	unit_rmdir(dir);
}

static void put(const char *name, const char *text)
{
	ck_ok(fd_write_file(at, name, text, strlen(text), 0644, false, &e), e);
}

static char *path(const char *name)
{
	static char out[128];

	snprintf(out, sizeof(out), "%s/%s", dir, name);
	return out;
}

static mode_t mode_of(const char *name)
{
	struct stat st;

	ck_assert_int_eq(fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW), 0);
	return st.st_mode & 07777;
}

static bool there(const char *name)
{
	return faccessat(at, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void check_content(const char *name, const char *text)
{
	auto_buf struct buf b = { 0 };

	ck_ok(fd_read_file(at, name, 1000, &b, &e), e);
	ck_assert_str_eq(b.data, text);
}

START_TEST(read_appends_up_to_max)
{
	auto_buf struct buf b = { 0 };

	put("f", "12345");
	put("empty", "");
	ck_ok(fd_read_file(at, "empty", 0, &b, &e), e);
	ck_assert_str_eq(b.data, "");
	ck_ok(fd_read_file(at, "f", 5, &b, &e), e);
	ck_ok(fd_read_file(at, "f", 5, &b, &e), e);
	ck_assert_str_eq(b.data, "1234512345");
	ck_fails(fd_read_file(at, "f", 4, &b, &e), EFBIG);
	ck_assert_int_eq(e.kind, ERR_INPUT);
}
END_TEST

/* An endless source is cut at the limit, not read into memory. */
START_TEST(read_of_an_endless_file)
{
	auto_buf struct buf b = { 0 };

	ck_fails(fd_read_file(AT_FDCWD, "/dev/zero", 1000, &b, &e), EFBIG);
	ck_assert_uint_le(b.cap, 65536);
}
END_TEST

START_TEST(read_follows_no_link_and_waits_for_nobody)
{
	auto_buf struct buf b = { 0 };

	ck_assert_int_eq(symlinkat("/etc/passwd", at, "link"), 0);
	ck_assert_int_eq(mkfifoat(at, "fifo", 0600), 0);
	ck_fails(fd_read_file(at, "link", 1 << 20, &b, &e), ELOOP);
	ck_ok(fd_read_file(at, "fifo", 10, &b, &e), e);
	ck_assert_uint_eq(b.len, 0);
	ck_fails(fd_read_file(at, ".", 10, &b, &e), EISDIR);
	ck_fails(fd_read_file(at, "none", 10, &b, &e), ENOENT);
	ck_has(e.msg, "open none: ");
}
END_TEST

START_TEST(write_replaces_and_leaves_nothing_else)
{
	ck_ok(fd_write_file(at, "f", "old", 3, 0644, true, &e), e);
	ck_ok(fd_write_file(at, "f", "new", 3, 0600, true, &e), e);
	check_content("f", "new");
	ck_assert_int_eq(mode_of("f"), 0600);
	ck_assert_int_eq(unlinkat(at, "f", 0), 0);
	ck_assert_int_eq(unlinkat(AT_FDCWD, dir, AT_REMOVEDIR), 0);
	ck_assert_int_eq(mkdir(dir, 0700), 0);
}
END_TEST

/* A crashed process of the same number may have left its temporary file, with any mode. */
START_TEST(write_over_a_stale_temporary)
{
	char temp[40];

	snprintf(temp, sizeof(temp), "f.%d.tmp", (int)getpid());
	put(temp, "stale and longer");
	ck_assert_int_eq(fchmodat(at, temp, 0666, 0), 0);
	ck_ok(fd_write_file(at, "f", "secret", 6, 0600, false, &e), e);
	check_content("f", "secret");
	ck_assert_int_eq(mode_of("f"), 0600);
	ck_assert(!there(temp));
}
END_TEST

START_TEST(write_through_a_link_is_refused)
{
	char temp[40];

	snprintf(temp, sizeof(temp), "f.%d.tmp", (int)getpid());
	put("victim", "intact");
	ck_assert_int_eq(symlinkat("victim", at, temp), 0);
	ck_ok(fd_write_file(at, "f", "x", 1, 0600, false, &e), e);
	check_content("victim", "intact");
	check_content("f", "x");
	/* The name itself may be a link: it is replaced, not followed. */
	ck_assert_int_eq(symlinkat("victim", at, "g"), 0);
	ck_ok(fd_write_file(at, "g", "y", 1, 0600, false, &e), e);
	check_content("victim", "intact");
}
END_TEST

START_TEST(write_that_fails_cleans_up)
{
	ck_fails(fd_write_file(at, "none/f", "x", 1, 0600, true, &e), ENOENT);
	ck_assert_int_eq(mkdirat(at, "d", 0700), 0);
	ck_fails(fd_write_file(at, "d", "x", 1, 0600, true, &e), EISDIR);
	ck_assert_int_eq(unlinkat(at, "d", AT_REMOVEDIR), 0);
	ck_assert_int_eq(unlinkat(AT_FDCWD, dir, AT_REMOVEDIR), 0);
	ck_assert_int_eq(mkdir(dir, 0700), 0);
}
END_TEST

START_TEST(write_in_a_sub_folder)
{
	ck_assert_int_eq(mkdirat(at, "d", 0700), 0);
	ck_ok(fd_write_file(at, "d/f", "x", 1, 0600, true, &e), e);
	check_content("d/f", "x");
}
END_TEST

START_TEST(rename_replaces_only_if_told)
{
	put("a", "a");
	put("b", "b");
	ck_fails(fd_rename_durable(at, "a", at, "b", true, &e), EEXIST);
	check_content("b", "b");
	ck_ok(fd_rename_durable(at, "a", at, "b", false, &e), e);
	check_content("b", "a");
	ck_fails(fd_rename_durable(at, "a", at, "c", true, &e), ENOENT);
}
END_TEST

START_TEST(mkdirs)
{
	ck_ok(fd_mkdirs(path("a/b//c/"), 0700, &e), e);
	ck_ok(fd_mkdirs(path("a/b//c/"), 0755, &e), e);
	ck_assert_int_eq(mode_of("a/b/c"), 0700);
	ck_ok(fd_mkdirs("/", 0700, &e), e);
	ck_assert_int_lt(fd_mkdirs("", 0700, &e), 0);
	put("file", "");
	ck_fails(fd_mkdirs(path("file/x"), 0700, &e), ENOTDIR);
	ck_fails(fd_mkdirs(path("file"), 0700, &e), ENOTDIR);
	ck_assert_int_eq(symlinkat("a", at, "link"), 0);
	ck_ok(fd_mkdirs(path("link/d"), 0700, &e), e);
	ck_ok(fd_mkdirs(path("link"), 0700, &e), e);
}
END_TEST

START_TEST(make_dir_opens_what_it_made)
{
	auto_close int fd = -1;

	ck_ok(fd_make_dir(path("x/y"), 0750, &fd, &e), e);
	ck_assert_int_eq(mode_of("x/y"), 0750);
	ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	ck_fails(fd_open_dir(at, "none", &fd, &e), ENOENT);
}
END_TEST

/* The operator may keep a configured folder on another disk, by a link. */
START_TEST(make_dir_accepts_a_linked_folder)
{
	auto_close int fd = -1;

	ck_assert_int_eq(mkdirat(at, "disk", 0700), 0);
	ck_assert_int_eq(symlinkat("disk", at, "state"), 0);
	ck_ok(fd_make_dir(path("state"), 0700, &fd, &e), e);
	ck_fails(fd_open_dir(at, "state", &fd, &e), ENOTDIR);
}
END_TEST

START_TEST(rmtree_removes_everything)
{
	ck_ok(fd_mkdirs(path("t/a/b"), 0700, &e), e);
	put("t/a/f", "x");
	put("keep", "kept");
	ck_assert_int_eq(symlinkat("../../keep", at, "t/a/link"), 0);
	ck_assert_int_eq(symlinkat("..", at, "t/up"), 0);
	ck_assert_int_eq(mkfifoat(at, "t/fifo", 0), 0);
	ck_assert_int_eq(fchmodat(at, "t/a/b", 0, 0), 0);
	ck_assert_int_eq(fchmodat(at, "t/a", 0, 0), 0);
	if (_i)
		unit_lose_openat2();
	ck_ok(fd_rmtree(at, "t", &e), e);
	ck_assert(!there("t"));
	check_content("keep", "kept");
	ck_ok(fd_rmtree(at, "t", &e), e);
	ck_ok(fd_rmtree(at, "keep", &e), e);
	ck_assert(!there("keep"));
}
END_TEST

START_TEST(rmtree_of_a_link_removes_the_link)
{
	ck_assert_int_eq(mkdirat(at, "d", 0755), 0);
	put("d/f", "x");
	ck_assert_int_eq(symlinkat("d", at, "link"), 0);
	ck_ok(fd_rmtree(at, "link", &e), e);
	ck_assert(!there("link"));
	check_content("d/f", "x");
}
END_TEST

static void make_deep(const char *name, unsigned depth)
{
	int fd = dup(at);

	for (unsigned i = 0; i <= depth; i++) {
		int next;

		ck_assert_int_eq(mkdirat(fd, i ? "d" : name, 0700), 0);
		next = openat(fd, i ? "d" : name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		ck_assert_int_ge(next, 0);
		close(fd);
		fd = next;
	}
	close(fd);
}

/* A job must not be able to leave a tree that cannot be removed. */
START_TEST(rmtree_of_a_very_deep_tree)
{
	make_deep("deep", 700);
	ck_ok(fd_rmtree(at, "deep", &e), e);
	ck_assert(!there("deep"));
	ck_assert_int_eq(unlinkat(AT_FDCWD, dir, AT_REMOVEDIR), 0);
	ck_assert_int_eq(mkdir(dir, 0700), 0);
}
END_TEST

START_TEST(rmtree_of_a_wide_tree)
{
	char name[64];

	ck_assert_int_eq(mkdirat(at, "wide", 0700), 0);
	for (int i = 0; i < 1500; i++) {
		snprintf(name, sizeof(name), "wide/a-rather-long-name-%d", i);
		ck_assert_int_eq(mkdirat(at, name, 0700), 0);
	}
	ck_ok(fd_rmtree(at, "wide", &e), e);
	ck_assert(!there("wide"));
}
END_TEST

/* A bind mount has the same device number as its surroundings: only the mount tells them apart. */
START_TEST(rmtree_stays_on_its_mount)
{
	char target[64];

	ck_ok(fd_mkdirs(path("t/mnt"), 0700, &e), e);
	ck_assert_int_eq(mkdirat(at, "outside", 0700), 0);
	put("outside/f", "kept");
	/* In a mount namespace of this process, so that nothing can stay behind. */
	if (unshare(CLONE_NEWNS) < 0) {
		ck_assert_int_eq(errno, EPERM);
		return; /* only the privileged can make the case */
	}
	snprintf(target, sizeof(target), "%s/t/mnt", dir);
	ck_assert_int_eq(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	ck_assert_int_eq(mount(path("outside"), target, NULL, MS_BIND, NULL), 0);
	/* The descriptor of before leads to the other namespace's mounts. */
	close(at);
	ck_ok(fd_open_dir(AT_FDCWD, dir, &at, &e), e);
	if (_i)
		unit_lose_openat2();
	ck_fails(fd_rmtree(at, "t", &e), EXDEV);
	check_content("outside/f", "kept");
	ck_assert_int_eq(umount2(target, MNT_DETACH), 0);
	ck_ok(fd_rmtree(at, "t", &e), e);
}
END_TEST

START_TEST(beneath)
{
	static const struct {
		const char *path;
		int code;
	} t[] = {
		{ "d/f", 0 },           { "./d/f", 0 },       { "../x", EXDEV },
		{ "d/../../x", EXDEV }, { "/etc", EXDEV },    { "up/f", ELOOP },
		{ "d/link", ELOOP },    { "", ENOENT },       { "none", ENOENT },
		{ "d/f/g", ENOTDIR },   { "d//f", 0 },        { "d/", 0 },
		{ "..", EXDEV },        { "none/f", ENOENT },
	};
	const size_t n = ARRAY_LEN(t), i = (size_t)_i % n;
	auto_close int fd = -1;
	int r;

	ck_assert_int_eq(mkdirat(at, "d", 0700), 0);
	put("d/f", "x");
	ck_assert_int_eq(symlinkat("d", at, "up"), 0);
	ck_assert_int_eq(symlinkat("f", at, "d/link"), 0);
	if ((size_t)_i >= n)
		unit_lose_openat2();
	r = fd_open_beneath(at, t[i].path, O_RDONLY, 0, &fd, &e);
	ck_assert_msg(r == -t[i].code, "'%s': %d", t[i].path, r);
	if (r == 0)
		ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	else
		ck_assert_int_eq(fd, -1);
}
END_TEST

START_TEST(beneath_creates)
{
	auto_close int fd = -1;

	if (_i)
		unit_lose_openat2();
	ck_ok(fd_open_beneath(at, "new", O_WRONLY | O_CREAT | O_EXCL, 0640, &fd, &e), e);
	ck_assert_int_eq(mode_of("new"), 0640);
}
END_TEST

START_TEST(same_folder_by_another_way)
{
	auto_close int a = -1, b = -1, c = -1;

	ck_assert_int_eq(mkdirat(at, "a", 0700), 0);
	ck_assert_int_eq(mkdirat(at, "c", 0700), 0);
	ck_assert_int_eq(symlinkat("a", at, "link"), 0);
	ck_ok(fd_open_dir(at, "a", &a, &e), e);
	ck_ok(fd_open_dir(at, "a", &b, &e), e);
	ck_ok(fd_open_dir(at, "c", &c, &e), e);
	ck_assert(fd_same(a, b));
	ck_assert(!fd_same(a, c));
	ck_assert(!fd_same(a, -1) && !fd_same(-1, a));
	ck_assert(fd_is_at(a, at, "a", AT_SYMLINK_NOFOLLOW));
	ck_assert(fd_is_at(a, at, "link", 0));
	ck_assert(!fd_is_at(a, at, "link", AT_SYMLINK_NOFOLLOW));
	ck_assert(!fd_is_at(a, at, "c", 0));
	ck_assert(!fd_is_at(a, at, "none", 0));
	ck_assert_int_eq(unlinkat(at, "a", AT_REMOVEDIR), 0);
	ck_assert_int_eq(mkdirat(at, "a", 0700), 0);
	ck_assert(!fd_is_at(a, at, "a", 0));
	ck_assert(fd_same(a, b));
}
END_TEST

/* The roots of two file systems of a kind have the same number. */
START_TEST(same_number_elsewhere)
{
	auto_close int a = -1, b = -1;
	struct stat x, y;

	if (unshare(CLONE_NEWNS) < 0) {
		ck_assert_int_eq(errno, EPERM);
		return; /* only the privileged can make the case */
	}
	ck_ok(fd_mkdirs(path("a"), 0700, &e), e);
	ck_ok(fd_mkdirs(path("b"), 0700, &e), e);
	ck_assert_int_eq(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	ck_assert_int_eq(mount("none", path("a"), "tmpfs", 0, NULL), 0);
	ck_assert_int_eq(mount("none", path("b"), "tmpfs", 0, NULL), 0);
	ck_ok(fd_open_dir(AT_FDCWD, path("a"), &a, &e), e);
	ck_ok(fd_open_dir(AT_FDCWD, path("b"), &b, &e), e);
	ck_assert(fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_ino == y.st_ino);
	ck_assert(!fd_same(a, b));
	ck_assert(!fd_is_at(a, AT_FDCWD, path("b"), 0));
	ck_assert_int_eq(umount2(path("a"), MNT_DETACH), 0);
	ck_assert_int_eq(umount2(path("b"), MNT_DETACH), 0);
}
END_TEST

START_TEST(lock_is_exclusive)
{
	auto_close int a = -1, b = -1;

	ck_ok(fd_lock(at, "l", false, &a, &e), e);
	ck_fails(fd_lock(at, "l", false, &b, &e), EWOULDBLOCK);
	ck_assert_int_eq(e.kind, ERR_TRANSIENT);
	ck_assert_int_eq(b, -1);
	close(take_fd(a));
	ck_ok(fd_lock(at, "l", true, &b, &e), e);
	ck_assert(there("l"));
}
END_TEST

START_TEST(lock_through_a_link_is_refused)
{
	auto_close int a = -1;

	ck_assert_int_eq(symlinkat("elsewhere", at, "l"), 0);
	ck_fails(fd_lock(at, "l", false, &a, &e), ELOOP);
	ck_assert(!there("elsewhere"));
}
END_TEST

START_TEST(write_all_to_a_slow_reader)
{
	static char big[300000];
	char piece[1000];
	size_t got = 0;
	int p[2];
	pid_t pid;

	ck_assert_int_eq(pipe2(p, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		close(p[0]);
		_exit(fd_write_all(p[1], big, sizeof(big)) == 0 ? 0 : 1);
	}
	close(p[1]);
	for (ssize_t n; (n = read(p[0], piece, sizeof(piece))) > 0;)
		got += (size_t)n;
	close(p[0]);
	ck_assert_uint_eq(got, sizeof(big));
	waitpid(pid, NULL, 0);
	ck_fails(fd_write_all(-1, "x", 1), EBADF);
}
END_TEST

START_TEST(nonblock_and_space)
{
	uint64_t bytes = 0;
	int p[2];
	char c;

	ck_assert_int_eq(pipe2(p, O_CLOEXEC), 0);
	ck_assert_int_eq(fd_set_nonblock(p[0], true), 0);
	ck_assert_int_eq(read(p[0], &c, 1), -1);
	ck_assert_int_eq(errno, EAGAIN);
	ck_assert_int_eq(fd_set_nonblock(p[0], false), 0);
	ck_assert_int_eq(fcntl(p[0], F_GETFL) & O_NONBLOCK, 0);
	close(p[0]);
	close(p[1]);
	ck_fails(fd_set_nonblock(-1, true), EBADF);
	ck_ok(fd_free_bytes(dir, &bytes, &e), e);
	ck_assert_uint_gt(bytes, 0);
	ck_fails(fd_free_bytes(path("none"), &bytes, &e), ENOENT);
}
END_TEST

static void tests(TCase *t)
{
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, read_appends_up_to_max);
	tcase_add_test(t, read_of_an_endless_file);
	tcase_add_test(t, read_follows_no_link_and_waits_for_nobody);
	tcase_add_test(t, write_replaces_and_leaves_nothing_else);
	tcase_add_test(t, write_over_a_stale_temporary);
	tcase_add_test(t, write_through_a_link_is_refused);
	tcase_add_test(t, write_that_fails_cleans_up);
	tcase_add_test(t, write_in_a_sub_folder);
	tcase_add_test(t, rename_replaces_only_if_told);
	tcase_add_test(t, mkdirs);
	tcase_add_test(t, make_dir_opens_what_it_made);
	tcase_add_test(t, make_dir_accepts_a_linked_folder);
	tcase_add_loop_test(t, rmtree_removes_everything, 0, 2);
	tcase_add_test(t, rmtree_of_a_link_removes_the_link);
	tcase_add_test(t, rmtree_of_a_very_deep_tree);
	tcase_add_test(t, rmtree_of_a_wide_tree);
	tcase_add_loop_test(t, rmtree_stays_on_its_mount, 0, 2);
	tcase_add_loop_test(t, beneath, 0, 28);
	tcase_add_loop_test(t, beneath_creates, 0, 2);
	tcase_add_test(t, same_folder_by_another_way);
	tcase_add_test(t, same_number_elsewhere);
	tcase_add_test(t, lock_is_exclusive);
	tcase_add_test(t, lock_through_a_link_is_refused);
	tcase_add_test(t, write_all_to_a_slow_reader);
	tcase_add_test(t, nonblock_and_space);
}

int main(void)
{
	return unit_main("base/fd", tests);
}

/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/str.h"
#include "exec/logfile.h"

#include "unit.h"

static char dir[32];
static int dirfd_ = -1;

static void setup(void)
{
	struct err e = { 0 };

	unit_mkdir(dir);
	ck_ok(fd_open_dir(AT_FDCWD, dir, &dirfd_, &e), e);
}

static void teardown(void)
{
	close(dirfd_);
	unit_rmdir(dir);
}

static char at(uint64_t i)
{
	return (char)('a' + i * 7 % 26);
}

/* Streams of every length around the corners, in chunks of every size, byte for byte. */
static void one(uint64_t cap, uint64_t total, size_t chunk)
{
	auto_buf struct buf want = { 0 }, got = { 0 };
	uint64_t tail = cap / 4, head = cap - tail;
	auto_done(logfile) l;
	struct err e = { 0 };
	char data[1024];

	logfile_init(&l, dirfd_, "out.log", cap);
	for (uint64_t pos = 0; pos < total;) {
		size_t n = chunk < total - pos ? chunk : (size_t)(total - pos);

		for (size_t i = 0; i < n; i++)
			data[i] = at(pos + i);
		logfile_add(&l, data, n);
		pos += n;
	}
	logfile_finish(&l);
	ck_assert_int_eq(l.error, 0);
	ck_assert_uint_eq(l.total, total);
	ck_assert_int_eq(logfile_truncated(&l), total > cap);
	for (uint64_t i = 0; i < total; i++) {
		char c = at(i);

		if (total > cap && i == head)
			ck_assert_int_eq(
				buf_fmt(&want, LOGFILE_MARKER, (unsigned long long)(total - cap)),
				0);
		if (total <= cap || i < head || i >= total - tail)
			ck_assert_int_eq(buf_add(&want, &c, 1), 0);
	}
	if (total)
		ck_ok(fd_read_file(dirfd_, "out.log", 1u << 20, &got, &e), e);
	ck_assert_uint_eq(l.size, want.len);
	ck_assert_uint_eq(got.len, want.len);
	if (want.len)
		ck_assert_mem_eq(got.data, want.data, want.len);
}

START_TEST(exact)
{
	for (uint64_t total = 0; total < 420; total += total < 20 || total > 380 ? 1 : 13)
		for (size_t chunk = 1; chunk < 450; chunk = chunk * 2 + 3)
			one(100, total, chunk);
}
END_TEST

START_TEST(no_stray_files)
{
	auto_done(logfile) l;
	struct stat st;

	logfile_init(&l, dirfd_, "out.log", 64);
	ck_assert_int_lt(fstatat(dirfd_, "out.log", &st, 0), 0);
	for (int i = 0; i < 100; i++)
		logfile_add(&l, "0123456789", 10);
	ck_assert_int_lt(fstatat(dirfd_, "out.log.tail", &st, 0), 0);
	ck_assert_int_eq(fstat(l.tail_fd, &st), 0);
	ck_assert_int_le(st.st_size, 16);
	ck_assert_int_eq(fstatat(dirfd_, "out.log", &st, 0), 0);
	ck_assert_int_eq(st.st_size, 48);
}
END_TEST

START_TEST(full_disk)
{
	auto_close int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
	auto_done(logfile) l;

	logfile_init(&l, dirfd_, "out.log", 100);
	l.fd = take_fd(full);
	logfile_add(&l, "0123456789", 10);
	logfile_add(&l, "0123456789", 10);
	logfile_finish(&l);
	ck_assert_int_eq(l.error, ENOSPC);
	ck_assert_uint_eq(l.total, 20);
	ck_assert(logfile_truncated(&l));
}
END_TEST

static void tests(TCase *t)
{
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 20);
	tcase_add_test(t, exact);
	tcase_add_test(t, no_stray_files);
	tcase_add_test(t, full_disk);
}

int main(void)
{
	return unit_main("exec/logfile", tests);
}

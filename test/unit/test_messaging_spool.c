/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "messaging/spool.h"
#include "unit.h"

#define SEGMENT 4096

static char dir[32];
static struct loop *loop;
static uint64_t durable;

static void setup(void)
{
	struct err e = { 0 };

	unit_mkdir(dir);
	durable = 0;
	ck_ok(loop_new(&loop, &e), e);
}

static void teardown(void)
{
	loop_free(loop);
	unit_rmdir(dir);
}

static void on_durable(void *user, uint64_t id)
{
	struct loop *l = user;

	durable = id;
	if (l)
		loop_exit(l, 0);
}

static const struct spool_ops ops = { .on_durable = on_durable };

static struct spool *open_spool(uint64_t bytes_max, uint64_t *cut)
{
	struct spool *s = NULL;
	struct err e = { 0 };

	ck_ok(spool_open(loop, dir, bytes_max, SEGMENT, &ops, NULL, &s, cut, &e), e);
	return s;
}

static uint64_t put(struct spool *s, int i)
{
	struct err e = { 0 };
	char text[128];
	uint64_t id = 0;
	int n = snprintf(text, sizeof(text), "record %d %0*d", i, i % 90 + 1, 7);

	ck_ok(spool_append(s, text, (size_t)n, &id, &e), e);
	return id;
}

static void expect(struct spool *s, uint64_t *id, int i)
{
	auto_buf struct buf b = { 0 };
	struct err e = { 0 };
	char text[32];

	ck_assert_msg(spool_next(s, id, &b, &e) == 1, "record %d: %s", i, e.msg);
	snprintf(text, sizeof(text), "record %d ", i);
	ck_assert_msg(strncmp(b.data, text, strlen(text)) == 0, "%s is not %s", b.data, text);
}

static void expect_end(struct spool *s, uint64_t id)
{
	auto_buf struct buf b = { 0 };
	struct err e = { 0 };

	ck_assert_int_eq(spool_next(s, &id, &b, &e), 0);
}

static int files(void)
{
	struct dirent *de;
	DIR *d = opendir(dir);
	int n = 0;

	while ((de = readdir(d)))
		n += strstr(de->d_name, ".seg") != NULL;
	closedir(d);
	return n;
}

START_TEST(nothing_is_read_before_it_is_durable)
{
	auto_spool struct spool *s = open_spool(1 << 20, NULL);
	struct err e = { 0 };
	uint64_t id = 0;

	ck_assert_uint_eq(put(s, 1), 1);
	ck_assert_uint_eq(put(s, 2), 2);
	expect_end(s, 0);
	ck_assert_uint_eq(durable, 0);
	ck_ok(spool_sync(s, &e), e);
	ck_assert_uint_eq(durable, 2);
	expect(s, &id, 1);
	expect(s, &id, 2);
	expect_end(s, id);
}
END_TEST

START_TEST(the_loop_syncs_by_itself)
{
	struct spool *s = NULL;
	struct err e = { 0 };
	uint64_t id;

	ck_ok(spool_open(loop, dir, 1 << 20, SEGMENT, &ops, loop, &s, NULL, &e), e);
	ck_ok(spool_append(s, "x", 1, &id, &e), e);
	ck_ok(loop_run(loop, &e), e);
	ck_assert_uint_eq(durable, 1);
	spool_close(s);
}
END_TEST

START_TEST(order_survives_segments_and_restart)
{
	struct spool *s = open_spool(1 << 20, NULL);
	struct err e = { 0 };
	uint64_t id = 0;

	for (int i = 1; i <= 500; i++) {
		put(s, i);
		if (i % 7 == 0)
			ck_ok(spool_sync(s, &e), e);
	}
	spool_close(s);
	ck_assert_int_gt(files(), 3);
	s = open_spool(1 << 20, NULL);
	ck_assert_uint_eq(spool_records(s), 500);
	for (int i = 1; i <= 500; i++)
		expect(s, &id, i);
	expect_end(s, id);
	spool_close(s);
}
END_TEST

START_TEST(confirmed_records_go)
{
	struct spool *s = open_spool(1 << 20, NULL);
	struct err e = { 0 };
	uint64_t id = 0;

	for (int i = 1; i <= 300; i++) {
		put(s, i);
		if (i % 50 == 0)
			ck_ok(spool_sync(s, &e), e);
	}
	for (uint64_t k = 300; k >= 1; k--)
		if (k != 77)
			spool_drop(s, k);
	spool_drop(s, 300); /* twice is once */
	spool_drop(s, 999);
	ck_assert_uint_eq(spool_records(s), 1);
	expect(s, &id, 77);
	ck_assert_uint_eq(id, 77);
	expect_end(s, id);
	spool_drop(s, 77);
	spool_close(s);
	ck_assert_int_eq(files(), 0);
}
END_TEST

/* Whatever a crash leaves of the last record, those before it are whole. */
START_TEST(torn_tail_is_cut)
{
	struct spool *s = open_spool(1 << 20, NULL);
	uint64_t cut = 0, id = 0;
	struct stat st;
	char path[96];
	int fd;

	put(s, 1);
	put(s, 2);
	put(s, 3);
	spool_close(s);
	snprintf(path, sizeof(path), "%s/%016x.seg", dir, 0);
	ck_assert_int_eq(stat(path, &st), 0);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (_i % 2)
		ck_assert_int_eq(ftruncate(fd, st.st_size - 1 - _i), 0);
	else
		ck_assert_int_eq(pwrite(fd, "\xff", 1, st.st_size - 1 - _i), 1);
	close(fd);
	s = open_spool(1 << 20, &cut);
	ck_assert_uint_eq(spool_records(s), 2);
	ck_assert_uint_gt(cut, 0);
	expect(s, &id, 1);
	expect(s, &id, 2);
	expect_end(s, id);
	/* New records are not behind the damage. */
	put(s, 4);
	spool_close(s);
	s = open_spool(1 << 20, &cut);
	ck_assert_uint_eq(spool_records(s), 3);
	spool_close(s);
}
END_TEST

START_TEST(it_is_bounded)
{
	auto_spool struct spool *s = open_spool(600, NULL);
	struct err e = { 0 };
	uint64_t id = 0;
	int n = 0;

	while (spool_append(s, "0123456789", 10, &id, &e) == 0)
		n++;
	ck_assert_int_eq(e.code, ENOSPC);
	ck_assert_int_eq(e.kind, ERR_TRANSIENT);
	ck_assert_int_eq(n, 600 / 26);
	ck_fails(spool_append(s, "", SPOOL_RECORD_MAX + 1, &id, &e), EMSGSIZE);
}
END_TEST

START_TEST(one_process_per_folder)
{
	auto_spool struct spool *s unused_arg = open_spool(1 << 20, NULL);
	struct spool *other = NULL;
	struct err e = { 0 };

	ck_fails(spool_open(loop, dir, 1 << 20, SEGMENT, &ops, NULL, &other, NULL, &e),
		 EWOULDBLOCK);
}
END_TEST

static void tests(TCase *t)
{
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, nothing_is_read_before_it_is_durable);
	tcase_add_test(t, the_loop_syncs_by_itself);
	tcase_add_test(t, order_survives_segments_and_restart);
	tcase_add_test(t, confirmed_records_go);
	tcase_add_loop_test(t, torn_tail_is_cut, 0, 20);
	tcase_add_test(t, it_is_bounded);
	tcase_add_test(t, one_process_per_folder);
}

int main(void)
{
	return unit_main("messaging/spool", tests);
}

/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "messaging/pikefile.h"
#include "messaging/pikepairs.h"
#include "unit.h"

static char dir[32];
static int fd;

static void setup(void)
{
	unit_mkdir(dir);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
}

static void teardown(void)
{
	close(fd);
	unit_rmdir(dir);
}

static void put(const char *stem, long sec)
{
	const struct timespec times[] = { { sec, 0 }, { sec, 0 } };
	struct err e = { 0 };
	char name[64];

	snprintf(name, sizeof(name), "%s.done", stem);
	ck_ok(fd_write_file(fd, name, "", 0, 0644, false, &e), e);
	ck_assert_int_eq(utimensat(fd, name, times, 0), 0);
}

static void check_order(struct pair_list *list, const char *want)
{
	struct pair *a;
	char got[64] = "";
	size_t n = 0;

	TAILQ_FOREACH (a, list, entry)
		n += (size_t)snprintf(got + n, sizeof(got) - n, "%s", a->stem);
	ck_assert_str_eq(got, want);
}

static struct pair *find(struct pair_list *list, const char *stem)
{
	struct pair *a;

	TAILQ_FOREACH (a, list, entry)
		if (strcmp(a->stem, stem) == 0)
			return a;
	return NULL;
}

START_TEST(what_comes_later_is_put_between_by_its_time)
{
	struct pikepairs q;
	struct err e = { 0 };

	pikepairs_init(&q);
	put("c", 10);
	put("a", 30);
	put("b", 20);
	ck_ok(pikepairs_list(&q, fd, &e), e);
	check_order(&q.unread, "cba");
	put("g", 5);
	put("f", 25);
	put("e", 40);
	put("d", 25);
	ck_ok(pikepairs_list(&q, fd, &e), e);
	check_order(&q.unread, "gcbdfae");
	pikepairs_enqueue(&q, find(&q.unread, "a"));
	pikepairs_enqueue(&q, find(&q.unread, "g"));
	pikepairs_enqueue(&q, find(&q.unread, "f"));
	check_order(&q.queue, "gfa");
	ck_assert_uint_eq(q.n_queued, 3);
	/* One that is spent is known still. */
	pikepairs_spend(&q, find(&q.queue, "f"));
	pikepairs_drop(&q, find(&q.queue, "g"));
	ck_ok(pikepairs_list(&q, fd, &e), e);
	check_order(&q.unread, "gcbde");
	check_order(&q.queue, "a");
	check_order(&q.spent, "f");
	ck_assert_uint_eq(q.n_queued, 1);
	pikepairs_done(&q);
}
END_TEST

START_TEST(the_word_is_said_whatever_has_its_name)
{
	struct err e = { 0 };
	struct stat st;

	ck_ok(pikefile_say(fd, "plain", &e), e);
	ck_ok(pikefile_say(fd, "plain", &e), e);
	ck_assert_int_eq(mkfifoat(fd, "fifo.done", 0600), 0);
	ck_assert_int_eq(symlinkat("elsewhere", fd, "link.done"), 0);
	ck_ok(pikefile_say(fd, "fifo", &e), e);
	ck_ok(pikefile_say(fd, "link", &e), e);
	ck_assert_int_eq(fstatat(fd, "fifo.done", &st, AT_SYMLINK_NOFOLLOW), 0);
	ck_assert(S_ISREG(st.st_mode) && st.st_size == 0);
	ck_assert_int_eq(fstatat(fd, "link.done", &st, AT_SYMLINK_NOFOLLOW), 0);
	ck_assert(S_ISREG(st.st_mode));
	ck_fails(fstatat(fd, "elsewhere", &st, 0) < 0 ? -errno : 0, ENOENT);
	/* A folder is somebody's, and stays. */
	ck_assert_int_eq(mkdirat(fd, "folder.done", 0700), 0);
	ck_fails(pikefile_say(fd, "folder", &e), EEXIST);
}
END_TEST

static void tests(TCase *t)
{
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, what_comes_later_is_put_between_by_its_time);
	tcase_add_test(t, the_word_is_said_whatever_has_its_name);
}

int main(void)
{
	return unit_main("messaging/pikepairs", tests);
}

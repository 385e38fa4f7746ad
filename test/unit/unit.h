/* SPDX-License-Identifier: MIT */
/*
 * The frame of a unit test program:
 *
 *	static void tests(TCase *t) { tcase_add_test(t, first); ... }
 *	int main(void) { return unit_main("base/str", tests); }
 *
 * check runs every test in a process of its own. After each one the open descriptors are compared
 * with those before it, so a leaked descriptor fails the very test that leaked it.
 */
#ifndef ZR_UNIT_H
#define ZR_UNIT_H

#include <check.h>
#include <dirent.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"

/* A call that must succeed; what it said is printed otherwise. */
#define ck_ok(call, e)                                                                             \
	do {                                                                                       \
		int r_ = (call);                                                                   \
		ck_assert_msg(r_ >= 0, "%s: %d: %s", #call, r_, (e).msg);                          \
	} while (0)

/* A call that must fail with -code; the words are left to the test. */
#define ck_fails(call, code) ck_assert_int_eq((call), -(code))

#define ck_has(text, part)                                                                         \
	ck_assert_msg(strstr((text), (part)) != NULL, "no '%s' in '%s'", (part), (text))

/* What RestrictSUIDSGID= of a unit does to this process. */
static inline void unit_lose_openat2(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = ARRAY_LEN(code), .filter = code };

	ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	ck_assert_int_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

/* The open descriptors as text, "0 1 2 5"; the folder's own is left out. */
static inline void unit_fds(char *out, size_t size)
{
	DIR *d = opendir("/proc/self/fd");
	size_t n = 0;

	ck_assert_ptr_nonnull(d);
	out[0] = '\0';
	for (struct dirent *de; (de = readdir(d));)
		if (de->d_name[0] != '.' && atoi(de->d_name) != dirfd(d) && n < size)
			n += (size_t)snprintf(out + n, size - n, "%s ", de->d_name);
	closedir(d);
}

static char unit_fds_before[1024];

static inline void unit_note_fds(void)
{
	unit_fds(unit_fds_before, sizeof(unit_fds_before));
}

static inline void unit_check_fds(void)
{
	char now[sizeof(unit_fds_before)];

	unit_fds(now, sizeof(now));
	ck_assert_msg(strcmp(now, unit_fds_before) == 0, "descriptors before: %s after: %s",
		      unit_fds_before, now);
}

/* A folder of the test's own, removed by unit_rmdir(). */
static inline char *unit_mkdir(char out[32])
{
	strcpy(out, "/tmp/zr-unit-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(out));
	return out;
}

static inline void unit_rmdir(const char *dir)
{
	struct err e = { 0 };

	ck_ok(fd_rmtree(AT_FDCWD, dir, &e), e);
}

/* The manager's end of sd_notify(3), at a name that the kernel chooses; NOTIFY_SOCKET is set. */
static inline int unit_manager(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	socklen_t n = sizeof(a);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	char name[128];

	ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof(sa_family_t)), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&a, &n), 0);
	snprintf(name, sizeof(name), "@%s", a.sun_path + 1);
	setenv("NOTIFY_SOCKET", name, 1);
	return fd;
}

/* The next word to the manager, "" if there is none. */
static inline const char *unit_heard(int fd)
{
	static char text[256];
	ssize_t n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);

	text[n < 0 ? 0 : n] = '\0';
	return text;
}

static inline int unit_main(const char *name, void (*add)(TCase *t))
{
	Suite *s = suite_create(name);
	TCase *t = tcase_create("all");
	SRunner *r;
	int failed;

	/* For what hangs; a busy machine must not fail a test. CK_TIMEOUT_MULTIPLIER scales it. */
	tcase_set_timeout(t, 30);
	/* The first set-up runs first and its teardown last: what other fixtures open is counted. */
	tcase_add_checked_fixture(t, unit_note_fds, unit_check_fds);
	add(t);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}

#endif

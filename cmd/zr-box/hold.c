/* SPDX-License-Identifier: MIT */
/*
 * zr-box --hold: the main process of zr-boxes.service. It owns the delegated control group below
 * which boxes live, so that zr-eval.service can be restarted while they run. It moves itself out of
 * the way, makes the controllers available to the boxes, says READY and sleeps.
 */
#include <errno.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "keeper.h"

/* Our v2 group's directory: only a pure v2 host runs systemd units in one, at this place. */
static int own_group(char *out, size_t size, struct err *e)
{
	auto_buf struct buf b = { 0 };
	int r = fd_read_file(AT_FDCWD, "/proc/self/cgroup", 1u << 20, &b, e);
	char *p = b.data;
	struct statfs fs;

	if (r < 0)
		return r;
	if (p && !str_starts(p, "0::/"))
		p = strstr(p, "\n0::/");
	if (!p)
		return err_set(e, ENOENT, ERR_HOST, "this host has no cgroup version 2");
	p = strchr(p, '/');
	p[strcspn(p, "\n")] = '\0';
	if ((size_t)snprintf(out, size, "/sys/fs/cgroup%s", p) >= size)
		return err_set(e, ENAMETOOLONG, ERR_HOST, "the path of our cgroup is too long");
	if (statfs(out, &fs) < 0 || fs.f_type != CGROUP2_SUPER_MAGIC)
		return err_set(
			e, ENOTSUP, ERR_HOST,
			"%s is not cgroup version 2: --hold is for hosts that have only that", out);
	return 0;
}

static int write_text(int dir, const char *name, const char *text)
{
	auto_close int fd = openat(dir, name, O_WRONLY | O_CLOEXEC);

	return fd < 0 || write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

static int prepare_group(struct err *e)
{
	static const char *const wanted[] = { "+memory", "+pids", "+cpu", "+cpuset" };
	auto_close int dir = -1;
	char path[4096];
	int r = own_group(path, sizeof(path), e);

	if (r == 0)
		r = fd_open_dir(AT_FDCWD, path, &dir, e);
	if (r < 0)
		return r;
	/* A group with controllers for its children may not have processes of its own. */
	if (mkdirat(dir, "holder", 0755) < 0 && errno != EEXIST)
		return err_sys(e, "make %s/holder", path);
	r = write_text(dir, "holder/cgroup.procs", "0");
	if (r < 0)
		return err_errno(e, r, "move to %s/holder", path);
	for (size_t i = 0; i < ARRAY_LEN(wanted); i++)
		(void)write_text(dir, "cgroup.subtree_control", wanted[i]);
	return 0;
}

/* sd_notify(3), which is in a library that this program does not have. */
static void say_ready(void)
{
	static const char text[] = "READY=1";
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	const char *path = getenv("NOTIFY_SOCKET");
	auto_close int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	size_t n = path ? strlen(path) : 0;

	if (fd < 0 || !n || n >= sizeof(a.sun_path))
		return;
	memcpy(a.sun_path, path, n);
	if (a.sun_path[0] == '@')
		a.sun_path[0] = '\0';
	(void)sendto(fd, text, sizeof(text) - 1, MSG_NOSIGNAL, (struct sockaddr *)&a,
		     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
}

int hold(void)
{
	struct err e = { 0 };

	if (prepare_group(&e) < 0) {
		fprintf(stderr, "zr-box: %s\n", e.msg);
		return 1;
	}
	say_ready();
	for (;;)
		pause();
}

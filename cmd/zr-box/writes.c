/* SPDX-License-Identifier: MIT */
/*
 * Writes outside the box. The kernel counts no attempt to write what is read-only, so with
 * watch_writes each call that would change a file is shown to the keeper first. It reads the path and
 * lets the call go on: the walls decide, this only counts. A job that changes the path in between, in
 * another thread, deceives the count and nothing else.
 */
#include <fcntl.h>
#include <limits.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/str.h"
#include "exec/sandbox.h"
#include "filter.h"
#include "jail.h"
#include "keeper.h"

enum {
	PAGE = 4096,
};

/* The text at an address of a process, page by page: what follows it may not be there. */
static bool read_text(pid_t pid, uint64_t address, char *out, size_t size)
{
	size_t got = 0;

	while (got < size - 1) {
		uint64_t at = address + got;
		size_t n = PAGE - (size_t)(at % PAGE);
		struct iovec to = { .iov_base = out + got };
		struct iovec from = { .iov_base = (void *)(uintptr_t)at };
		ssize_t r;

		n = n < size - 1 - got ? n : size - 1 - got;
		to.iov_len = from.iov_len = n;
		r = process_vm_readv(pid, &to, 1, &from, 1, 0);
		if (r <= 0)
			return false;
		if (memchr(out + got, '\0', (size_t)r))
			return true;
		got += (size_t)r;
	}
	out[got] = '\0';
	return true;
}

/* What a relative path begins with. */
static bool read_base(pid_t pid, int fd, char *out, size_t size)
{
	char link[48];
	ssize_t n;

	if (fd == AT_FDCWD)
		snprintf(link, sizeof(link), "/proc/%d/cwd", (int)pid);
	else
		snprintf(link, sizeof(link), "/proc/%d/fd/%d", (int)pid, fd);
	n = readlink(link, out, size - 1);
	if (n <= 0)
		return false;
	out[n] = '\0';
	return true;
}

/* In place: no empty part, no ".", no "..". Links are not followed. */
static void simplify(char *path)
{
	char *w = path;

	for (char *p = path; *p;) {
		size_t n;

		while (*p == '/')
			p++;
		n = strcspn(p, "/");
		if (n == 2 && p[0] == '.' && p[1] == '.') {
			while (w > path && *--w != '/')
				;
		} else if (n && !(n == 1 && p[0] == '.')) {
			*w++ = '/';
			memmove(w, p, n);
			w += n;
		}
		p += n;
	}
	if (w == path)
		*w++ = '/';
	*w = '\0';
}

/* What a box may write to, or what belongs to the process itself. */
static bool is_inside(const char *path)
{
	static const char *const ours[] = { JAIL_BOX,
					    JAIL_TMP,
					    JAIL_OUTPUT,
					    "/dev/shm",
					    "/dev/null",
					    "/dev/zero",
					    "/dev/full",
					    "/dev/random",
					    "/dev/urandom",
					    "/dev/fd",
					    "/dev/stdin",
					    "/dev/stdout",
					    "/dev/stderr",
					    "/dev/tty",
					    "/dev/nvidiactl",
					    "/dev/nvidia-uvm",
					    "/dev/nvidia-uvm-tools" };

	for (size_t i = 0; i < ARRAY_LEN(ours); i++)
		if (sandbox_path_in(path, ours[i]))
			return true;
	/* "pipe:[7]" and the like have no place; /proc/self/fd is what is open already. */
	return path[0] != '/' || (str_starts(path, "/proc/") && strstr(path, "/fd/")) ||
	       (str_starts(path, "/dev/nvidia") && path[11] >= '0' && path[11] <= '9');
}

static bool is_outside(pid_t pid, const struct seccomp_data *d, int dir, int arg, char *path)
{
	char text[PATH_MAX], base[PATH_MAX];
	int fd = dir == FILTER_CWD ? AT_FDCWD : (int)(uint32_t)d->args[dir];

	if (!d->args[arg] || !read_text(pid, d->args[arg], text, sizeof(text)))
		return false;
	if (text[0] == '/')
		memcpy(path, text, sizeof(text));
	else if (!read_base(pid, fd, base, sizeof(base)) || base[0] != '/' ||
		 snprintf(path, PATH_MAX, "%s/%s", base, text) >= PATH_MAX)
		return false;
	simplify(path);
	return !is_inside(path);
}

bool writes_outside(pid_t pid, const struct seccomp_data *d, char *path)
{
	const struct filter_write *w = filter_write(d->nr);

	for (int i = 0; w && i < 2; i++)
		if (w->dir[i] != FILTER_NONE && is_outside(pid, d, w->dir[i], w->path[i], path))
			return true;
	return false;
}

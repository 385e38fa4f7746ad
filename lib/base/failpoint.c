/* SPDX-License-Identifier: MIT */
#include "base/failpoint.h"

#ifdef ZR_FAILPOINTS

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"

struct counts {
	_Atomic uint64_t passed, hit;
};

static struct counts own, *counts = &own;
static char text[256], file[PATH_MAX];
static char point[96], action[16];
static uint64_t at = 1;

static bool is_our_program(const char *name, size_t n)
{
	char path[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - 1);
	const char *base;

	if (len < 0)
		return false;
	path[len] = '\0';
	base = strrchr(path, '/') + 1;
	return strlen(base) == n && strncmp(base, name, n) == 0;
}

/* The supervisor of a worker, which runs the same program. */
static bool parent_is_like_us(void)
{
	auto_close int exe = open("/proc/self/exe", O_PATH | O_CLOEXEC);
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/exe", (int)getppid());
	return exe >= 0 && fd_is_at(exe, AT_FDCWD, path, 0);
}

/* Before anything confines us: later no file could be opened. */
static void share_counts(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	void *p = MAP_FAILED;

	if (fd < 0)
		return;
	p = mmap(NULL, sizeof(struct counts), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (p != MAP_FAILED)
		counts = p;
}

__attribute__((constructor)) static void failpoint_init(void)
{
	const char *spec = getenv("ZR_FAILPOINT"), *state = getenv("ZR_FAILPOINT_STATE");
	const char *slash = spec ? strchr(spec, '/') : NULL, *name = slash ? slash + 1 : spec;
	const char *colon = name ? strchr(name, ':') : NULL, *n;

	if (!colon)
		return;
	snprintf(text, sizeof(text), "ZR_FAILPOINT=%s", spec);
	snprintf(file, sizeof(file), "ZR_FAILPOINT_STATE=%s", state ? state : "");
	if (slash && !is_our_program(spec, (size_t)(slash - spec)))
		return;
	snprintf(point, sizeof(point), "%.*s", (int)(colon - name), name);
	n = strchr(colon, '@');
	snprintf(action, sizeof(action), "%.*s", n ? (int)(n - colon - 1) : (int)sizeof(action) - 1,
		 colon + 1);
	if (n)
		at = strtoull(n + 1, NULL, 10);
	if (state)
		share_counts(state);
}

char *const *failpoint_env(void)
{
	static char *env[] = { text, file, NULL }, *none[] = { NULL };

	return text[0] ? env : none;
}

static bool act(void)
{
	if (str_eq(action, "kill")) {
		kill(getpid(), SIGKILL);
		/* A filter of system calls may not let us: then by another signal. */
		__builtin_trap();
	}
	if (str_eq(action, "term"))
		kill(parent_is_like_us() ? getppid() : getpid(), SIGTERM);
	if (str_eq(action, "stop"))
		raise(SIGSTOP);
	if (str_eq(action, "delay"))
		nanosleep(&(struct timespec){ .tv_sec = 1 }, NULL);
	errno = str_eq(action, "eio") ? EIO : ENOSPC;
	return str_eq(action, "eio") || str_eq(action, "enospc");
}

bool failpoint_passed(const char *name)
{
	if (!point[0] || !str_eq(name, point) || ++counts->passed != at)
		return false;
	counts->hit = (uint64_t)getpid();
	return act();
}

#else
typedef int nothing_here;
#endif

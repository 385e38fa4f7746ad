/* SPDX-License-Identifier: MIT */
#include "exec/leftover.h"

#include <dirent.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>

#include "base/fd.h"
#include "base/proc.h"
#include "base/str.h"

#define ENVIRON_MAX (1u << 20)

/* Is "NAME=value" one of the NUL-separated strings? */
static bool has_line(const struct buf *b, const char *line)
{
	size_t n = strlen(line) + 1;
	const char *p = b->data, *end = p + b->len;

	while (p < end) {
		size_t len = strnlen(p, (size_t)(end - p)) + 1;

		if (len == n && memcmp(p, line, n - 1) == 0)
			return true;
		p += len;
	}
	return false;
}

static bool names_attempt(const char *pid, const char *line)
{
	auto_buf struct buf b = { 0 };
	char path[40];

	snprintf(path, sizeof(path), "/proc/%.10s/environ", pid);
	return fd_read_file(AT_FDCWD, path, ENVIRON_MAX, &b, NULL) == 0 && b.data &&
	       has_line(&b, line);
}

/* The pidfd comes first: what is read then is read of the process that is killed. */
static bool kill_if_named(const char *pid, const char *line)
{
	auto_close int fd = (int)syscall(SYS_pidfd_open, (pid_t)atol(pid), 0);

	return fd >= 0 && names_attempt(pid, line) && proc_signal(fd, SIGKILL) == 0;
}

static bool kill_by_environment(const char *attempt_id)
{
	DIR *d = opendir("/proc");
	bool found = false;
	char line[64];

	snprintf(line, sizeof(line), "ZR_ATTEMPT_ID=%s", attempt_id);
	for (struct dirent *de; d && (de = readdir(d));)
		if (de->d_name[0] >= '1' && de->d_name[0] <= '9')
			found |= kill_if_named(de->d_name, line);
	if (d)
		closedir(d);
	return found;
}

bool leftover_kill(const struct cgroup_host *h, const char *attempt_id)
{
	struct cgroup_box c;
	bool populated = false;
	int r;

	cgroup_open(h, attempt_id, &c);
	r = cgroup_signal(&c, SIGKILL);
	if (r >= 0 && cgroup_populated(&c, &populated) < 0)
		populated = false;
	cgroup_close(&c);
	return r >= 0 ? !populated : h->v2 || !kill_by_environment(attempt_id);
}

void leftover_remove(const struct cgroup_host *h, const char *attempt_id)
{
	struct cgroup_box c;

	cgroup_open(h, attempt_id, &c);
	cgroup_remove(&c, NULL);
	cgroup_close(&c);
}

/* Does a worker of this state folder have something to report of it? */
static bool is_box(const char *state_dir, const char *attempt_id)
{
	auto_free char *path = NULL;

	return str_fmt(&path, "%s/spool/boxes/%s", state_dir, attempt_id) < 0 ||
	       access(path, F_OK) == 0 || errno != ENOENT;
}

static void sweep_one(const struct cgroup_host *h, const char *state_dir, const char *attempt_id)
{
	struct cgroup_box c;
	auto_close int lock = -1;
	bool populated = false;
	int r;

	if (cgroup_take(h, attempt_id, &lock) < 0 || is_box(state_dir, attempt_id))
		return;
	cgroup_open(h, attempt_id, &c);
	r = cgroup_populated(&c, &populated);
	if (r == -ENOENT || (r == 0 && !populated))
		cgroup_remove(&c, NULL);
	cgroup_close(&c);
}

void leftover_sweep(const struct cgroup_host *h, const char *state_dir)
{
	auto_strv char **ids = NULL;

	if (cgroup_list(h, &ids) < 0)
		return;
	for (char **id = ids; *id; id++)
		sweep_one(h, state_dir, *id);
}

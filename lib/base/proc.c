/* SPDX-License-Identifier: MIT */
#include "base/proc.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/str.h"

#define FDS_MAX 16
/* What is not asked for is closed one by one up to the highest number asked for, so that has a
 * bound. */
#define FD_MAX 255

struct plan {
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	int high[FDS_MAX];
	size_t n_high;
};

static void plan_done(struct plan *p)
{
	for (size_t i = 0; i < p->n_high; i++)
		close(p->high[i]);
	posix_spawn_file_actions_destroy(&p->actions);
	posix_spawnattr_destroy(&p->attr);
}

/* Sources are moved above every target first: no dup2() overwrites one still to be copied. */
static int plan_given(struct plan *p, const struct proc_spec *spec, bool *given, int *ret_last)
{
	int last = 2, r = 0;

	for (size_t i = 0; i < spec->n_fds; i++) {
		if (spec->fds[i].to < 0 || spec->fds[i].to > FD_MAX)
			return EBADF;
		last = spec->fds[i].to > last ? spec->fds[i].to : last;
	}
	for (size_t i = 0; i < spec->n_fds && r == 0; i++) {
		int fd = fcntl(spec->fds[i].from, F_DUPFD_CLOEXEC, last + 1);

		if (fd < 0)
			return errno;
		p->high[p->n_high++] = fd;
		r = posix_spawn_file_actions_adddup2(&p->actions, fd, spec->fds[i].to);
		given[spec->fds[i].to] = true;
	}
	*ret_last = last;
	return r;
}

static int plan_fds(struct plan *p, const struct proc_spec *spec)
{
	bool given[FD_MAX + 1] = { false };
	int last = 2, r = plan_given(p, spec, given, &last);

	for (int fd = 0; fd <= last && r == 0; fd++) {
		if (given[fd])
			continue;
		r = fd < 3 ? posix_spawn_file_actions_addopen(&p->actions, fd, "/dev/null",
							      fd ? O_WRONLY : O_RDONLY, 0)
			   : posix_spawn_file_actions_addclose(&p->actions, fd);
	}
	if (r == 0 && spec->cwd)
		r = posix_spawn_file_actions_addchdir_np(&p->actions, spec->cwd);
	if (r == 0)
		r = posix_spawn_file_actions_addclosefrom_np(&p->actions, last + 1);
	return r;
}

static int plan_attr(struct plan *p, const struct proc_spec *spec)
{
	short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
	sigset_t none, all;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_setsigmask(&p->attr, &none);
	posix_spawnattr_setsigdefault(&p->attr, &all);
	if (spec->new_session)
		flags |= POSIX_SPAWN_SETSID;
	return posix_spawnattr_setflags(&p->attr, flags);
}

int proc_spawn(const struct proc_spec *spec, pid_t *ret_pid, int *ret_pidfd, struct err *e)
{
	__attribute__((cleanup(plan_done))) struct plan p = { .n_high = 0 };
#ifdef ZR_FAILPOINTS
	char *const *no_env = failpoint_env();
#else
	static char *const no_env[] = { NULL };
#endif
	pid_t pid;
	long pidfd;
	int r;

	if (posix_spawn_file_actions_init(&p.actions) || posix_spawnattr_init(&p.attr))
		return err_nomem(e);
	if (spec->n_fds > FDS_MAX)
		return err_set(e, E2BIG, ERR_HOST, "too many descriptors for %s", spec->path);
	r = plan_fds(&p, spec);
	if (r == 0)
		r = plan_attr(&p, spec);
	if (r == 0)
		r = posix_spawn(&pid, spec->path, &p.actions, &p.attr, spec->argv,
				spec->envp ? spec->envp : no_env);
	if (r)
		return err_errno(e, r, "start %s", STR_ESC(spec->path));
	/* Not yet reaped, so the number is still this child's. */
	pidfd = syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0) {
		r = err_sys(e, "open a pidfd of %s", STR_ESC(spec->path));
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		return r;
	}
	*ret_pid = pid;
	*ret_pidfd = (int)pidfd;
	return 0;
}

int proc_name(pid_t pid, char out[PROC_NAME_MAX])
{
	auto_buf struct buf b = { 0 };
	unsigned long long since;
	char path[40];
	const char *p;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (fd_read_file(AT_FDCWD, path, 4096, &b, NULL) < 0)
		return -ESRCH;
	/* "pid (any name) state …": the time is the 20th from the state on. */
	p = strrchr(b.data, ')');
	for (int i = 0; p && i < 20; i++)
		p = strchr(p + 1, ' ');
	if (!p || sscanf(p, " %llu", &since) != 1)
		return -ESRCH;
	snprintf(out, PROC_NAME_MAX, "%d.%llu", (int)pid, since);
	return 0;
}

int proc_signal(int pidfd, int signo)
{
	return syscall(SYS_pidfd_send_signal, pidfd, signo, NULL, 0) < 0 ? -errno : 0;
}

int proc_sister(const char *name, char **ret_path, struct err *e)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (n < 0)
		return err_sys(e, "read /proc/self/exe");
	self[n] = '\0';
	slash = strrchr(self, '/');
	if (slash)
		*slash = '\0';
	return str_fmt(ret_path, "%s/%s", self, name) < 0 ? err_nomem(e) : 0;
}

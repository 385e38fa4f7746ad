/* SPDX-License-Identifier: MIT */
#include "child.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/proc.h"
#include "base/str.h"
#include "base/time.h"

int child_find(const char *word, char **ret_path, struct err *e)
{
	const char *path = getenv("PATH");

	if (strchr(word, '/')) {
		*ret_path = strdup(word);
		return *ret_path ? 0 : err_nomem(e);
	}
	for (const char *p = path ? path : "/usr/local/bin:/usr/bin:/bin"; *p; p += *p == ':') {
		size_t n = strcspn(p, ":");
		auto_free char *full = NULL;

		if (str_fmt(&full, "%.*s/%s", n ? (int)n : 1, n ? p : ".", word) < 0)
			return err_nomem(e);
		if (access(full, X_OK) == 0) {
			*ret_path = take_ptr(full);
			return 0;
		}
		p += n;
	}
	return err_input(e, "there is no command '%s'", STR_ESC(word));
}

static sigset_t our_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	return set;
}

void child_block_signals(void)
{
	sigset_t set = our_signals();

	sigprocmask(SIG_BLOCK, &set, NULL);
}

int child_next_signal(uint64_t until_usec)
{
	uint64_t now = time_mono_usec(), left = until_usec > now ? until_usec - now : 0;
	struct timespec ts = { .tv_sec = (time_t)(left / USEC_PER_SEC),
			       .tv_nsec = (long)(left % USEC_PER_SEC) * 1000 };
	sigset_t set = our_signals();

	for (;;) {
		int s = sigtimedwait(&set, NULL, until_usec == USEC_INFINITY ? NULL : &ts);

		if (s > 0 || errno == EAGAIN)
			return s > 0 ? s : 0;
	}
}

int child_start(const char *path, char *const *argv, char *const *envp, pid_t *ret_pid,
		struct err *e)
{
	static const struct proc_fd fds[] = { { 0, 0 }, { 1, 1 }, { 2, 2 } };
	auto_close int pidfd = -1;

	return proc_spawn(&(struct proc_spec){ .path = path,
					       .argv = argv,
					       .envp = envp ? envp : environ,
					       .fds = fds,
					       .n_fds = ARRAY_LEN(fds) },
			  ret_pid, &pidfd, e);
}

void child_signal(pid_t pid, int signo)
{
	if (signo == SIGTERM || signo == SIGHUP)
		(void)kill(pid, signo);
}

int child_status(pid_t pid)
{
	int status = 0;

	if (waitpid(pid, &status, WNOHANG) != pid)
		return -EAGAIN;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int child_follow(pid_t pid)
{
	int status;

	while ((status = child_status(pid)) == -EAGAIN)
		child_signal(pid, child_next_signal(USEC_INFINITY));
	return status;
}

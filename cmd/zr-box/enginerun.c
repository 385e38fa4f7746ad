/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/proc.h"
#include "base/str.h"
#include "base/time.h"
#include "engine.h"

enum {
	OUTPUT_MAX = 1 << 20,
	WORDS_MAX = 32,
	TEXT_MAX = 200,
};

/* The last line that is whole becomes the job's progress. */
static void tell_line(struct keeper *k, const struct buf *out, uint64_t *told)
{
	const char *end = out->len ? memrchr(out->data, '\n', out->len) : NULL, *line;
	uint64_t now = time_mono_usec();
	struct progress p = { .fraction = -1, .done = -1, .total = -1 };

	if (!end || now < *told)
		return;
	line = memrchr(out->data, '\n', (size_t)(end - out->data));
	line = line ? line + 1 : out->data;
	snprintf(p.text, sizeof(p.text), "image: %.*s",
		 end - line < TEXT_MAX ? (int)(end - line) : TEXT_MAX, line);
	if (!str_utf8_valid(p.text, strlen(p.text)))
		return;
	*told = now + USEC_PER_SEC / 4;
	control_progress(k, &p);
	(void)control_tick(k, now);
}

/* Reads what there is; false at its end. */
static bool take(int fd, struct buf *out)
{
	char chunk[4096];
	ssize_t n = read(fd, chunk, sizeof(chunk));

	if (n > 0 && out->len < OUTPUT_MAX)
		(void)!buf_add(out, chunk, (size_t)n);
	return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

static void serve_until_end(struct keeper *k, int fd, int pidfd, bool tell, struct buf *out)
{
	uint64_t told = 0;

	for (bool open = true; open;) {
		struct pollfd p[POLL_CONTROL + 1];
		size_t n = control_poll(k, p);

		p[n] = (struct pollfd){ .fd = fd, .events = POLLIN };
		(void)signals_poll(p, n + 1, time_mono_usec() + USEC_PER_SEC);
		control_events(k, p);
		if (p[n].revents)
			open = take(fd, out);
		if (tell)
			tell_line(k, out, &told);
		if (signals_take_stop())
			verdict(k, BOX_INFRASTRUCTURE, "the keeper was told to end");
		lease_check(k);
		/* Before there is a job nothing needs it any more; after it, what it puts away stays. */
		if (k->decided && !k->result.started_wall_usec)
			(void)proc_signal(pidfd, SIGKILL);
	}
}

int engine_run(struct keeper *k, const char *const *words, int in, bool tell, struct buf *out,
	       struct err *e)
{
	const char *argv[WORDS_MAX] = { k->engine->program };
	auto_close int pidfd = -1, ours = -1, theirs = -1;
	int ends[2], r, status = 0;
	bool before = k->decided;
	pid_t pid;

	for (size_t i = 0; i < WORDS_MAX - 2 && words[i]; i++)
		argv[i + 1] = words[i];
	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_sys(e, "make a pipe");
	ours = ends[0];
	theirs = ends[1];
	r = proc_spawn(
		&(struct proc_spec){
			.path = k->engine->program,
			.argv = (char *const *)(uintptr_t)argv,
			.envp = k->spec->container->env,
			.fds = (struct proc_fd[]){ { theirs, 1 }, { theirs, 2 }, { in, 0 } },
			.n_fds = in < 0 ? 2 : 3,
			.cwd = "/" },
		&pid, &pidfd, e);
	if (r < 0)
		return r;
	close(take_fd(theirs));
	serve_until_end(k, ours, pidfd, tell, out);
	/* It has closed its output: podman's own children may not have, so they got none of it. */
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (k->decided && !before)
		return -ECANCELED;
	if (!WIFEXITED(status))
		return err_set(e, ECHILD, ERR_HOST, "%s %s was killed", k->engine->program,
			       words[0]);
	return WEXITSTATUS(status);
}

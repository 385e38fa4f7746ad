/* SPDX-License-Identifier: MIT */
#include "puller.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/proc.h"
#include "base/str.h"

#define LINE_MAX_BYTES (1u << 20)
#define IDLE_USEC      (60 * USEC_PER_SEC) /* without a command: the process is ended */

struct puller {
	struct loop *loop;
	const struct settings *settings;
	char *name;
	puller_fn fn;
	void *user;
	int pidfd, sock; /* -1: no process */
	struct loop_src *child, *io;
	struct loop_src *timer; /* busy: silence; else: idle */
	struct buf in;
	bool busy;
	unsigned depth;
	bool closing;
};

/* --- the process ----------------------------------------------------------------------------- */

static void ended(struct puller *p)
{
	p->child = loop_src_free(p->child);
	p->io = loop_src_free(p->io);
	loop_timer_set(p->timer, USEC_INFINITY);
	if (p->sock >= 0)
		close(p->sock);
	if (p->pidfd >= 0)
		close(p->pidfd);
	p->sock = p->pidfd = -1;
	p->in.len = 0;
}

static void release(struct puller *p)
{
	ended(p);
	loop_src_free(p->timer);
	buf_done(&p->in);
	free(p->name);
	free(p);
}

static void answer(struct puller *p, const json_t *a, const char *why)
{
	if (!p->busy)
		return;
	p->busy = false;
	p->depth++;
	p->fn(p->user, a, why);
	p->depth--;
	if (!p->closing && !p->busy && p->pidfd >= 0)
		loop_timer_set(p->timer, IDLE_USEC);
	if (p->closing && p->depth == 0)
		release(p);
}

static void on_child(void *user, const siginfo_t *si)
{
	struct puller *p = user;
	char why[100];

	snprintf(why, sizeof(why), "zr-fetch ended with %s %d",
		 si->si_code == CLD_EXITED ? "status" : "signal", si->si_status);
	ended(p);
	answer(p, NULL, why);
}

/* The line at the start of `in`, whose length is n. */
static void take_line(struct puller *p, size_t n)
{
	json_auto_t *a = NULL;
	struct err e = { 0 };
	int r = js_parse(p->in.data, n, JS_DEPTH_MAX, &a, &e);

	buf_drop_front(&p->in, n + 1);
	if (r < 0) {
		answer(p, NULL, "zr-fetch answered nonsense");
		return;
	}
	if (json_object_get(a, "progress"))
		loop_timer_set(p->timer, p->settings->fetch_timeout_usec * 3 + 60 * USEC_PER_SEC);
	else
		answer(p, a, NULL);
}

/* What a fetcher says is as little to be trusted as the host it talks to: bounded, and parsed. */
static void on_io(void *user, int fd, unused_arg uint32_t events)
{
	struct puller *p = user;
	char *nl;
	ssize_t n;

	if (p->in.len > LINE_MAX_BYTES || buf_reserve(&p->in, 65536) < 0)
		n = 0;
	else
		n = recv(fd, p->in.data + p->in.len, 65536, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		/* on_child() follows; a process that only closed its end is helped along. */
		p->io = loop_src_free(p->io);
		(void)proc_signal(p->pidfd, SIGKILL);
		return;
	}
	p->in.len += (size_t)n;
	p->depth++;
	while (!p->closing && p->in.len && (nl = memchr(p->in.data, '\n', p->in.len)))
		take_line(p, (size_t)(nl - p->in.data));
	p->depth--;
	if (p->closing && p->depth == 0)
		release(p);
}

static void on_timer(void *user)
{
	struct puller *p = user;

	if (p->pidfd >= 0)
		(void)proc_signal(p->pidfd, p->busy ? SIGKILL : SIGTERM);
}

static int words(const struct puller *p, char ***argv, struct err *e)
{
	const struct settings *s = p->settings;

	if (strv_add(argv, "zr-fetch") < 0 || strv_add(argv, "--serve") < 0 ||
	    strv_addf(argv, "--staging=%s/.staging/%s", s->results_dir, p->name) < 0 ||
	    strv_addf(argv, "--root=%s", s->results_dir) < 0 ||
	    strv_addf(argv, "--stall=%llums",
		      (unsigned long long)(s->fetch_timeout_usec / USEC_PER_MSEC)) < 0 ||
	    strv_addf(argv, "--reserve=%llu", (unsigned long long)s->spool_reserve) < 0 ||
	    (s->ssh_key && strv_addf(argv, "--ssh-key=%s", s->ssh_key) < 0) ||
	    (s->ssh_known_hosts && strv_addf(argv, "--known-hosts=%s", s->ssh_known_hosts) < 0))
		return err_nomem(e);
	return 0;
}

/* No environment: nothing of ours is any business of a process that listens to strangers. */
static int spawn(struct puller *p, int child_sock, struct err *e)
{
	auto_strv char **argv = NULL;
	auto_free char *path = NULL;
	const struct proc_fd fds[] = { { child_sock, 3 }, { STDERR_FILENO, STDERR_FILENO } };
	pid_t pid;
	int r = words(p, &argv, e);

	if (r == 0)
		r = proc_sister("zr-fetch", &path, e);
	if (r < 0)
		return r;
	return proc_spawn(
		&(struct proc_spec){
			.path = path, .argv = argv, .fds = fds, .n_fds = ARRAY_LEN(fds) },
		&pid, &p->pidfd, e);
}

static int start(struct puller *p, struct err *e)
{
	int pair[2], r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(e, "make a socket pair");
	p->sock = pair[0];
	r = spawn(p, pair[1], e);
	close(pair[1]);
	if (r == 0)
		r = loop_child(p->loop, p->pidfd, on_child, p, &p->child, e);
	if (r == 0)
		r = loop_fd(p->loop, p->sock, EPOLLIN, on_io, p, &p->io, e);
	if (r < 0) {
		if (p->pidfd >= 0)
			(void)proc_signal(p->pidfd, SIGKILL);
		ended(p);
	}
	return r;
}

/* --- for the outside ------------------------------------------------------------------------- */

int puller_new(struct loop *l, const struct settings *s, const char *name, puller_fn fn, void *user,
	       struct puller **ret, struct err *e)
{
	auto_obj(puller) p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return err_nomem(e);
	*p = (struct puller){
		.loop = l, .settings = s, .fn = fn, .user = user, .pidfd = -1, .sock = -1
	};
	p->name = strdup(name);
	if (!p->name)
		return err_nomem(e);
	r = loop_timer(l, USEC_INFINITY, on_timer, p, &p->timer, e);
	if (r == 0)
		*ret = take_ptr(p);
	return r;
}

void puller_free(struct puller *p)
{
	if (!p)
		return;
	p->busy = false;
	if (p->pidfd >= 0)
		(void)proc_signal(p->pidfd, SIGKILL);
	p->closing = true;
	if (p->depth == 0)
		release(p);
}

int puller_send(struct puller *p, const json_t *command, struct err *e)
{
	auto_free char *text = js_text(command);
	auto_free char *line = NULL;
	int r = 0;

	if (!text || str_fmt(&line, "%s\n", text) < 0)
		return err_nomem(e);
	if (p->pidfd < 0)
		r = start(p, e);
	if (r < 0)
		return r;
	/* One command at a time is far less than the socket's buffer. */
	if (send(p->sock, line, strlen(line), MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)strlen(line))
		return err_sys(e, "speak to zr-fetch");
	p->busy = true;
	loop_timer_set(p->timer, p->settings->fetch_timeout_usec * 3 + 60 * USEC_PER_SEC);
	return 0;
}

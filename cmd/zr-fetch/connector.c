/* SPDX-License-Identifier: MIT */
/*
 * The connector resolves the name of one host and makes connections to it, so that the fetcher,
 * which reads what the host sends, needs neither. It reads one byte a request from a SEQPACKET
 * socket, and answers with a struct err and, on success, the connected socket.
 */
#include <poll.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "base/proc.h"
#include "base/time.h"
#include "fetcher.h"

/* Longer than the connector itself takes. */
#define ANSWER_MS       30000
#define CONNECT_TIMEOUT (20 * USEC_PER_SEC)

union fd_control {
	char data[CMSG_SPACE(sizeof(int))];
	struct cmsghdr align;
};

static int send_answer(int sock, const struct err *e, int fd)
{
	union fd_control control = { .data = { 0 } };
	struct err copy = *e;
	struct iovec iov = { .iov_base = &copy, .iov_len = sizeof(copy) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd >= 0) {
		struct cmsghdr *c = &control.align;

		m.msg_control = control.data;
		m.msg_controllen = sizeof(control.data);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(int));
	}
	return sendmsg(sock, &m, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int connector_main(const char *address, const char *port)
{
	struct ssh_host h = { .address = address };
	uint64_t v;
	char c;

	if (str_u64(port, &v) < 0 || v > 65535)
		return EXIT_USAGE;
	h.port = (uint16_t)v;
	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	while (read(SERVE_FD, &c, 1) == 1) {
		struct err e = { .code = 0 };
		auto_close int fd = -1;

		if (ssh_tcp_connect(&h, CONNECT_TIMEOUT, &fd, &e) == 0)
			e.code = 0;
		if (send_answer(SERVE_FD, &e, fd) < 0)
			break;
	}
	return 0;
}

int connector_start(const char *address, uint16_t port, int *ret_fd, struct err *e)
{
	char text[8], self[] = "zr-fetch", mode[] = "--connector";
	auto_free char *copy = strdup(address);
	auto_close int theirs = -1, pidfd = -1, ours = -1;
	char *argv[] = { self, mode, copy, text, NULL };
	int pair[2], r;
	pid_t pid;

	if (!copy)
		return err_nomem(e);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(e, "make a socket pair");
	ours = pair[0];
	theirs = pair[1];
	snprintf(text, sizeof(text), "%u", port);
	r = proc_spawn(&(struct proc_spec){ .path = "/proc/self/exe",
					    .argv = argv,
					    .fds = (struct proc_fd[]){ { theirs, SERVE_FD } },
					    .n_fds = 1 },
		       &pid, &pidfd, e);
	if (r < 0)
		return r;
	/* It ends when our end closes; init reaps it. */
	*ret_fd = take_fd(ours);
	return 0;
}

static int wait_answer(const struct fetcher *f, struct err *e)
{
	struct pollfd p[2] = { { .fd = f->connector, .events = POLLIN }, { .fd = f->abort_fd } };
	uint64_t until = time_mono_usec() + ANSWER_MS * USEC_PER_MSEC;

	for (;;) {
		uint64_t now = time_mono_usec();
		int n;

		if (now >= until)
			return err_set(e, ETIMEDOUT, ERR_TRANSIENT, "no connection in %d s",
				       ANSWER_MS / 1000);
		n = poll(p, 2, (int)((until - now) / 1000) + 1);
		if (n > 0 && p[1].revents)
			return err_set(e, ECANCELED, ERR_TRANSIENT, "given up by the caller");
		if (n > 0)
			return 0;
	}
}

static int take_answer(int sock, struct err *ret, int *ret_fd)
{
	union fd_control control;
	struct iovec iov = { .iov_base = ret, .iov_len = sizeof(*ret) };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control.data,
			    .msg_controllen = sizeof(control.data) };
	struct cmsghdr *c;

	if (recvmsg(sock, &m, MSG_CMSG_CLOEXEC) != (ssize_t)sizeof(*ret))
		return -EPIPE;
	c = CMSG_FIRSTHDR(&m);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
		memcpy(ret_fd, CMSG_DATA(c), sizeof(int));
	return 0;
}

int connector_ask(void *user, unused_arg const struct ssh_host *h, int *ret_fd, struct err *e)
{
	struct fetcher *f = user;
	struct err answer;
	int fd = -1, r;

	if (send(f->connector, "c", 1, MSG_NOSIGNAL) != 1)
		return err_sys(e, "ask for a connection");
	r = wait_answer(f, e);
	if (r < 0)
		return r;
	r = take_answer(f->connector, &answer, &fd);
	if (r < 0)
		return err_errno(e, r, "ask for a connection");
	if (answer.code) {
		*e = answer;
		return -answer.code;
	}
	if (fd < 0)
		return err_set(e, EPIPE, ERR_TRANSIENT, "no connection came");
	*ret_fd = fd;
	return 0;
}

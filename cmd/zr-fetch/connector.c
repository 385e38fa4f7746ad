/* SPDX-License-Identifier: MIT */
/*
 * The connector resolves the name of one host and makes connections to it, so that the fetcher,
 * which reads what the host sends, needs neither. It reads one byte a request from a SEQPACKET
 * socket, and answers with a struct err and, on success, a descriptor: a connected socket, or the
 * standard input and output of an ssh(1) to the same host.
 */
#include <poll.h>
#include <signal.h>
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

enum {
	ASK_TCP = 'c',
	ASK_SSH = 's'
};

#define SSH_PROGRAM "/usr/bin/ssh"

/* The words of our one host: argv of the connector after its mode. */
struct target {
	char *address, *port, *user, *key, *known_hosts;
};

static int ssh_argv(const struct target *t, char ***v)
{
	static const char *const fixed[] = {
		"ssh",
		"-F",
		"none",
		"-T",
		"-oBatchMode=yes",
		"-oStrictHostKeyChecking=yes",
		"-oGlobalKnownHostsFile=/dev/null",
		"-oUpdateHostKeys=no",
		"-oIdentitiesOnly=yes",
		"-oIdentityAgent=none",
		"-oPreferredAuthentications=publickey",
		"-oClearAllForwardings=yes",
		"-oControlPath=none",
		"-oCompression=no",
		"-oConnectTimeout=10",
		"-oServerAliveInterval=15",
		"-oCiphers=aes128-gcm@openssh.com,aes128-ctr",
		"-oKexAlgorithms=curve25519-sha256",
		("-oHostKeyAlgorithms=ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,"
		 "ecdsa-sha2-nistp521"),
	};

	for (size_t i = 0; i < ARRAY_LEN(fixed); i++)
		if (strv_add(v, fixed[i]) < 0)
			return -ENOMEM;
	if (strv_addf(v, "-oUserKnownHostsFile=\"%s\"", t->known_hosts) < 0 ||
	    strv_addf(v, "-oIdentityFile=\"%s\"", t->key) < 0 ||
	    strv_addf(v, "-p%s", t->port) < 0 || strv_addf(v, "-l%s", t->user) < 0 ||
	    strv_add(v, "-s") < 0 || strv_add(v, "--") < 0 || strv_add(v, t->address) < 0 ||
	    strv_add(v, "sftp") < 0)
		return -ENOMEM;
	return 0;
}

/* Host keys and algorithms are OpenSSH's to check, against the same file and by the same rules. */
static int start_ssh(const struct target *t, int *ret_fd, struct err *e)
{
	auto_strv char **argv = NULL;
	auto_close int theirs = -1, ours = -1, pidfd = -1;
	int pair[2], r;
	pid_t pid;

	if (ssh_argv(t, &argv) < 0)
		return err_nomem(e);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(e, "make a socket pair");
	ours = pair[0];
	theirs = pair[1];
	r = proc_spawn(
		&(struct proc_spec){ .path = SSH_PROGRAM,
				     .argv = argv,
				     .fds = (struct proc_fd[]){ { theirs, 0 }, { theirs, 1 } },
				     .n_fds = 2 },
		&pid, &pidfd, e);
	if (r == 0)
		*ret_fd = take_fd(ours);
	return r;
}

static int start_tcp(const struct target *t, int *ret_fd, struct err *e)
{
	struct ssh_host h = { .address = t->address };
	uint64_t port;

	if (str_u64(t->port, &port) < 0 || port > 65535)
		return err_input(e, "bad port");
	h.port = (uint16_t)port;
	return ssh_tcp_connect(&h, CONNECT_TIMEOUT, ret_fd, e);
}

int connector_main(char **argv)
{
	struct target t = { argv[0], argv[1], argv[2], argv[3], argv[4] };
	char c;

	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	/* Nobody waits for an ssh: it ends when the fetcher closes it. */
	signal(SIGCHLD, SIG_IGN);
	while (read(SERVE_FD, &c, 1) == 1) {
		struct err e = { .code = 0 };
		auto_close int fd = -1;

		if ((c == ASK_SSH ? start_ssh(&t, &fd, &e) : start_tcp(&t, &fd, &e)) == 0)
			e.code = 0;
		if (send_answer(SERVE_FD, &e, fd) < 0)
			break;
	}
	return 0;
}

int connector_start(const struct args *a, const struct ssh_host *h, int *ret_fd, struct err *e)
{
	auto_strv char **argv = NULL;
	auto_close int theirs = -1, pidfd = -1, ours = -1;
	int pair[2], r;
	pid_t pid;

	if (strv_add(&argv, "zr-fetch") < 0 || strv_add(&argv, "--connector") < 0 ||
	    strv_add(&argv, h->address) < 0 || strv_addf(&argv, "%u", h->port) < 0 ||
	    strv_add(&argv, h->user) < 0 || strv_add(&argv, a->ssh_key) < 0 ||
	    strv_add(&argv, a->known_hosts) < 0)
		return err_nomem(e);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(e, "make a socket pair");
	ours = pair[0];
	theirs = pair[1];
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

static int ask(struct fetcher *f, char what, int *ret_fd, struct err *e)
{
	struct err answer;
	int fd = -1, r;

	if (send(f->connector, &what, 1, MSG_NOSIGNAL) != 1)
		return err_sys(e, "ask for a connection");
	r = wait_answer(f, e);
	if (r < 0)
		return r;
	r = take_answer(f->connector, &answer, &fd);
	if (r < 0)
		return err_errno(e, r, "ask for a connection");
	if (answer.code) {
		if (e)
			*e = answer;
		return -answer.code;
	}
	if (fd < 0)
		return err_set(e, EPIPE, ERR_TRANSIENT, "no connection came");
	*ret_fd = fd;
	return 0;
}

int connector_ask(void *user, unused_arg const struct ssh_host *h, int *ret_fd, struct err *e)
{
	return ask(user, ASK_TCP, ret_fd, e);
}

int connector_ask_bulk(void *user, int *ret_fd, struct err *e)
{
	return ask(user, ASK_SSH, ret_fd, e);
}

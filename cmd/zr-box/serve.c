/* SPDX-License-Identifier: MIT */
/*
 * From job to job. The worker's message is {"t":"job","at":USEC,"lease":USEC} with two descriptors, the
 * box folder and its locked journal: the time by CLOCK_BOOTTIME, and how long from then on the lease
 * lasts, 0 if that is what the box says. Ours are control.c's, with {"t":"end"} when the box is let go
 * of, and {"t":"ready"} when another may come, if `end` did not say that. The worker sends none before. A hang-up is the end, after the job at hand; a
 * keeper that has entered a user namespace for a job ends with that job.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/json.h"
#include "base/str.h"
#include "keeper.h"

enum {
	FD_BOX,
	FD_JOURNAL,
	FDS,
};

static void close_all(int (*fds)[FDS])
{
	for (int i = 0; i < FDS; i++)
		if ((*fds)[i] >= 0)
			close((*fds)[i]);
}

static void take_fds(struct msghdr *m, int fds[FDS])
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		/* The room is for FDS of them; the kernel closes what is more. */
		memcpy(fds, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
		return;
	}
}

static bool is_job(const char *text, size_t n, struct term *ret)
{
	json_t *o = NULL;
	const char *type = NULL;
	int64_t at = 0, usec = 0;
	bool yes = js_parse(text, n, 4, &o, NULL) == 0 && js_str(o, "t", 32, &type, NULL) == 0 &&
		   str_eq(type, "job") && js_opt_int(o, "at", 0, INT64_MAX, &at, NULL) >= 0 &&
		   js_opt_int(o, "lease", 0, LEASE_USEC_MAX, &usec, NULL) >= 0;

	json_decref(o);
	*ret = (struct term){ .since_usec = (uint64_t)at, .usec = (uint64_t)usec };
	return yes;
}

/* 1: *fds are a job's; 0: nothing for us; -errno: the worker has gone. */
static int receive(int sock, int fds[FDS], struct term *ret)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(FDS * sizeof(int))];
	} control;
	char text[256];
	struct iovec iov = { .iov_base = text, .iov_len = sizeof(text) };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control.room,
			    .msg_controllen = sizeof(control.room) };
	ssize_t n = recvmsg(sock, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (n == 0)
		return -EPIPE;
	take_fds(&m, fds);
	return is_job(text, (size_t)n, ret) && fds[FD_BOX] >= 0 && fds[FD_JOURNAL] >= 0;
}

/* False: the worker has gone, or we are told to end. */
static bool next_job(struct keeper *k, int sock)
{
	__attribute__((cleanup(close_all))) int fds[FDS] = { -1, -1 };
	struct pollfd p = { .fd = sock, .events = POLLIN };
	struct term lease = { 0 };
	int r;

	if (signals_poll(&p, 1, UINT64_MAX) < 0 || !p.revents)
		return !signals_take_stop();
	r = receive(sock, fds, &lease);
	if (r < 0)
		return false;
	if (r == 0)
		return true;
	r = job_keep(k, fds[FD_BOX], fds[FD_JOURNAL], &lease);
	fds[FD_BOX] = fds[FD_JOURNAL] = -1;
	/* Of a job that could not begin, on a full disk perhaps, the worker learns by the hang-up. */
	if (k->changed || r)
		return false;
	if (k->clean || k->stuck)
		control_ready(k);
	return true;
}

int serve(struct keeper *k, int sock)
{
	int type = 0;
	socklen_t len = sizeof(type);

	if (getsockopt(sock, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_SEQPACKET) {
		fputs("zr-box: --serve is for zr-eval, which gives it a socket\n", stderr);
		return 2;
	}
	control_init(&k->control, sock);
	while (k->control.client[0].fd >= 0 && next_job(k, sock))
		;
	control_close(k);
	return 0;
}

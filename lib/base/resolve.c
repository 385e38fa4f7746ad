/* SPDX-License-Identifier: MIT */
#include "base/resolve.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/proc.h"
#include "base/str.h"

#define GETENT "/usr/bin/getent"

enum {
	/* What a pipe holds: more would leave getent waiting for a reader. */
	ANSWER_MAX = 64 << 10,
	STATUS_NOT_FOUND = 2, /* getent(1) */
};

struct resolve {
	char *host;
	unsigned port;
	resolve_fn fn;
	void *user;
	int pidfd, out;
	struct loop_src *child;
};

static bool add_numeric(const char *host, unsigned port, struct resolve_addrs *to)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
					.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV };
	struct addrinfo *a = NULL;
	char service[12];

	snprintf(service, sizeof(service), "%u", port);
	if (to->n == RESOLVE_MAX || getaddrinfo(host, service, &hints, &a))
		return false;
	memcpy(&to->addr[to->n].sa, a->ai_addr, a->ai_addrlen);
	to->addr[to->n++].len = a->ai_addrlen;
	freeaddrinfo(a);
	return true;
}

bool resolve_numeric(const char *host, unsigned port, struct resolve_addrs *ret)
{
	ret->n = 0;
	return add_numeric(host, port, ret);
}

void resolve_parse(char *text, unsigned port, struct resolve_addrs *to)
{
	char *rest = NULL, *words;

	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		const char *address = strtok_r(line, " \t", &words);
		const char *type = strtok_r(NULL, " \t", &words);

		if (address && str_eq(type, "STREAM"))
			(void)add_numeric(address, port, to);
	}
}

static void on_child(void *user, const siginfo_t *si)
{
	struct resolve *r = user;
	auto_buf struct buf answer = { 0 };
	struct resolve_addrs found = { 0 };
	bool exited = si->si_code == CLD_EXITED;
	struct err e = { 0 };

	close(r->pidfd);
	r->pidfd = -1;
	if (exited && si->si_status == 0 &&
	    fd_read_all(r->out, "the answer of " GETENT, ANSWER_MAX, &answer, &e) == 0 &&
	    answer.data)
		resolve_parse(answer.data, r->port, &found);
	if (!e.code && !found.n)
		(void)err_set(&e, EHOSTUNREACH, ERR_TRANSIENT, "look up host '%s': %s",
			      STR_ESC(r->host),
			      exited && si->si_status == STATUS_NOT_FOUND
				      ? "it is not known, or no name server answers"
				      : GETENT " failed");
	r->fn(r->user, found.n ? &found : NULL, found.n ? NULL : &e);
}

static int child_start(struct loop *l, struct resolve *r, struct err *e)
{
	char *const argv[] = { (char[]){ "getent" }, (char[]){ "--" }, (char[]){ "ahosts" },
			       r->host, NULL };
	auto_close int theirs = -1;
	int fds[2], k;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_sys(e, "make a pipe");
	r->out = fds[0];
	theirs = fds[1];
	k = proc_spawn(&(struct proc_spec){ .path = GETENT,
					    .argv = argv,
					    .fds = &(struct proc_fd){ theirs, STDOUT_FILENO },
					    .n_fds = 1 },
		       &pid, &r->pidfd, e);
	if (k == 0 && fd_set_nonblock(r->out, true) < 0)
		k = err_sys(e, "set up a pipe");
	return k < 0 ? k : loop_child(l, r->pidfd, on_child, r, &r->child, e);
}

int resolve_start(struct loop *l, const char *host, unsigned port, resolve_fn fn, void *user,
		  struct resolve **ret, struct err *e)
{
	struct resolve *r = calloc(1, sizeof(*r));
	int k;

	if (!r)
		return err_nomem(e);
	*r = (struct resolve){
		.host = strdup(host), .port = port, .fn = fn, .user = user, .pidfd = -1, .out = -1
	};
	k = r->host ? child_start(l, r, e) : err_nomem(e);
	if (k < 0) {
		resolve_free(r);
		return k;
	}
	*ret = r;
	return 0;
}

struct resolve *resolve_free(struct resolve *r)
{
	if (!r)
		return NULL;
	loop_src_free(r->child);
	if (r->pidfd >= 0) {
		(void)proc_signal(r->pidfd, SIGKILL);
		(void)waitid(P_PIDFD, (id_t)r->pidfd, &(siginfo_t){ 0 }, WEXITED);
		close(r->pidfd);
	}
	if (r->out >= 0)
		close(r->out);
	free(r->host);
	free(r);
	return NULL;
}

/* SPDX-License-Identifier: MIT */
#include "exec/keepers.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/id.h"
#include "base/proc.h"
#include "base/str.h"
#include "base/time.h"

/* An idle keeper costs a megabyte, a new one some milliseconds. */
#define IDLE_USEC (10 * USEC_PER_SEC)
#define SPARE     1

enum keeper_state {
	KEEPER_BUSY,     /* with a box, or abandoned with it */
	KEEPER_CLEANING, /* has let go of its box, is not ready yet */
	KEEPER_IDLE,
};

struct keeper_ref {
	TAILQ_ENTRY(keeper_ref) entry;
	struct keepers *pool;
	enum keeper_state state;
	int sock; /* -1: abandoned */
	struct loop_src *sock_src;
	int pidfd;
	struct loop_src *child;
};

struct keepers {
	struct loop *loop;
	char *program;
	TAILQ_HEAD(keeper_list, keeper_ref) all;
	struct loop_src *trim;
};

static void keeper_free(struct keeper_ref *k)
{
	TAILQ_REMOVE(&k->pool->all, k, entry);
	loop_src_free(k->sock_src);
	loop_src_free(k->child);
	if (k->sock >= 0)
		close(k->sock);
	if (k->pidfd >= 0)
		close(k->pidfd);
	free(k);
}

/* A keeper with a box is told about by its socket; here it is only reaped. */
static void on_exit_of_keeper(void *user, unused_arg const siginfo_t *si)
{
	struct keeper_ref *k = user;

	k->child = loop_src_free(k->child);
	close(k->pidfd);
	k->pidfd = -1;
	if (k->state != KEEPER_BUSY || k->sock < 0)
		keeper_free(k);
}

/* Closing the socket is the message: an idle keeper ends, a busy one when its job has. */
static void hang_up(struct keeper_ref *k)
{
	k->sock_src = loop_src_free(k->sock_src);
	if (k->sock >= 0)
		close(k->sock);
	k->sock = -1;
	k->state = KEEPER_BUSY;
	if (k->pidfd < 0)
		keeper_free(k);
}

static unsigned count(const struct keepers *p, enum keeper_state state)
{
	const struct keeper_ref *k;
	unsigned n = 0;

	TAILQ_FOREACH (k, &p->all, entry)
		n += k->state == state;
	return n;
}

unsigned keepers_leave(struct keepers *p)
{
	struct keeper_ref *k, *next;
	unsigned n = 0;

	for (k = TAILQ_FIRST(&p->all); k; k = next) {
		next = TAILQ_NEXT(k, entry);
		if (k->state != KEEPER_BUSY)
			hang_up(k);
	}
	TAILQ_FOREACH (k, &p->all, entry)
		n++;
	return n;
}

static struct keeper_ref *find_idle(struct keepers *p)
{
	struct keeper_ref *k;

	/* The one that was busy last: its memory is warm, and the others get old. */
	TAILQ_FOREACH_REVERSE(k, &p->all, keeper_list, entry)
	if (k->state == KEEPER_IDLE)
		return k;
	return NULL;
}

static void on_trim(void *user)
{
	struct keepers *p = user;
	struct keeper_ref *k;

	if (count(p, KEEPER_IDLE) <= SPARE)
		return;
	TAILQ_FOREACH (k, &p->all, entry)
		if (k->state == KEEPER_IDLE)
			break;
	if (k)
		hang_up(k);
	loop_timer_set(p->trim, IDLE_USEC);
}

static void now_idle(struct keeper_ref *k)
{
	struct keepers *p = k->pool;

	k->state = KEEPER_IDLE;
	TAILQ_REMOVE(&p->all, k, entry);
	TAILQ_INSERT_TAIL(&p->all, k, entry);
	if (count(p, KEEPER_IDLE) > SPARE)
		loop_timer_set(p->trim, IDLE_USEC);
}

/* Of a keeper without a box: `ready`, or nothing more. */
static void on_socket(void *user, int fd, unused_arg uint32_t events)
{
	static const char ready[] = "{\"t\":\"ready\"}\n";
	struct keeper_ref *k = user;
	char text[64];
	ssize_t n = recv(fd, text, sizeof(text), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
		hang_up(k);
	else if (k->state == KEEPER_CLEANING && (size_t)n == sizeof(ready) - 1 &&
		 memcmp(text, ready, sizeof(ready) - 1) == 0)
		now_idle(k);
}

static int watch(struct keeper_ref *k, loop_fd_fn fn, void *user, struct err *e)
{
	if (!k->sock_src)
		return loop_fd(k->pool->loop, k->sock, EPOLLIN, fn, user, &k->sock_src, e);
	loop_fd_call(k->sock_src, fn, user);
	return 0;
}

static int spawn(struct keepers *p, int theirs, struct keeper_ref *k, struct err *e)
{
	const struct proc_fd fds[] = { { theirs, 0 } };
	char name[] = "zr-box", serve[] = "--serve", *argv[] = { name, serve, NULL };
	const struct proc_spec spec = {
		.path = p->program,
		.argv = argv,
		.fds = fds,
		.n_fds = ARRAY_LEN(fds),
		.new_session = true,
	};
	pid_t pid;
	int r = proc_spawn(&spec, &pid, &k->pidfd, e);

	return r < 0 ? r : loop_child(p->loop, k->pidfd, on_exit_of_keeper, k, &k->child, e);
}

static int start(struct keepers *p, struct keeper_ref **ret, struct err *e)
{
	auto_close int theirs = -1;
	struct keeper_ref *k = calloc(1, sizeof(*k));
	int pair[2], r = 0;

	if (!k)
		return err_nomem(e);
	*k = (struct keeper_ref){ .pool = p, .sock = -1, .pidfd = -1 };
	TAILQ_INSERT_TAIL(&p->all, k, entry);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
		r = err_sys(e, "make a socket pair");
	} else {
		k->sock = pair[0];
		theirs = pair[1];
		r = spawn(p, theirs, k, e);
	}
	if (r < 0) {
		keeper_free(k);
		return r;
	}
	*ret = k;
	return 0;
}

void keepers_warm(struct keepers *p)
{
	struct keeper_ref *k;

	/* Without it the first job starts one, and says what is wrong. */
	if (!TAILQ_EMPTY(&p->all) || start(p, &k, NULL) < 0)
		return;
	if (watch(k, on_socket, k, NULL) < 0)
		hang_up(k);
	else
		now_idle(k);
}

static int send_job(int sock, const struct keeper_job *job)
{
	char text[96];
	/* The time, because a lease does not wait for a keeper that is stopped. */
	int n = snprintf(
		text, sizeof(text), "{\"t\":\"job\",\"at\":%llu,\"lease\":%llu}\n",
		(unsigned long long)(job->at_boot_usec ? job->at_boot_usec : time_boot_usec()),
		(unsigned long long)job->lease_usec);
	const int fds[] = { job->box_dirfd, job->journal };
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(fds))];
	} control = { .room = { 0 } };
	struct iovec iov = { .iov_base = text, .iov_len = (size_t)n };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control.room,
			    .msg_controllen = sizeof(control.room) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(c), fds, sizeof(fds));
	return sendmsg(sock, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int keepers_hand(struct keepers *p, const struct keeper_job *job, loop_fd_fn fn, void *user,
		 struct keeper_ref **ret, struct err *e)
{
	struct keeper_ref *k;
	int r;

	/* One that has just been killed is found out here. */
	while ((k = find_idle(p))) {
		if (watch(k, fn, user, NULL) == 0 && send_job(k->sock, job) == 0)
			break;
		hang_up(k);
	}
	if (!k) {
		r = start(p, &k, e);
		if (r < 0)
			return r;
		r = watch(k, fn, user, e);
		if (r == 0) {
			r = send_job(k->sock, job);
			if (r < 0)
				err_errno(e, r, "hand a job to its keeper");
		}
		if (r < 0) {
			hang_up(k);
			return r;
		}
	}
	k->state = KEEPER_BUSY;
	*ret = k;
	return 0;
}

int keeper_socket(const struct keeper_ref *k)
{
	return k->sock;
}

void keeper_return(struct keeper_ref *k, bool ready)
{
	k->state = KEEPER_CLEANING;
	if (k->pidfd < 0 || watch(k, on_socket, k, NULL) < 0)
		hang_up(k);
	else if (ready)
		now_idle(k);
}

void keeper_abandon(struct keeper_ref *k)
{
	hang_up(k);
}

void keepers_sweep(const char *state_dir)
{
	auto_free char *path = NULL;
	struct dirent *de;
	DIR *d = NULL;

	if (str_fmt(&path, "%s/spool/" KEEPERS_DIR, state_dir) >= 0)
		d = opendir(path);
	while (d && (de = readdir(d))) {
		auto_close int fd =
			id_is_uuid(de->d_name) ? fd_connect_unix(dirfd(d), de->d_name) : -1;

		if (fd == -ECONNREFUSED)
			(void)unlinkat(dirfd(d), de->d_name, 0);
	}
	if (d)
		closedir(d);
}

int keepers_new(struct loop *l, const char *program, struct keepers **ret, struct err *e)
{
	auto_obj(keepers) p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return err_nomem(e);
	TAILQ_INIT(&p->all);
	p->loop = l;
	p->program = program ? strdup(program) : NULL;
	if (program && !p->program)
		return err_nomem(e);
	r = program ? 0 : proc_sister("zr-box", &p->program, e);
	if (r == 0)
		r = loop_timer(l, USEC_INFINITY, on_trim, p, &p->trim, e);
	if (r == 0)
		*ret = take_ptr(p);
	return r;
}

void keepers_free(struct keepers *p)
{
	struct keeper_ref *k;

	if (!p)
		return;
	while ((k = TAILQ_FIRST(&p->all)))
		keeper_free(k);
	loop_src_free(p->trim);
	free(p->program);
	free(p);
}

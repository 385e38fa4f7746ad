/* SPDX-License-Identifier: MIT */
#include "exec/gpulock.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/id.h"
#include "base/json.h"
#include "base/proc.h"
#include "base/str.h"
#include "exec/leftover.h"

enum {
	NFS_MAGIC = 0x6969,
	RECORD_MAX = 8192,
	TICKET_LEN = 16,
	TICKETS_MAX = 100000,
	DEAD_USEC = 5000000, /* what a killed holder has left must be gone by then */
	DEAD_PAUSE_USEC = 5000,
};

enum lock {
	LOCK_WHOLE, /* of a part: the file of the whole, shared */
	LOCK_OWN,
	LOCK_INDEX,
	LOCK_N,
};

struct candidate {
	const struct gpu *gpu;
	int fd[LOCK_N]; /* -1: not open */
	bool have[LOCK_N];
	enum lock busy; /* what the waiter waits for */
	pid_t waiter;   /* 0: none */
	bool held;
};

struct gpu_hold {
	const struct gpu_request *request;
	const char *box, *cgroup_v2;
	char *waiter; /* program */
	int dir, index_dir, queue;
	char ticket[TICKET_LEN + 1];
	int ticket_fd; /* -1: it was our turn */
	pid_t turn;    /* waits for an older ticket; 0: none */
	char before[TICKET_LEN + 1];
	struct candidate *c; /* in the order of UUIDs */
	size_t n;
	bool complete;
};

/* --- folders -------------------------------------------------------------------------------------- */

static int refuse_nfs(int fd, const char *path, struct err *e)
{
	struct statfs s;

	if (fstatfs(fd, &s) == 0 && s.f_type == NFS_MAGIC)
		return err_set(e, ENOTSUP, ERR_HOST,
			       "%s is on NFS, where locks get lost: name a folder of this host",
			       STR_ESC(path));
	return 0;
}

/* Whoever may write here could take a lock away, or a GPU for himself. */
static int open_lock_dir(const char *path, int *ret, struct err *e)
{
	auto_close int fd = -1;
	struct stat st;
	int r;

	if (mkdir(path, 0750) < 0 && errno != EEXIST)
		return err_sys(e, "make gpu_lock_dir %s", STR_ESC(path));
	r = fd_open_dir(AT_FDCWD, path, &fd, e);
	if (r < 0)
		return err_wrap(e, "gpu_lock_dir");
	if (fstat(fd, &st) < 0)
		return err_sys(e, "look at gpu_lock_dir %s", STR_ESC(path));
	if (geteuid() != 0 && st.st_uid != geteuid())
		return err_set(
			e, EPERM, ERR_HOST,
			"gpu_lock_dir %s belongs to user %u, not to us (%u): its locks could "
			"be taken away",
			STR_ESC(path), st.st_uid, geteuid());
	if (st.st_mode & (S_IWGRP | S_IWOTH))
		return err_set(
			e, EPERM, ERR_HOST,
			"gpu_lock_dir %s may be written by others than its owner: chmod 0750 "
			"it",
			STR_ESC(path));
	r = refuse_nfs(fd, path, e);
	if (r == 0)
		*ret = take_fd(fd);
	return r;
}

static int open_index_dir(const char *path, int *ret, struct err *e)
{
	auto_close int fd = -1;
	int r = fd_open_dir(AT_FDCWD, path, &fd, e);

	if (r == 0)
		r = refuse_nfs(fd, path, e);
	if (r < 0)
		return err_wrap(e, "gpu_index_lock_dir");
	*ret = take_fd(fd);
	return 0;
}

/* What root makes in the folder of the service's user must be that user's. */
static int open_own(int dir, const char *name, int flags, mode_t mode, struct err *e)
{
	auto_close int fd = openat(
		dir, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | flags, mode);
	struct stat st, folder;

	if (fd < 0)
		return err_sys(e, "open %s", name);
	if (fstat(fd, &st) < 0 || fstat(dir, &folder) < 0)
		return err_sys(e, "look at %s", name);
	if (!S_ISREG(st.st_mode))
		return err_set(e, EPERM, ERR_HOST, "%s is no regular file", name);
	if (geteuid() == 0 && st.st_uid != folder.st_uid &&
	    fchown(fd, folder.st_uid, folder.st_gid) < 0)
		return err_sys(e, "give %s to the owner of its folder", name);
	return take_fd(fd);
}

/* --- waiting -------------------------------------------------------------------------------------- */

static int start_waiter(const struct gpu_hold *h, int fd, bool shared, pid_t *ret, struct err *e)
{
	char program[] = "zr-box", verb[] = "--wait-lock", parent[16];
	char ex[] = "ex", sh[] = "sh";
	char *argv[] = { program, verb, shared ? sh : ex, parent, NULL };
	int pidfd, r;

	snprintf(parent, sizeof(parent), "%d", (int)getpid());
	r = proc_spawn(&(struct proc_spec){ .path = h->waiter,
					    .argv = argv,
					    .fds = &(struct proc_fd){ fd, GPU_WAIT_FD },
					    .n_fds = 1 },
		       ret, &pidfd, e);
	if (r == 0)
		close(pidfd);
	return r < 0 ? err_wrap(e, "wait for a GPU") : 0;
}

static void stop_waiter(pid_t *pid)
{
	if (*pid <= 0)
		return;
	(void)kill(*pid, SIGKILL);
	while (waitpid(*pid, NULL, 0) < 0 && errno == EINTR)
		;
	*pid = 0;
}

/* 1: it has ended, and its descriptor is locked; 0: it waits. */
static int seen_ended(pid_t *pid, struct err *e)
{
	int status = 0;
	pid_t r = waitpid(*pid, &status, WNOHANG);

	if (r == 0)
		return 0;
	*pid = 0;
	if (r > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 1;
	return err_set(e, ECHILD, ERR_HOST, "'zr-box --wait-lock' ended with wait status %#x",
		       (unsigned)status);
}

/* --- the queue ------------------------------------------------------------------------------------ */

static uint64_t read_number(int fd)
{
	char text[24] = "";
	uint64_t v = 0;
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	if (n > 0)
		text[strspn(text, "0123456789")] = '\0';
	return n > 0 && str_u64(text, &v) == 0 ? v : 0;
}

static int write_line(int fd, const char *text)
{
	size_t n = strlen(text);

	return ftruncate(fd, 0) < 0 || pwrite(fd, text, n, 0) != (ssize_t)n ? -errno : 0;
}

/* Which GPUs would do, one a line. */
static int write_ticket(const struct gpu_hold *h)
{
	auto_buf struct buf b = { 0 };

	for (size_t i = 0; i < h->n; i++)
		if (buf_fmt(&b, "%s\n%s\n", h->c[i].gpu->uuid, h->c[i].gpu->parent) < 0)
			return -ENOMEM;
	return b.data ? write_line(h->ticket_fd, b.data) : 0;
}

/* With the counter locked: whoever has a later ticket sees ours complete. */
static int draw_ticket(struct gpu_hold *h, int counter, struct err *e)
{
	uint64_t v = read_number(counter);
	char text[24];

	for (unsigned i = 0; h->ticket_fd < 0; i++) {
		struct err why = { 0 };

		snprintf(h->ticket, sizeof(h->ticket), "%016llx", (unsigned long long)++v);
		h->ticket_fd = open_own(h->queue, h->ticket, O_EXCL, 0600, &why);
		if (h->ticket_fd < 0 && (why.code != EEXIST || i > TICKETS_MAX))
			return err_set(e, why.code, why.kind, "take a ticket: %s", why.msg);
	}
	snprintf(text, sizeof(text), "%llu\n", (unsigned long long)v);
	if (flock(h->ticket_fd, LOCK_EX | LOCK_NB) < 0 || write_ticket(h) < 0 ||
	    write_line(counter, text) < 0)
		return err_sys(e, "write a ticket");
	return 0;
}

static int join_queue(struct gpu_hold *h, struct err *e)
{
	auto_close int counter = -1;
	struct stat st;

	if (mkdirat(h->dir, "queue", 0700) < 0 && errno != EEXIST)
		return err_sys(e, "make the queue of the GPUs");
	if (fstat(h->dir, &st) == 0 && geteuid() == 0 && st.st_uid != 0 &&
	    fchownat(h->dir, "queue", st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys(e, "give the queue of the GPUs to their owner");
	if (fd_open_dir(h->dir, "queue", &h->queue, e) < 0)
		return err_wrap(e, "the queue of the GPUs");
	counter = open_own(h->queue, "last", 0, 0600, e);
	if (counter < 0)
		return counter;
	while (flock(counter, LOCK_EX) < 0)
		if (errno != EINTR)
			return err_sys(e, "lock the queue of the GPUs");
	return draw_ticket(h, counter, e);
}

static void leave_queue(struct gpu_hold *h)
{
	stop_waiter(&h->turn);
	if (h->ticket_fd < 0)
		return;
	(void)unlinkat(h->queue, h->ticket, 0);
	close(h->ticket_fd);
	h->ticket_fd = -1;
}

static bool wants_same(const struct gpu_hold *h, int ticket)
{
	auto_buf struct buf b = { 0 };

	if (fd_read_all(ticket, "ticket", RECORD_MAX, &b, NULL) < 0 || !b.data)
		return false;
	for (size_t i = 0; i < h->n; i++) {
		const struct gpu *g = h->c[i].gpu;

		/* A part waits for who wants the whole, and the other way round. */
		if (strstr(b.data, g->uuid) || (g->parent[0] && strstr(b.data, g->parent)))
			return true;
	}
	return false;
}

/* An open ticket that lives and wants what we want, or -1. What nobody holds any more goes. */
static int open_living(const struct gpu_hold *h, const char *name)
{
	auto_close int fd = openat(h->queue, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	if (fd < 0)
		return -1;
	if (flock(fd, LOCK_SH | LOCK_NB) == 0) {
		(void)unlinkat(h->queue, name, 0);
		return -1;
	}
	return wants_same(h, fd) ? take_fd(fd) : -1;
}

/* The last one before us, or -1: it is our turn. */
static int find_before(struct gpu_hold *h, char name[TICKET_LEN + 1])
{
	int copy = openat(h->queue, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), found = -1;
	DIR *d = copy < 0 ? NULL : fdopendir(copy);

	name[0] = '\0';
	for (struct dirent *de; d && (de = readdir(d));) {
		int fd;

		if (strlen(de->d_name) != TICKET_LEN || strcmp(de->d_name, h->ticket) >= 0 ||
		    strcmp(de->d_name, name) <= 0 || (fd = open_living(h, de->d_name)) < 0)
			continue;
		if (found >= 0)
			close(found);
		found = fd;
		snprintf(name, TICKET_LEN + 1, "%s", de->d_name);
	}
	if (d)
		closedir(d);
	else if (copy >= 0)
		close(copy);
	return found;
}

/* 1: nobody is before us. */
static int await_turn(struct gpu_hold *h, struct err *e)
{
	auto_close int before = -1;
	int r;

	if (h->ticket_fd < 0)
		return 1;
	if (h->turn) {
		r = seen_ended(&h->turn, e);
		if (r <= 0)
			return r;
	}
	before = find_before(h, h->before);
	if (before < 0)
		return 1;
	return start_waiter(h, before, true, &h->turn, e);
}

/* --- one GPU -------------------------------------------------------------------------------------- */

static void drop(struct candidate *c)
{
	stop_waiter(&c->waiter);
	for (enum lock l = 0; l < LOCK_N; l++) {
		if (c->fd[l] >= 0)
			close(c->fd[l]);
		c->fd[l] = -1;
		c->have[l] = false;
	}
	c->held = false;
}

static bool wanted(const struct gpu_hold *h, const struct candidate *c, enum lock l)
{
	return l == LOCK_WHOLE ? c->gpu->parent[0] != '\0' : l == LOCK_OWN || h->index_dir >= 0;
}

static int open_lock(const struct gpu_hold *h, struct candidate *c, enum lock l, struct err *e)
{
	char name[GPU_UUID_MAX + 16];

	if (c->fd[l] >= 0)
		return 0;
	if (l == LOCK_INDEX)
		snprintf(name, sizeof(name), "gpu_%u.lock", c->gpu->index);
	else
		snprintf(name, sizeof(name), "gpu_%s.lock",
			 l == LOCK_WHOLE ? c->gpu->parent : c->gpu->uuid);
	c->fd[l] = l == LOCK_INDEX ? open_own(h->index_dir, name, 0, 0644, e)
				   : open_own(h->dir, name, 0, 0600, e);
	return c->fd[l] < 0 ? c->fd[l] : 0;
}

/* 1: all its locks are ours; 0: one is busy, and c->busy says which. Nothing waits. */
static int take(const struct gpu_hold *h, struct candidate *c, struct err *e)
{
	for (enum lock l = 0; l < LOCK_N; l++) {
		int r;

		if (!wanted(h, c, l) || c->have[l])
			continue;
		r = open_lock(h, c, l, e);
		if (r < 0)
			return r;
		c->have[l] = flock(c->fd[l], (l == LOCK_WHOLE ? LOCK_SH : LOCK_EX) | LOCK_NB) == 0;
		if (c->have[l])
			continue;
		if (errno != EWOULDBLOCK)
			return err_sys(e, "lock GPU %s", c->gpu->uuid);
		c->busy = l;
		return 0;
	}
	return 1;
}

/* Lets go of all but the busy one, on which a child then waits. */
static int await(const struct gpu_hold *h, struct candidate *c, struct err *e)
{
	int fd = take_fd(c->fd[c->busy]);

	drop(c);
	c->fd[c->busy] = fd;
	return start_waiter(h, fd, c->busy == LOCK_WHOLE, &c->waiter, e);
}

/* --- the predecessor ------------------------------------------------------------------------------ */

/* A lock comes free a little before the last process of its killed holder is gone. */
static bool see_dead(const json_t *record)
{
	const char *box = NULL, *v2 = NULL;
	uint64_t until = time_mono_usec() + DEAD_USEC;
	struct cgroup_host host = { 0 };
	bool dead;

	if (js_opt_str(record, "box", 64, &box, NULL) <= 0 || !id_is_uuid(box))
		return true;
	if (js_opt_str(record, "cgroup", 4095, &v2, NULL) > 0 && v2[0] == '/') {
		host.v2 = strdup(v2);
		if (!host.v2)
			return false;
	}
	while (!(dead = leftover_kill(&host, box)) && time_mono_usec() < until)
		usleep(DEAD_PAUSE_USEC);
	free(host.v2);
	return dead;
}

static int see_predecessor(const struct gpu_hold *h, const struct candidate *c, struct err *e)
{
	char text[RECORD_MAX], boot[UUID_LEN + 1] = "";
	const char *then = NULL;
	json_t *record = NULL;
	ssize_t n = pread(c->fd[LOCK_OWN], text, sizeof(text), 0);
	bool dead = true;

	if (n <= 0)
		return 1;
	if (js_parse(text, (size_t)n, 4, &record, NULL) == 0 && id_boot(boot, NULL) == 0 &&
	    js_opt_str(record, "boot", UUID_LEN, &then, NULL) > 0 && str_eq(then, boot))
		dead = see_dead(record);
	json_decref(record);
	if (dead)
		return 1;
	n = gpu_quarantine(h->request->lock_dir, c->gpu->uuid,
			   "unkillable: a process of the box that held it before is still there",
			   e);
	return n < 0 ? (int)n : 0;
}

static int write_record(const struct gpu_hold *h, const struct candidate *c, struct err *e)
{
	char boot[UUID_LEN + 1] = "";
	auto_free char *text = NULL, *line = NULL;
	json_t *o;

	(void)!id_boot(boot, NULL);
	o = json_pack("{s:s?, s:s?, s:s, s:i}", "box", h->box, "cgroup", h->cgroup_v2, "boot", boot,
		      "pid", (int)getpid());
	text = o ? js_text(o) : NULL;
	json_decref(o);
	if (!text || str_fmt(&line, "%s\n", text) < 0)
		return err_nomem(e);
	return write_line(c->fd[LOCK_OWN], line) < 0
		       ? err_sys(e, "write who holds %s", c->gpu->uuid)
		       : 0;
}

/* --- all or nothing ------------------------------------------------------------------------------- */

static int reap_waiters(struct gpu_hold *h, struct err *e)
{
	for (size_t i = 0; i < h->n; i++) {
		struct candidate *c = &h->c[i];
		int r = c->waiter ? seen_ended(&c->waiter, e) : 0;

		if (r < 0)
			return r;
		if (r > 0)
			c->have[c->busy] = true;
	}
	return 0;
}

static int no_gpu_left(const struct gpu_hold *h, size_t good, struct err *e)
{
	return err_set(e, ENODEV, ERR_HOST,
		       "%zu of the %zu GPUs that would do are in quarantine, and %llu are needed; "
		       "'zr gpus' says why, 'zr gpus:release UUID' ends it",
		       h->n - good, h->n, (unsigned long long)h->request->count);
}

/* Which can be had now: those are locked. */
static int take_some(struct gpu_hold *h, size_t *ret, struct err *e)
{
	size_t good = 0;

	*ret = 0;
	for (size_t i = 0; i < h->n && *ret < h->request->count; i++) {
		struct candidate *c = &h->c[i];
		auto_free char *why = gpu_quarantined(h->request->lock_dir, c->gpu->uuid);
		int r = 0;

		if (why) {
			drop(c);
			continue;
		}
		good++;
		if (!c->waiter)
			r = take(h, c, e);
		if (r == 1 && (r = see_predecessor(h, c, e)) == 0) {
			good--;
			drop(c);
		}
		if (r < 0)
			return r;
		c->held = r == 1;
		*ret += c->held;
	}
	return *ret < h->request->count && good < h->request->count ? no_gpu_left(h, good, e) : 0;
}

static int finish(struct gpu_hold *h, struct err *e)
{
	int r = 0;

	for (size_t i = 0; i < h->n; i++)
		if (!h->c[i].held)
			drop(&h->c[i]);
		else if (r == 0)
			r = write_record(h, &h->c[i], e);
	leave_queue(h);
	h->complete = r == 0;
	return r < 0 ? r : 1;
}

int gpu_hold_try(struct gpu_hold *h, struct err *e)
{
	size_t got = 0;
	int r = await_turn(h, e);

	if (r <= 0)
		return r;
	r = reap_waiters(h, e);
	if (r == 0)
		r = take_some(h, &got, e);
	if (r < 0)
		return r;
	if (got == h->request->count)
		return finish(h, e);
	for (size_t i = 0; i < h->n && r == 0; i++) {
		struct candidate *c = &h->c[i];

		if (c->held)
			drop(c);
		else if (!c->waiter && c->fd[c->busy] >= 0)
			r = await(h, c, e);
	}
	return r;
}

static int by_uuid(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	return strcmp(x->gpu->uuid, y->gpu->uuid);
}

static int make_candidates(struct gpu_hold *h, struct err *e)
{
	h->c = calloc(h->request->n + 1, sizeof(*h->c));
	if (!h->c)
		return err_nomem(e);
	for (; h->n < h->request->n; h->n++)
		h->c[h->n] =
			(struct candidate){ .gpu = &h->request->gpu[h->n], .fd = { -1, -1, -1 } };
	qsort(h->c, h->n, sizeof(*h->c), by_uuid);
	return 0;
}

int gpu_hold_new(const struct gpu_request *request, const char *box, const char *cgroup_v2,
		 struct gpu_hold **ret, struct err *e)
{
	auto_obj(gpu_hold) h = calloc(1, sizeof(*h));
	int r;

	if (!h)
		return err_nomem(e);
	h->request = request;
	h->box = box;
	h->cgroup_v2 = cgroup_v2;
	h->dir = h->index_dir = h->queue = h->ticket_fd = -1;
	r = proc_sister("zr-box", &h->waiter, e);
	if (r == 0)
		r = open_lock_dir(request->lock_dir, &h->dir, e);
	if (r == 0 && request->index_lock_dir)
		r = open_index_dir(request->index_lock_dir, &h->index_dir, e);
	if (r == 0)
		r = make_candidates(h, e);
	if (r == 0)
		r = join_queue(h, e);
	if (r == 0)
		*ret = take_ptr(h);
	return r;
}

const struct gpu *gpu_hold_gpu(const struct gpu_hold *h, size_t i)
{
	for (size_t j = 0; j < h->n; j++)
		if (h->c[j].held && i-- == 0)
			return h->c[j].gpu;
	return NULL;
}

int gpu_hold_text(const struct gpu_hold *h, char **ret, struct err *e)
{
	auto_buf struct buf b = { 0 };
	const struct gpu *g;

	for (size_t i = 0; (g = gpu_hold_gpu(h, i)); i++)
		if (buf_fmt(&b, "%s%s", i ? "," : "", g->uuid) < 0)
			return err_nomem(e);
	*ret = strdup(b.data ? b.data : "");
	return *ret ? 0 : err_nomem(e);
}

void gpu_hold_free(struct gpu_hold *h)
{
	if (!h)
		return;
	for (size_t i = 0; i < h->n; i++) {
		/* The line goes first: without it the next one has nobody to look for. */
		if (h->complete && h->c[i].held)
			(void)!ftruncate(h->c[i].fd[LOCK_OWN], 0);
		drop(&h->c[i]);
	}
	leave_queue(h);
	if (h->queue >= 0)
		close(h->queue);
	if (h->index_dir >= 0)
		close(h->index_dir);
	if (h->dir >= 0)
		close(h->dir);
	free(h->waiter);
	free(h->c);
	free(h);
}

/* --- quarantine ----------------------------------------------------------------------------------- */

static void quarantine_name(char out[GPU_UUID_MAX + 24], const char *uuid)
{
	snprintf(out, GPU_UUID_MAX + 24, "gpu_%.*s.quarantine", GPU_UUID_MAX - 1, uuid);
}

int gpu_quarantine(const char *lock_dir, const char *uuid, const char *reason, struct err *e)
{
	char name[GPU_UUID_MAX + 24], since[TIME_TEXT_MAX];
	auto_free char *text = NULL;
	auto_close int dir = -1;
	int r = open_lock_dir(lock_dir, &dir, e);

	if (r < 0)
		return r;
	quarantine_name(name, uuid);
	if (str_fmt(&text, "%s since %s\n", reason, time_text(since, time_wall_usec())) < 0)
		return err_nomem(e);
	return fd_write_file(dir, name, text, strlen(text), 0644, false, e);
}

char *gpu_quarantined(const char *lock_dir, const char *uuid)
{
	char name[GPU_UUID_MAX + 24];
	auto_buf struct buf b = { 0 };
	auto_close int dir = -1;
	int r;

	quarantine_name(name, uuid);
	if (fd_open_dir(AT_FDCWD, lock_dir, &dir, NULL) < 0)
		return NULL;
	r = fd_read_file(dir, name, RECORD_MAX, &b, NULL);
	if (r == -ENOENT)
		return NULL;
	if (r < 0 || !b.data)
		return strdup("its quarantine file cannot be read");
	b.data[strcspn(b.data, "\n")] = '\0';
	return strdup(b.data);
}

int gpu_release(const char *lock_dir, const char *uuid, struct err *e)
{
	char name[GPU_UUID_MAX + 24];
	auto_close int dir = -1;
	int r = open_lock_dir(lock_dir, &dir, e);

	if (r < 0)
		return r;
	quarantine_name(name, uuid);
	if (unlinkat(dir, name, 0) == 0)
		return 0;
	if (errno == ENOENT)
		return err_set(e, ENOENT, ERR_INPUT, "GPU %s is in no quarantine", STR_ESC(uuid));
	return err_sys(e, "remove %s", STR_ESC(name));
}

/* SPDX-License-Identifier: MIT */
#include "messaging/dirwatch.h"

#include <stdio.h>
#include <sys/inotify.h>

/* Not IN_CREATE: what is being written in place is not complete yet. */
#define EVENTS (IN_MOVED_TO | IN_CLOSE_WRITE | IN_ONLYDIR)

struct dirwatch {
	uint64_t scan_usec;
	dirwatch_fn fn;
	void *user;
	int fd; /* -1: not asked */
	struct loop_src *io, *timer, *soon, *later;
};

/* What happened does not matter: the folder is read anyway, also when the queue ran over. */
static void on_events(void *user, int fd, unused_arg uint32_t events)
{
	struct dirwatch *w = user;
	char chunk[8192];

	while (read(fd, chunk, sizeof(chunk)) > 0)
		;
	w->fn(w->user, DIRWATCH_NEWS);
}

static void on_timer(void *user)
{
	struct dirwatch *w = user;

	loop_timer_set(w->timer, w->scan_usec);
	w->fn(w->user, DIRWATCH_SCAN);
}

static void on_soon(void *user)
{
	struct dirwatch *w = user;

	w->fn(w->user, DIRWATCH_SOON);
}

static void on_later(void *user)
{
	struct dirwatch *w = user;

	w->fn(w->user, DIRWATCH_NEWS);
}

static int ask_kernel(struct dirwatch *w, struct loop *l, struct err *e)
{
	w->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (w->fd < 0)
		return err_sys(e, "watch folders by inotify");
	return loop_fd(l, w->fd, EPOLLIN, on_events, w, &w->io, e);
}

int dirwatch_new(struct loop *l, uint64_t scan_usec, bool notify, dirwatch_fn fn, void *user,
		 struct dirwatch **ret, struct err *e)
{
	auto_obj(dirwatch) w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return err_nomem(e);
	*w = (struct dirwatch){ .scan_usec = scan_usec, .fn = fn, .user = user, .fd = -1 };
	r = loop_timer(l, 0, on_timer, w, &w->timer, e);
	if (r == 0)
		r = loop_defer(l, on_soon, w, &w->soon, e);
	if (r == 0)
		r = loop_timer(l, USEC_INFINITY, on_later, w, &w->later, e);
	if (r == 0 && notify)
		r = ask_kernel(w, l, e);
	if (r < 0)
		return r;
	*ret = take_ptr(w);
	return 0;
}

void dirwatch_free(struct dirwatch *w)
{
	if (!w)
		return;
	loop_src_free(w->io);
	loop_src_free(w->timer);
	loop_src_free(w->soon);
	loop_src_free(w->later);
	if (w->fd >= 0)
		close(w->fd);
	free(w);
}

int dirwatch_add(struct dirwatch *w, int dirfd, struct err *e)
{
	char path[32];

	if (w->fd < 0)
		return 0;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", dirfd);
	return inotify_add_watch(w->fd, path, EVENTS) < 0 ? err_sys(e, "watch a folder by inotify")
							  : 0;
}

void dirwatch_later(struct dirwatch *w, uint64_t after_usec)
{
	loop_timer_set(w->later, after_usec);
}

void dirwatch_soon(struct dirwatch *w)
{
	loop_defer_arm(w->soon);
}

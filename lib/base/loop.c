/* SPDX-License-Identifier: MIT */
#include "base/loop.h"

#include <stdbool.h>

#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

struct loop {
	sd_event *ev;
};

struct loop_src {
	sd_event_source *src;
	sd_event_source *soon; /* of a timer that was set to 0 */
	void *user;
	union {
		loop_fd_fn on_fd;
		loop_timer_fn on_timer;
		loop_child_fn on_child;
		loop_signal_fn on_signal;
	};
};

int loop_new(struct loop **ret, struct err *e)
{
	static const int signals[] = { SIGCHLD, SIGTERM, SIGINT, SIGHUP };
	struct loop *l = calloc(1, sizeof(*l));
	sigset_t set;
	int r;

	if (!l)
		return err_nomem(e);
	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_LEN(signals); i++)
		sigaddset(&set, signals[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	r = sd_event_new(&l->ev);
	if (r < 0) {
		free(l);
		return err_errno(e, r, "make the event loop");
	}
	*ret = l;
	return 0;
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	sd_event_unref(l->ev);
	free(l);
}

int loop_run(struct loop *l, struct err *e)
{
	int r = sd_event_loop(l->ev);

	return r < 0 ? err_errno(e, r, "run the event loop") : r;
}

int loop_turn(struct loop *l, uint64_t timeout_usec, struct err *e)
{
	int r = sd_event_run(l->ev, timeout_usec);

	return r < 0 ? err_errno(e, r, "run the event loop") : 0;
}

void loop_exit(struct loop *l, int code)
{
	(void)sd_event_exit(l->ev, code);
}

struct loop_src *loop_src_free(struct loop_src *s)
{
	if (s) {
		sd_event_source_disable_unref(s->src);
		sd_event_source_disable_unref(s->soon);
		free(s);
	}
	return NULL;
}

static struct loop_src *src_new(void *user)
{
	struct loop_src *s = calloc(1, sizeof(*s));

	if (s)
		s->user = user;
	return s;
}

/* The common end of every constructor: r is what sd_event_add_*() returned. */
static int src_ready(struct loop_src *s, int r, const char *what, struct loop_src **ret,
		     struct err *e)
{
	if (r < 0) {
		free(s);
		return err_errno(e, r, "watch %s", what);
	}
	*ret = s;
	return 0;
}

static int call_fd(unused_arg sd_event_source *es, int fd, uint32_t events, void *user)
{
	struct loop_src *s = user;

	s->on_fd(s->user, fd, events);
	return 0;
}

int loop_fd(struct loop *l, int fd, uint32_t events, loop_fd_fn fn, void *user,
	    struct loop_src **ret, struct err *e)
{
	struct loop_src *s = src_new(user);

	if (!s)
		return err_nomem(e);
	s->on_fd = fn;
	return src_ready(s, sd_event_add_io(l->ev, &s->src, fd, events, call_fd, s), "a descriptor",
			 ret, e);
}

int loop_fd_events(struct loop_src *s, uint32_t events)
{
	return sd_event_source_set_io_events(s->src, events);
}

void loop_fd_call(struct loop_src *s, loop_fd_fn fn, void *user)
{
	s->on_fd = fn;
	s->user = user;
}

static int call_timer(unused_arg sd_event_source *es, unused_arg uint64_t usec, void *user)
{
	struct loop_src *s = user;

	s->on_timer(s->user);
	return 0;
}

static int call_defer(unused_arg sd_event_source *es, void *user)
{
	struct loop_src *s = user;

	s->on_timer(s->user);
	return 0;
}

/* At once is no matter of the clock: without the kernel's timer it costs no system call. */
static bool set_soon(struct loop_src *s)
{
	sd_event *ev = sd_event_source_get_event(s->src);

	if (!s->soon && sd_event_add_defer(ev, &s->soon, call_defer, s) < 0)
		return false;
	return sd_event_source_set_enabled(s->soon, SD_EVENT_ONESHOT) >= 0;
}

void loop_timer_set(struct loop_src *s, uint64_t after_usec)
{
	uint64_t now;

	if (s->soon)
		(void)sd_event_source_set_enabled(s->soon, SD_EVENT_OFF);
	if (after_usec >= USEC_INFINITY / 2 || (after_usec == 0 && set_soon(s))) {
		(void)sd_event_source_set_enabled(s->src, SD_EVENT_OFF);
		return;
	}
	now = time_mono_usec();
	(void)sd_event_source_set_time(s->src, now + after_usec);
	(void)sd_event_source_set_enabled(s->src, SD_EVENT_ONESHOT);
}

int loop_timer(struct loop *l, uint64_t after_usec, loop_timer_fn fn, void *user,
	       struct loop_src **ret, struct err *e)
{
	struct loop_src *s = src_new(user);
	int r;

	if (!s)
		return err_nomem(e);
	s->on_timer = fn;
	r = src_ready(s,
		      sd_event_add_time(l->ev, &s->src, CLOCK_MONOTONIC, UINT64_MAX / 2, 1000,
					call_timer, s),
		      "a timer", ret, e);
	if (r == 0)
		loop_timer_set(*ret, after_usec);
	return r;
}

static int call_child(unused_arg sd_event_source *es, const siginfo_t *si, void *user)
{
	struct loop_src *s = user;

	s->on_child(s->user, si);
	return 0;
}

int loop_child(struct loop *l, int pidfd, loop_child_fn fn, void *user, struct loop_src **ret,
	       struct err *e)
{
	struct loop_src *s = src_new(user);

	if (!s)
		return err_nomem(e);
	s->on_child = fn;
	return src_ready(s, sd_event_add_child_pidfd(l->ev, &s->src, pidfd, WEXITED, call_child, s),
			 "a child process", ret, e);
}

static int call_signal(unused_arg sd_event_source *es, const struct signalfd_siginfo *si,
		       void *user)
{
	struct loop_src *s = user;

	s->on_signal(s->user, (int)si->ssi_signo);
	return 0;
}

int loop_signal(struct loop *l, int signo, loop_signal_fn fn, void *user, struct loop_src **ret,
		struct err *e)
{
	struct loop_src *s = src_new(user);

	if (!s)
		return err_nomem(e);
	s->on_signal = fn;
	return src_ready(s, sd_event_add_signal(l->ev, &s->src, signo, call_signal, s), "a signal",
			 ret, e);
}

int loop_defer(struct loop *l, loop_timer_fn fn, void *user, struct loop_src **ret, struct err *e)
{
	struct loop_src *s = src_new(user);
	int r;

	if (!s)
		return err_nomem(e);
	s->on_timer = fn;
	r = src_ready(s, sd_event_add_defer(l->ev, &s->src, call_defer, s), "a deferred call", ret,
		      e);
	if (r == 0) {
		(void)sd_event_source_set_enabled((*ret)->src, SD_EVENT_OFF);
		(void)sd_event_source_set_priority((*ret)->src, SD_EVENT_PRIORITY_IDLE);
	}
	return r;
}

void loop_defer_arm(struct loop_src *s)
{
	(void)sd_event_source_set_enabled(s->src, SD_EVENT_ONESHOT);
}

int loop_watchdog(struct loop *l, struct err *e)
{
	int r = sd_event_set_watchdog(l->ev, 1);

	return r < 0 ? err_errno(e, r, "serve the watchdog") : 0;
}

void loop_notify(const char *state)
{
	(void)sd_notify(0, state);
}

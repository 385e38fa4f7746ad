/* SPDX-License-Identifier: MIT */
/*
 * The event loop of the daemons, a thin layer over sd-event(3): one loop, no threads. Callbacks
 * return nothing: an error is handled where it happens. A source may be freed anywhere, also inside
 * its own callback; loop_src_free() takes NULL and returns NULL. Timers run on CLOCK_MONOTONIC.
 */
#ifndef ZR_BASE_LOOP_H
#define ZR_BASE_LOOP_H

#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/time.h"

struct loop;
struct loop_src;

typedef void (*loop_fd_fn)(void *user, int fd, uint32_t events);
typedef void (*loop_timer_fn)(void *user);
typedef void (*loop_child_fn)(void *user, const siginfo_t *si);
typedef void (*loop_signal_fn)(void *user, int signo);

/* Blocks SIGCHLD, SIGTERM, SIGINT and SIGHUP: sd-event needs the first, loop_signal() the others. */
int loop_new(struct loop **ret, struct err *e) must_check;
void loop_free(struct loop *l);
DEFINE_AUTO(loop);

/* Runs until loop_exit(); returns its code, or -errno if the loop itself failed. */
int loop_run(struct loop *l, struct err *e) must_check;
void loop_exit(struct loop *l, int code);
/* One turn: waits at most that long for something to happen and handles it. For tools that wait for
 * one answer; not together with loop_run(). */
int loop_turn(struct loop *l, uint64_t timeout_usec, struct err *e) must_check;

/* EPOLLIN, EPOLLOUT, … The descriptor stays the caller's, and open as long as the source lives. */
int loop_fd(struct loop *l, int fd, uint32_t events, loop_fd_fn fn, void *user,
	    struct loop_src **ret, struct err *e) must_check;
int loop_fd_events(struct loop_src *s, uint32_t events);
/* From now on another is called. */
void loop_fd_call(struct loop_src *s, loop_fd_fn fn, void *user);

/* Fires once, `after_usec` from now; USEC_INFINITY: not armed yet. Armed again by loop_timer_set(). */
int loop_timer(struct loop *l, uint64_t after_usec, loop_timer_fn fn, void *user,
	       struct loop_src **ret, struct err *e) must_check;
void loop_timer_set(struct loop_src *s, uint64_t after_usec);

/* Called once when the process of `pidfd` ends; it is reaped. The pidfd is the caller's. */
int loop_child(struct loop *l, int pidfd, loop_child_fn fn, void *user, struct loop_src **ret,
	       struct err *e) must_check;

int loop_signal(struct loop *l, int signo, loop_signal_fn fn, void *user, struct loop_src **ret,
		struct err *e) must_check;

/* Runs once per loop_defer_arm(), after what is already pending. Created disarmed. */
int loop_defer(struct loop *l, loop_timer_fn fn, void *user, struct loop_src **ret,
	       struct err *e) must_check;
void loop_defer_arm(struct loop_src *s);

struct loop_src *loop_src_free(struct loop_src *s);

/* systemd's watchdog if WATCHDOG_USEC asks for it; nothing otherwise. */
int loop_watchdog(struct loop *l, struct err *e) must_check;
/* sd_notify(3): "READY=1", "STOPPING=1", "RELOADING=1", "STATUS=…". Nothing without NOTIFY_SOCKET. */
void loop_notify(const char *state);

#endif

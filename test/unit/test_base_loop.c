/* SPDX-License-Identifier: MIT */
#include "base/loop.h"

#include <sys/wait.h>

#include "base/proc.h"
#include "base/str.h"

#include "unit.h"

static struct loop *loop;
static struct err e;
static struct buf said; /* what the callbacks did, in order */

static void setup(void)
{
	unsetenv("WATCHDOG_USEC");
	unsetenv("NOTIFY_SOCKET");
	ck_ok(loop_new(&loop, &e), e);
}

static void teardown(void)
{
	loop_free(loop);
	buf_done(&said);
}

static void say(const char *word)
{
	ck_assert_int_eq(buf_fmt(&said, "%s ", word), 0);
}

static void run(int code)
{
	ck_assert_int_eq(loop_run(loop, &e), code);
}

static void on_exit_7(unused_arg void *user)
{
	loop_exit(loop, 7);
}

/* Ends the loop after all that is due within the given time. */
static struct loop_src *exit_after(uint64_t usec)
{
	struct loop_src *s = NULL;

	ck_ok(loop_timer(loop, usec, on_exit_7, NULL, &s, &e), e);
	return s;
}

struct timer {
	const char *name;
	struct loop_src *src;
	uint64_t again_usec;
	int left;
};

static void on_timer(void *user)
{
	struct timer *t = user;

	say(t->name);
	if (--t->left > 0)
		loop_timer_set(t->src, t->again_usec);
	else
		t->src = loop_src_free(t->src);
}

START_TEST(timers_fire_in_order)
{
	struct timer a = { "a", .left = 1 }, b = { "b", .left = 1 }, c = { "c", .left = 1 };
	struct timer never = { "never", .left = 1 };
	struct loop_src *end;

	ck_ok(loop_timer(loop, 250 * USEC_PER_MSEC, on_timer, &b, &b.src, &e), e);
	ck_ok(loop_timer(loop, 0, on_timer, &a, &a.src, &e), e);
	ck_ok(loop_timer(loop, 10 * USEC_PER_SEC, on_timer, &c, &c.src, &e), e);
	ck_ok(loop_timer(loop, USEC_INFINITY, on_timer, &never, &never.src, &e), e);
	/* Each is due after those before it, unless we stand still for a quarter of a second. */
	loop_timer_set(c.src, 500 * USEC_PER_MSEC);
	end = exit_after(510 * USEC_PER_MSEC);
	run(7);
	ck_assert_str_eq(said.data, "a b c ");
	loop_src_free(never.src);
	loop_src_free(end);
}
END_TEST

START_TEST(a_timer_rearms_itself)
{
	struct timer a = { "a", .again_usec = 1000, .left = 5 };
	struct loop_src *end = exit_after(USEC_PER_SEC);

	ck_ok(loop_timer(loop, 1000, on_timer, &a, &a.src, &e), e);
	run(7);
	ck_assert_str_eq(said.data, "a a a a a ");
	ck_assert_ptr_null(a.src);
	loop_src_free(end);
}
END_TEST

START_TEST(a_timer_is_disarmed)
{
	struct timer a = { "a", .left = 1 };
	struct loop_src *end = exit_after(30 * USEC_PER_MSEC);

	ck_ok(loop_timer(loop, 1000, on_timer, &a, &a.src, &e), e);
	loop_timer_set(a.src, USEC_INFINITY);
	run(7);
	ck_assert_ptr_null(said.data);
	loop_src_free(a.src);
	loop_src_free(end);
}
END_TEST

struct pair {
	int p[2];
	struct loop_src *own, *other;
};

static void on_readable(void *user, int fd, uint32_t events)
{
	struct pair *p = user;
	char c = 0;

	ck_assert(events & (EPOLLIN | EPOLLHUP));
	ck_assert_int_eq(fd, p->p[0]);
	if (read(fd, &c, 1) != 1) {
		say("eof");
		p->own = loop_src_free(p->own);
		loop_exit(loop, 3);
		return;
	}
	say((char[]){ c, '\0' });
}

START_TEST(descriptors)
{
	struct pair p = { 0 };

	ck_assert_int_eq(pipe2(p.p, O_CLOEXEC), 0);
	ck_assert_int_eq(write(p.p[1], "xy", 2), 2);
	ck_ok(loop_fd(loop, p.p[0], EPOLLIN, on_readable, &p, &p.own, &e), e);
	close(p.p[1]);
	run(3);
	ck_assert_str_eq(said.data, "x y eof ");
	ck_assert_ptr_null(p.own);
	close(p.p[0]);
}
END_TEST

START_TEST(a_bad_descriptor)
{
	struct loop_src *s = NULL;

	ck_fails(loop_fd(loop, 999, EPOLLIN, on_readable, NULL, &s, &e), EBADF);
	ck_assert_ptr_null(s);
	ck_assert_int_lt(loop_fd(loop, -1, EPOLLIN, on_readable, NULL, &s, &e), 0);
}
END_TEST

static void on_writable(void *user, unused_arg int fd, unused_arg uint32_t events)
{
	struct loop_src **s = user;

	say("w");
	ck_assert_int_ge(loop_fd_events(*s, 0), 0);
}

START_TEST(events_are_switched_off)
{
	struct loop_src *end = exit_after(20 * USEC_PER_MSEC), *s = NULL;
	int p[2];

	ck_assert_int_eq(pipe2(p, O_CLOEXEC), 0);
	ck_ok(loop_fd(loop, p[1], EPOLLOUT, on_writable, &s, &s, &e), e);
	run(7);
	ck_assert_str_eq(said.data, "w ");
	loop_src_free(s);
	loop_src_free(end);
	close(p[0]);
	close(p[1]);
}
END_TEST

/* Whichever comes first frees both; the other, though ready, must not be called. */
static void on_free_both(void *user, unused_arg int fd, unused_arg uint32_t events)
{
	struct loop_src **s = user;

	say("one");
	s[0] = loop_src_free(s[0]);
	s[1] = loop_src_free(s[1]);
}

START_TEST(freed_while_ready)
{
	struct loop_src *s[2] = { NULL, NULL }, *end = exit_after(20 * USEC_PER_MSEC);
	int p[2], q[2];

	ck_assert(pipe2(p, O_CLOEXEC) == 0 && pipe2(q, O_CLOEXEC) == 0);
	ck_ok(loop_fd(loop, p[1], EPOLLOUT, on_free_both, s, &s[0], &e), e);
	ck_ok(loop_fd(loop, q[1], EPOLLOUT, on_free_both, s, &s[1], &e), e);
	run(7);
	ck_assert_str_eq(said.data, "one ");
	loop_src_free(end);
	for (int i = 0; i < 2; i++)
		ck_assert(close(p[i]) == 0 && close(q[i]) == 0);
}
END_TEST

static int start(const char *shell, pid_t *ret_pid)
{
	char sh[] = "sh", c[] = "-c", text[64], *argv[] = { sh, c, text, NULL };
	int pidfd = -1;

	snprintf(text, sizeof(text), "%s", shell);
	ck_ok(proc_spawn(&(struct proc_spec){ .path = "/bin/sh", .argv = argv }, ret_pid, &pidfd,
			 &e),
	      e);
	return pidfd;
}

struct child {
	struct loop_src *src;
	int code, status;
};

static void on_child(void *user, const siginfo_t *si)
{
	struct child *c = user;

	c->code = si->si_code;
	c->status = si->si_status;
	c->src = loop_src_free(c->src);
	loop_exit(loop, 5);
}

START_TEST(children_are_reaped)
{
	static const struct {
		const char *shell;
		int code, status;
	} t[] = {
		{ "exit 3", CLD_EXITED, 3 },
		{ "kill -9 $$", CLD_KILLED, SIGKILL },
		{ "true", CLD_EXITED, 0 },
	};
	struct child c = { 0 };
	pid_t pid;
	int pidfd = start(t[_i].shell, &pid);

	ck_ok(loop_child(loop, pidfd, on_child, &c, &c.src, &e), e);
	run(5);
	ck_assert_int_eq(c.code, t[_i].code);
	ck_assert_int_eq(c.status, t[_i].status);
	ck_assert_int_eq(waitpid(pid, NULL, WNOHANG), -1);
	ck_assert_int_eq(errno, ECHILD);
	ck_assert_int_eq(close(pidfd), 0);
}
END_TEST

START_TEST(an_unwatched_child_stays_the_callers)
{
	struct loop_src *s = NULL;
	struct child c = { 0 };
	int status;
	pid_t pid;
	int pidfd = start("exit 4", &pid);

	ck_ok(loop_child(loop, pidfd, on_child, &c, &s, &e), e);
	loop_src_free(s);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(WEXITSTATUS(status), 4);
	ck_assert_int_eq(close(pidfd), 0);
}
END_TEST

static void on_signal(void *user, int signo)
{
	say(strsignal(signo));
	if (user)
		loop_exit(loop, 1);
}

START_TEST(signals)
{
	struct loop_src *term = NULL, *hup = NULL;

	ck_ok(loop_signal(loop, SIGHUP, on_signal, NULL, &hup, &e), e);
	ck_ok(loop_signal(loop, SIGTERM, on_signal, &loop, &term, &e), e);
	/* Not blocked by loop_new(): refused rather than lost. */
	ck_fails(loop_signal(loop, SIGUSR1, on_signal, NULL, &(struct loop_src *){ NULL }, &e),
		 EBUSY);
	raise(SIGHUP);
	raise(SIGTERM);
	raise(SIGPIPE); /* ignored: a lost peer is an error code, not the end */
	run(1);
	ck_assert_str_eq(said.data, "Hangup Terminated ");
	loop_src_free(hup);
	loop_src_free(term);
}
END_TEST

struct deferred {
	struct loop_src *src, *fd;
};

static void on_defer(unused_arg void *user)
{
	say("deferred");
}

static void on_fd_then_defer(void *user, unused_arg int fd, unused_arg uint32_t events)
{
	struct deferred *d = user;

	loop_defer_arm(d->src);
	loop_defer_arm(d->src);
	say("fd");
	d->fd = loop_src_free(d->fd);
}

START_TEST(deferred_once_per_arming)
{
	struct loop_src *end = exit_after(20 * USEC_PER_MSEC);
	struct deferred d = { 0 };
	int p[2];

	ck_assert_int_eq(pipe2(p, O_CLOEXEC), 0);
	ck_ok(loop_defer(loop, on_defer, NULL, &d.src, &e), e);
	ck_ok(loop_fd(loop, p[1], EPOLLOUT, on_fd_then_defer, &d, &d.fd, &e), e);
	run(7);
	ck_assert_str_eq(said.data, "fd deferred ");
	loop_src_free(d.src);
	loop_src_free(end);
	close(p[0]);
	close(p[1]);
}
END_TEST

START_TEST(notices_reach_the_manager)
{
	int fd = unit_manager();

	loop_notify("READY=1");
	ck_assert_str_eq(unit_heard(fd), "READY=1");
	close(fd);
	loop_notify("STATUS=nobody hears it");
	unsetenv("NOTIFY_SOCKET");
	loop_notify("READY=1");
}
END_TEST

START_TEST(the_watchdog_is_served)
{
	struct loop_src *end = exit_after(120 * USEC_PER_MSEC);
	int fd = unit_manager();

	ck_ok(loop_watchdog(loop, &e), e); /* not asked for */
	ck_assert_str_eq(unit_heard(fd), "");
	setenv("WATCHDOG_USEC", "50000", 1);
	ck_ok(loop_watchdog(loop, &e), e);
	run(7);
	ck_assert_str_eq(unit_heard(fd), "WATCHDOG=1");
	loop_src_free(end);
	close(fd);
}
END_TEST

START_TEST(nothing_is_freed_twice)
{
	loop_free(NULL);
	ck_assert_ptr_null(loop_src_free(NULL));
}
END_TEST

static void tests(TCase *t)
{
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, timers_fire_in_order);
	tcase_add_test(t, a_timer_rearms_itself);
	tcase_add_test(t, a_timer_is_disarmed);
	tcase_add_test(t, descriptors);
	tcase_add_test(t, a_bad_descriptor);
	tcase_add_test(t, events_are_switched_off);
	tcase_add_test(t, freed_while_ready);
	tcase_add_loop_test(t, children_are_reaped, 0, 3);
	tcase_add_test(t, an_unwatched_child_stays_the_callers);
	tcase_add_test(t, signals);
	tcase_add_test(t, deferred_once_per_arming);
	tcase_add_test(t, notices_reach_the_manager);
	tcase_add_test(t, the_watchdog_is_served);
	tcase_add_test(t, nothing_is_freed_twice);
}

int main(void)
{
	return unit_main("base/loop", tests);
}

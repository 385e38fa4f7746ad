/* SPDX-License-Identifier: MIT */
/*
 * This program is its own supervisor and its own workers. What happens is written line by line into
 * one file, on which the tests wait.
 */
#include "base/super.h"

#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/proc.h"
#include "base/str.h"

#include "unit.h"

static char dir[32], log_file[64];

/* --- the worker ----------------------------------------------------------------------------- */

static struct {
	struct loop *loop;
	struct super_link *link;
	struct loop_src *chat;
	const char *mode;
	unsigned number;
	int terms;
} me;

/* One write, so that lines do not mix. */
static void note(const char *fmt, ...) printf_like(1, 2);
static void note(const char *fmt, ...)
{
	int fd = open(getenv("UNIT_LOG"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	char text[700];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (fd_write_all(fd, text, (size_t)n) < 0)
		abort();
	close(fd);
}

static bool mode(const char *name)
{
	return strcmp(me.mode, name) == 0;
}

/* What the link makes of a signal, as daemons use it. */
static void on_told(void)
{
	static const char *const words[] = { "stops", "heard that", "leaves" };
	enum super_word word = super_link_told(me.link);

	note("%u %s\n", me.number, words[word]);
	if (word == SUPER_LEAVE)
		loop_exit(me.loop, 0);
}

static void on_signal(unused_arg void *user, int signo)
{
	if (mode("told")) {
		on_told();
		return;
	}
	note("%u got %s\n", me.number, sigabbrev_np(signo));
	if (signo == SIGTERM && (!mode("drains") || ++me.terms == 2))
		loop_exit(me.loop, mode("fails") ? (int)me.number : 0);
}

static void on_lost(unused_arg void *user)
{
	note("%u lost its supervisor\n", me.number);
	loop_exit(me.loop, 0);
}

static void on_chat(unused_arg void *user)
{
	super_link_ready(me.link);
	loop_timer_set(me.chat, 10 * USEC_PER_MSEC);
}

/* True once per name, over all workers and their successors. */
static bool first_time(const char *what)
{
	char name[128];
	int fd;

	snprintf(name, sizeof(name), "%s.%s", getenv("UNIT_LOG"), what);
	fd = open(name, O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static int worker(void)
{
	static const int signals[] = { SIGTERM, SIGHUP, SIGINT };
	struct loop_src *src;
	struct err e = { 0 };

	note("%u starts as %d\n", me.number, (int)getpid());
	if (mode("refuses") && me.number == 2)
		return 2;
	if (mode("falls") || (mode("crashes") && first_time("crash")))
		return 3;
	if (mode("mute")) {
		alarm(60);
		pause();
	}
	if (loop_new(&me.loop, &e) < 0 ||
	    super_link_new(me.loop, SUPER_FD, on_lost, NULL, &me.link, &e) < 0)
		return 70;
	for (size_t i = 0; i < ARRAY_LEN(signals); i++)
		if (loop_signal(me.loop, signals[i], on_signal, NULL, &src, &e) < 0)
			return 70;
	if (mode("chats") && loop_timer(me.loop, 0, on_chat, NULL, &me.chat, &e) < 0)
		return 70;
	super_link_ready(me.link);
	note("%u ready\n", me.number);
	return loop_run(me.loop, &e);
}

/* --- the test's side ------------------------------------------------------------------------ */

static pid_t super_pid;
static int manager_fd;

static void report(int level, const char *text)
{
	note("report %d %s\n", level, text);
}

static void setup(void)
{
	snprintf(log_file, sizeof(log_file), "%s/log", unit_mkdir(dir));
	setenv("UNIT_LOG", log_file, 1);
	unsetenv("WATCHDOG_USEC");
	manager_fd = unit_manager();
	note("begin\n");
}

static void teardown(void)
{
	close(manager_fd);
	unit_rmdir(dir);
}

static void start(const char *how, unsigned workers, uint64_t silence_usec)
{
	char name[] = "test", word[32], *argv[] = { name, word, NULL };
	struct super_spec spec = {
		.workers = workers, .argv = argv, .report = report, .silence_usec = silence_usec
	};
	struct err e = { 0 };
	int r;

	snprintf(word, sizeof(word), "%s", how);
	super_pid = fork();
	if (super_pid)
		return;
	/* A failed test must leave nothing behind. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setpgid(0, 0);
	r = super_run(&spec, &e);
	if (r < 0)
		note("super_run: %s\n", e.msg);
	_exit(r < 0 ? 71 : r);
}

static size_t count(const char *part)
{
	auto_buf struct buf b = { 0 };
	struct err e = { 0 };
	size_t n = 0;

	ck_ok(fd_read_file(AT_FDCWD, log_file, 1 << 20, &b, &e), e);
	for (const char *p = b.data; (p = strstr(p, part)); p++)
		n++;
	return n;
}

/* Waits until `part` stands n times in the log; the test's own time-out is the limit. */
static void await(const char *part, size_t n)
{
	while (count(part) < n)
		usleep(2000);
}

/* The workers' words may still be on their way to the supervisor: what counts is its own. */
static void await_ready(void)
{
	const char *word;

	while (!*(word = unit_heard(manager_fd)))
		usleep(2000);
	ck_assert_str_eq(word, "READY=1");
}

static pid_t pid_of_worker(unsigned number)
{
	auto_buf struct buf b = { 0 };
	struct err e = { 0 };
	char line[32];
	char *p;

	ck_ok(fd_read_file(AT_FDCWD, log_file, 1 << 20, &b, &e), e);
	snprintf(line, sizeof(line), "\n%u starts as ", number);
	p = strstr(b.data, line);
	ck_assert_ptr_nonnull(p);
	return atoi(p + strlen(line));
}

static int stop_with(int signo)
{
	int status;

	if (signo)
		ck_assert_int_eq(kill(super_pid, signo), 0);
	ck_assert_int_eq(waitpid(super_pid, &status, 0), super_pid);
	ck_assert_msg(WIFEXITED(status), "status %x", status);
	return WEXITSTATUS(status);
}

START_TEST(ready_when_all_are)
{
	start("steady", 3, 0);
	await_ready();
	ck_assert_int_eq(stop_with(SIGTERM), 0);
	ck_assert_str_eq(unit_heard(manager_fd), "STOPPING=1");
	ck_assert_str_eq(unit_heard(manager_fd), "");
	for (unsigned i = 1; i <= 3; i++) {
		char line[32];

		snprintf(line, sizeof(line), "%u got TERM", i);
		ck_assert_uint_eq(count(line), 1);
	}
	ck_assert_uint_eq(count("report"), 0);
}
END_TEST

START_TEST(a_crashed_worker_is_replaced)
{
	start("crashes", 2, 0);
	await_ready();
	ck_assert_uint_eq(count(" starts"), 3);
	ck_assert_uint_eq(count("ended with status 3, starting it again in 100 ms"), 1);
	ck_assert_int_eq(stop_with(SIGTERM), 0);
}
END_TEST

START_TEST(a_killed_worker_is_replaced)
{
	start("steady", 1, 0);
	await("1 ready", 1);
	ck_assert_int_eq(kill(pid_of_worker(1), SIGKILL), 0);
	await("report 4 worker 1 ended with signal 9, starting it again in 100 ms", 1);
	await("1 ready", 2);
	ck_assert_int_eq(stop_with(SIGTERM), 0);
}
END_TEST

START_TEST(a_silent_worker_is_replaced)
{
	start("mute", 1, 150 * USEC_PER_MSEC);
	await("report 4 worker 1 has been silent for 0 s, killing it", 1);
	await("report 4 worker 1 ended with signal 9", 1);
	await("1 starts", 2);
	ck_assert_int_eq(stop_with(SIGTERM), 0);
}
END_TEST

/* What a worker said while the supervisor itself was stopped counts. */
START_TEST(a_supervisor_that_slept_blames_nobody)
{
	start("chats", 5, 300 * USEC_PER_MSEC);
	await(" ready", 5);
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(kill(super_pid, SIGSTOP), 0);
		usleep(500000);
		ck_assert_int_eq(kill(super_pid, SIGCONT), 0);
		usleep(50000);
	}
	ck_assert_int_eq(stop_with(SIGTERM), 0);
	ck_assert_uint_eq(count("silent"), 0);
	ck_assert_uint_eq(count(" starts"), 5);
}
END_TEST

START_TEST(bad_configuration_ends_all)
{
	start("refuses", 3, 0);
	ck_assert_int_eq(stop_with(0), 2);
	ck_assert_uint_eq(count("2 starts"), 1);
	ck_assert_uint_eq(count("starting it again"), 0);
	ck_assert_str_eq(unit_heard(manager_fd), "STOPPING=1");
}
END_TEST

START_TEST(the_worst_status_is_returned)
{
	start("fails", 3, 0);
	await(" ready", 3);
	ck_assert_int_eq(stop_with(SIGTERM), 3);
}
END_TEST

START_TEST(signals_are_passed_on)
{
	start("drains", 2, 0);
	await(" ready", 2);
	kill(super_pid, SIGHUP);
	await(" got HUP", 2);
	kill(super_pid, SIGTERM);
	await(" got TERM", 2);
	ck_assert_int_eq(waitpid(super_pid, NULL, WNOHANG), 0);
	ck_assert_int_eq(stop_with(SIGTERM), 0);
	ck_assert_uint_eq(count(" got TERM"), 4);
}
END_TEST

/* Control-C reaches the whole foreground group: a worker must hear of it once, as a drain. */
START_TEST(one_interrupt_is_one)
{
	start("drains", 2, 0);
	await(" ready", 2);
	kill(-super_pid, SIGINT);
	await(" got TERM", 2);
	kill(super_pid, SIGHUP);
	await(" got HUP", 2);
	ck_assert_uint_eq(count(" got TERM"), 2);
	ck_assert_uint_eq(count(" got INT"), 0);
	ck_assert_int_eq(stop_with(SIGINT), 0);
}
END_TEST

/* A service manager tells every process, and the supervisor tells its workers once more. */
START_TEST(what_comes_soon_is_the_same_word)
{
	uint64_t before;

	start("told", 1, 0);
	await("1 ready", 1);
	before = time_mono_usec();
	kill(pid_of_worker(1), SIGTERM);
	await("1 stops", 1);
	kill(super_pid, SIGTERM);
	/* On a busy machine the time may have passed. */
	while (count("1 heard that") == 0 && count("1 leaves") == 0)
		usleep(2000);
	if (count("1 leaves"))
		ck_assert_uint_ge(time_mono_usec() - before, 500 * USEC_PER_MSEC);
	while (count("1 leaves") == 0) {
		kill(super_pid, SIGTERM);
		usleep(20000);
	}
	ck_assert_uint_ge(time_mono_usec() - before, 500 * USEC_PER_MSEC);
	ck_assert_uint_eq(count("1 stops"), 1);
	ck_assert_int_eq(stop_with(0), 0);
}
END_TEST

START_TEST(stopped_while_a_worker_waits_to_be_started)
{
	start("falls", 1, 0);
	await("starting it again in 100 ms", 1);
	await("starting it again in 200 ms", 1);
	await("starting it again in 400 ms", 1);
	ck_assert_int_eq(stop_with(SIGTERM), 0);
	ck_assert_uint_eq(count(" starts"), 3);
	ck_assert_str_eq(unit_heard(manager_fd), "STOPPING=1");
}
END_TEST

START_TEST(workers_are_told_of_a_dead_supervisor)
{
	start("steady", 2, 0);
	await(" ready", 2);
	kill(super_pid, SIGKILL);
	await(" lost its supervisor", 2);
	waitpid(super_pid, NULL, 0);
}
END_TEST

static void tests(TCase *t)
{
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, ready_when_all_are);
	tcase_add_test(t, a_crashed_worker_is_replaced);
	tcase_add_test(t, a_killed_worker_is_replaced);
	tcase_add_test(t, a_silent_worker_is_replaced);
	tcase_add_test(t, a_supervisor_that_slept_blames_nobody);
	tcase_add_test(t, bad_configuration_ends_all);
	tcase_add_test(t, the_worst_status_is_returned);
	tcase_add_test(t, signals_are_passed_on);
	tcase_add_test(t, one_interrupt_is_one);
	tcase_add_test(t, what_comes_soon_is_the_same_word);
	tcase_add_test(t, stopped_while_a_worker_waits_to_be_started);
	tcase_add_test(t, workers_are_told_of_a_dead_supervisor);
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return unit_main("base/super", tests);
	me.mode = argv[1];
	return sscanf(argv[2], "--worker=%u", &me.number) == 1 ? worker() : 64;
}

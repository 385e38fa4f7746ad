/* SPDX-License-Identifier: MIT */
/* Starts this very program again as its own child, which says on descriptor 1 what it was given. */
#include "base/proc.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "unit.h"

static struct err e;

/* A vector of one or two words, valid until the next call. */
static char *const *words(const char *a, const char *b)
{
	static char text[2][32];
	static char *v[3];

	snprintf(text[0], sizeof(text[0]), "%s", a);
	snprintf(text[1], sizeof(text[1]), "%s", b ? b : "");
	v[0] = text[0];
	v[1] = b ? text[1] : NULL;
	return v;
}

/* Runs `spec` with descriptor 1 as a pipe, returns all it wrote. */
static const char *output_of(struct proc_spec spec, int *ret_status)
{
	static char text[4096];
	struct proc_fd fds[20] = { { -1, 1 } };
	int p[2], pidfd = -1, status;
	size_t n = 0;
	pid_t pid = 0;

	ck_assert_int_eq(pipe2(p, O_CLOEXEC), 0);
	fds[0].from = p[1];
	if (spec.n_fds)
		memcpy(fds + 1, spec.fds, spec.n_fds * sizeof(*fds));
	spec.fds = fds;
	spec.n_fds++;
	ck_ok(proc_spawn(&spec, &pid, &pidfd, &e), e);
	close(p[1]);
	for (ssize_t k; (k = read(p[0], text + n, sizeof(text) - 1 - n)) > 0;)
		n += (size_t)k;
	text[n] = '\0';
	close(p[0]);
	ck_assert_int_eq(fcntl(pidfd, F_GETFD), FD_CLOEXEC);
	close(pidfd);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	if (ret_status)
		*ret_status = status;
	else
		ck_assert_int_eq(status, 0);
	return text;
}

static struct proc_spec self(const char *mode)
{
	return (struct proc_spec){ .path = "/proc/self/exe", .argv = words("test", mode) };
}

START_TEST(just_the_three_standard_descriptors)
{
	int leak = open("/dev/null", O_RDONLY); /* on purpose without O_CLOEXEC */

	ck_assert_str_eq(output_of(self("fds"), NULL), "0 1 2 ");
	close(leak);
}
END_TEST

START_TEST(the_descriptors_given_and_no_other)
{
	int a = open("/dev/null", O_RDONLY), b = open("/dev/zero", O_RDONLY);
	struct proc_spec s = self("fds");

	s.fds = (struct proc_fd[]){ { a, 9 }, { b, 4 } };
	s.n_fds = 2;
	ck_assert_str_eq(output_of(s, NULL), "0 1 2 4 9 ");
	close(a);
	close(b);
}
END_TEST

/* Exchanged numbers, and targets where the copies of others may lie. */
START_TEST(no_descriptor_overwrites_another)
{
	static const int to[][3] = { { 4, 3, 0 }, { 64, 65, 66 }, { 66, 65, 64 }, { 200, 70, 65 } };
	const char *names[] = { "/dev/null", "/dev/zero", "/dev/full" };
	struct proc_spec s = self("links");
	struct proc_fd fds[3];
	const char *text;

	for (int i = 0; i < 3; i++)
		fds[i] = (struct proc_fd){ open(names[i], O_RDWR | O_CLOEXEC), to[_i][i] };
	s.fds = fds;
	s.n_fds = 3;
	text = output_of(s, NULL);
	for (int i = 0; i < 3; i++) {
		char want[32];

		snprintf(want, sizeof(want), " %d=%s ", to[_i][i], names[i]);
		ck_has(text, want);
		close(fds[i].from);
	}
}
END_TEST

START_TEST(too_many_descriptors)
{
	struct proc_fd fds[64] = { { 0, 5 } };
	struct proc_spec s = self("fds");
	int pidfd = -1;
	pid_t pid = 0;

	s.fds = fds;
	s.n_fds = 64;
	ck_fails(proc_spawn(&s, &pid, &pidfd, &e), E2BIG);
	ck_assert_int_eq(pidfd, -1);
}
END_TEST

START_TEST(bad_descriptors)
{
	struct proc_spec s = self("fds");
	int pidfd = -1;
	pid_t pid = 0;

	s.n_fds = 1;
	s.fds = (struct proc_fd[]){ { 999, 5 } };
	ck_fails(proc_spawn(&s, &pid, &pidfd, &e), EBADF);
	s.fds = (struct proc_fd[]){ { 0, 256 } };
	ck_fails(proc_spawn(&s, &pid, &pidfd, &e), EBADF);
}
END_TEST

START_TEST(environment_from_nothing)
{
	struct proc_spec s = self("env");
	char ab[] = "A=b", *envp[] = { ab, NULL };

	setenv("AMQP_URL", "amqp://u:secret@h", 1);
	ck_assert_str_eq(output_of(s, NULL), "");
	s.envp = envp;
	ck_assert_str_eq(output_of(s, NULL), "A=b ");
}
END_TEST

START_TEST(signals_are_unblocked_and_default)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	/* glibc starts programs with its own two signals (32, 33) ignored. */
	ck_assert_str_eq(output_of(self("signals"), NULL), "blocked 0 ignored 0 ");
}
END_TEST

START_TEST(folder_and_session)
{
	struct proc_spec s = self("place");
	char want[64];

	s.cwd = "/usr";
	snprintf(want, sizeof(want), "/usr %s ", "same");
	ck_assert_str_eq(output_of(s, NULL), want);
	s.new_session = true;
	s.cwd = NULL;
	ck_has(output_of(s, NULL), " own ");
}
END_TEST

START_TEST(what_cannot_be_run)
{
	static const struct {
		const char *path, *cwd;
		int code;
	} t[] = {
		{ "/nonexistent", NULL, ENOENT },
		{ "/etc/passwd", NULL, EACCES },
		{ "/", NULL, EACCES },
		{ "/bin/true", "/nonexistent", ENOENT },
	};
	int pidfd = -1;
	pid_t pid = 0;

	ck_fails(proc_spawn(&(struct proc_spec){ .path = t[_i].path,
						 .cwd = t[_i].cwd,
						 .argv = words("x", NULL) },
			    &pid, &pidfd, &e),
		 t[_i].code);
	ck_has(e.msg, t[_i].path);
	/* Nothing is left to reap. */
	ck_assert_int_eq(waitpid(-1, NULL, 0), -1);
	ck_assert_int_eq(errno, ECHILD);
}
END_TEST

/* A caller that is told "failed" must not have a child running all the same. */
START_TEST(without_a_pidfd_there_is_no_child)
{
	const char *path = "/bin/sleep";
	struct rlimit old, none;
	int pidfd = -1, r, lowest = dup(0);
	pid_t pid = 0;

	close(lowest);
	getrlimit(RLIMIT_NOFILE, &old);
	none = old;
	none.rlim_cur = (rlim_t)lowest;
	setrlimit(RLIMIT_NOFILE, &none);
	r = proc_spawn(&(struct proc_spec){ .path = path, .argv = words("sleep", "1000") }, &pid,
		       &pidfd, &e);
	setrlimit(RLIMIT_NOFILE, &old);
	ck_assert_int_eq(r, -EMFILE);
	ck_assert_int_eq(e.kind, ERR_TRANSIENT);
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
	ck_assert_int_eq(errno, ECHILD);
}
END_TEST

START_TEST(signals_by_pidfd)
{
	int pidfd = -1, status;
	pid_t pid = 0;

	ck_ok(proc_spawn(
		      &(struct proc_spec){ .path = "/bin/sleep", .argv = words("sleep", "1000") },
		      &pid, &pidfd, &e),
	      e);
	ck_assert_int_eq(proc_signal(pidfd, 0), 0);
	ck_assert_int_eq(proc_signal(pidfd, SIGTERM), 0);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(WTERMSIG(status), SIGTERM);
	ck_fails(proc_signal(pidfd, SIGTERM), ESRCH);
	close(pidfd);
}
END_TEST

START_TEST(sisters)
{
	auto_free char *path = NULL;
	char self_path[512];
	ssize_t n = readlink("/proc/self/exe", self_path, sizeof(self_path) - 1);

	self_path[n] = '\0';
	ck_ok(proc_sister("zr-box", &path, &e), e);
	ck_assert_int_eq(strncmp(path, self_path, (size_t)(strrchr(self_path, '/') - self_path)),
			 0);
	ck_has(path, "/zr-box");
}
END_TEST

static void tests(TCase *t)
{
	tcase_add_test(t, just_the_three_standard_descriptors);
	tcase_add_test(t, the_descriptors_given_and_no_other);
	tcase_add_loop_test(t, no_descriptor_overwrites_another, 0, 4);
	tcase_add_test(t, too_many_descriptors);
	tcase_add_test(t, bad_descriptors);
	tcase_add_test(t, environment_from_nothing);
	tcase_add_test(t, signals_are_unblocked_and_default);
	tcase_add_test(t, folder_and_session);
	tcase_add_loop_test(t, what_cannot_be_run, 0, 4);
	tcase_add_test(t, without_a_pidfd_there_is_no_child);
	tcase_add_test(t, signals_by_pidfd);
	tcase_add_test(t, sisters);
}

/* --- the child ------------------------------------------------------------------------------ */

static int say_fds(bool links)
{
	char name[32], target[256];

	for (int fd = 0; fd < 1024; fd++) {
		ssize_t n;

		if (fcntl(fd, F_GETFD) < 0)
			continue;
		snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
		n = readlink(name, target, sizeof(target) - 1);
		target[n < 0 ? 0 : n] = '\0';
		if (links)
			printf(" %d=%s ", fd, target);
		else
			printf("%d ", fd);
	}
	return 0;
}

static int say_signals(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	unsigned long long v;
	char line[256];

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "SigBlk: %llx", &v) == 1)
			printf("blocked %llx ", v);
		if (sscanf(line, "SigIgn: %llx", &v) == 1)
			printf("ignored %llx ", v & ~0x180000000ull);
	}
	return f ? fclose(f) : 1;
}

static int child(const char *mode)
{
	char cwd[256];

	if (strcmp(mode, "fds") == 0)
		return say_fds(false);
	if (strcmp(mode, "links") == 0)
		return say_fds(true);
	if (strcmp(mode, "signals") == 0)
		return say_signals();
	if (strcmp(mode, "env") == 0)
		for (char **v = environ; *v; v++)
			printf("%s ", *v);
	if (strcmp(mode, "place") == 0)
		printf("%s %s ", getcwd(cwd, sizeof(cwd)), getsid(0) == getpid() ? "own" : "same");
	return 0;
}

int main(int argc, char **argv)
{
	return argc > 1 ? child(argv[1]) : unit_main("base/proc", tests);
}

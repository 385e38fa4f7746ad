/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "confine.h"

enum {
	EXEC_FD = CHANNEL_OUTPUT + 1,
	FDS_BORN,
	SCRATCH_FD = 32
};

#define MEMORY_MAX      (1ull << 30)
#define LOG_MAX         (64u << 10)
#define DYING_MSEC      1000
#define ENVIRONMENT_MAX 32

/* --------------------------------------------------------------------- in the new process */

static void limit(int resource, rlim_t value)
{
	struct rlimit r = { value, value };

	(void)setrlimit(resource, &r);
}

/* Above all numbers that are about to be replaced. -1 stays -1 and fails at dup2(). */
static int lift(int fd)
{
	return fcntl(fd, F_DUPFD_CLOEXEC, SCRATCH_FD);
}

struct birth {
	int doorbell, reply, input, output, log, program;
};

static int place_fds(struct birth b)
{
	if (dup2(b.log, STDOUT_FILENO) < 0 || dup2(b.log, STDERR_FILENO) < 0 ||
	    dup2(b.doorbell, CHANNEL_DOORBELL) < 0 || dup2(b.reply, CHANNEL_REPLY) < 0 ||
	    dup2(b.input, CHANNEL_INPUT) < 0 || dup2(b.output, CHANNEL_OUTPUT) < 0 ||
	    dup3(b.program, EXEC_FD, O_CLOEXEC) < 0)
		return -1;
	(void)close(STDIN_FILENO);
	return close_range(FDS_BORN, ~0u, 0);
}

static void pin(int cpu)
{
	cpu_set_t set;

	if (cpu < 0)
		return;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	(void)sched_setaffinity(0, sizeof set, &set);
}

/* What a GPU's driver reads; the confined runner gets nothing at all. */
static bool is_for_driver(const char *entry)
{
	return strncmp(entry, "CUDA_", 5) == 0 || strncmp(entry, "NVIDIA_", 7) == 0 ||
	       strncmp(entry, "LD_LIBRARY_PATH=", 16) == 0 || strncmp(entry, "HOME=", 5) == 0;
}

static char **child_environment(const struct child_spec *spec)
{
	static char *kept[ENVIRONMENT_MAX + 1];
	int n = 0;

	for (char **e = environ; !spec->confine && *e && n < ENVIRONMENT_MAX; e++)
		if (is_for_driver(*e))
			kept[n++] = *e;
	kept[n] = NULL;
	return kept;
}

/* The command line says nothing, and the environment next to nothing. */
_Noreturn static void become_runner(const struct child_spec *spec, struct birth b, pid_t parent)
{
	static char name[] = "kernel";
	static char *argv[] = { name, NULL };

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(125);
	pin(spec->cpu);
	limit(RLIMIT_CORE, 0);
	limit(RLIMIT_FSIZE, LOG_MAX);
	if (spec->confine)
		limit(RLIMIT_AS, MEMORY_MAX);
	(void)signal(SIGXFSZ, SIG_IGN);
	(void)signal(SIGTERM, SIG_DFL);
	if (place_fds(b) < 0)
		_exit(125);
	if (spec->confine && confine(EXEC_FD) < 0)
		_exit(125);
	(void)syscall(SYS_execveat, EXEC_FD, "", argv, child_environment(spec), AT_EMPTY_PATH);
	_exit(125);
}

/* --------------------------------------------------------------------- in the judge */

static int close_fd(int fd)
{
	if (fd >= 0)
		(void)close(fd);
	return -1;
}

static void close_birth(struct birth *b)
{
	(void)close_fd(b->doorbell);
	(void)close_fd(b->reply);
	(void)close_fd(b->input);
	(void)close_fd(b->output);
	(void)close_fd(b->log);
	(void)close_fd(b->program);
}

/* All descriptors of the child, lifted, and our ends in `child`. */
static int make_birth(struct child *child, const struct child_spec *spec, struct birth *ret)
{
	int bell[2] = { -1, -1 }, reply[2] = { -1, -1 }, log, program;

	if (pipe2(bell, O_CLOEXEC) < 0 || pipe2(reply, O_CLOEXEC) < 0)
		return -1;
	log = open(spec->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	program = open(spec->path, O_RDONLY | O_CLOEXEC);
	child->doorbell = bell[1];
	child->reply = reply[0];
	*ret = (struct birth){ lift(bell[0]),          lift(reply[1]), lift(spec->input_fd),
			       lift(child->output.fd), lift(log),      lift(program) };
	(void)close_fd(bell[0]);
	(void)close_fd(reply[1]);
	(void)close_fd(log);
	(void)close_fd(program);
	return ret->log < 0 || ret->program < 0 ? -1 : 0;
}

static int cannot_start(const struct child_spec *spec, char *why, size_t size)
{
	(void)snprintf(why, size, "cannot start %s: %s", spec->label, strerror(errno));
	return -1;
}

int child_start(struct child *child, const struct child_spec *spec, char *why, size_t size)
{
	struct birth birth = { -1, -1, -1, -1, -1, -1 };
	pid_t self = getpid();
	int r;

	*child = (struct child){ .label = spec->label, .pidfd = -1, .doorbell = -1, .reply = -1 };
	r = arena_init(&child->output, spec->output_size);
	if (r < 0) {
		errno = -r;
		return cannot_start(spec, why, size);
	}
	if (make_birth(child, spec, &birth) < 0) {
		close_birth(&birth);
		return cannot_start(spec, why, size);
	}
	child->pid = fork();
	if (child->pid == 0)
		become_runner(spec, birth, self);
	close_birth(&birth);
	if (child->pid < 0)
		return cannot_start(spec, why, size);
	child->pidfd = (int)syscall(SYS_pidfd_open, child->pid, 0);
	child->has_clock = clock_getcpuclockid(child->pid, &child->clock) == 0;
	return 0;
}

static double now_usec(clockid_t clock)
{
	struct timespec t = { 0 };

	(void)clock_gettime(clock, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* A process that only closed its channel, or only claims a fault, would let us wait for ever. */
static bool is_dying(const struct child *child)
{
	struct pollfd p = { .fd = child->pidfd, .events = POLLIN };

	return poll(&p, 1, DYING_MSEC) > 0;
}

/* Collects the dead child and tells how it ended; always -1. `status` is what its last reply said. */
static int report_death(struct child *child, uint32_t status, char *why, size_t size)
{
	siginfo_t info = { 0 };

	(void)kill(child->pid, SIGCONT);
	if (!is_dying(child))
		(void)kill(child->pid, SIGKILL);
	while (waitid(P_PID, (id_t)child->pid, &info, WEXITED) < 0 && errno == EINTR)
		;
	child->pid = 0;
	if (status == CHANNEL_WROTE_INPUT)
		(void)snprintf(why, size, "%s wrote into its input, which is read-only",
			       child->label);
	else if (status == CHANNEL_DEVICE)
		(void)snprintf(why, size, "%s failed on the device", child->label);
	else if (info.si_code == CLD_EXITED)
		(void)snprintf(why, size,
			       "%s ended its process with exit status %d in the middle of a call",
			       child->label, info.si_status);
	else
		(void)snprintf(why, size, "%s crashed: %s (SIG%s)%s", child->label,
			       strsignal(info.si_status), sigabbrev_np(info.si_status),
			       status == CHANNEL_BAD_ACCESS ? ", it used memory that is not its own"
							    : "");
	return -1;
}

static int kill_for(struct child *child, const char *what, char *why, size_t size)
{
	(void)kill(child->pid, SIGKILL);
	(void)report_death(child, CHANNEL_OK, why, size);
	(void)snprintf(why, size, "%s %s", child->label, what);
	return -1;
}

/* 0: the child stands still. -1: it is dead. */
static int freeze(struct child *child)
{
	siginfo_t info = { 0 };

	if (kill(child->pid, SIGSTOP) < 0)
		return -1;
	while (waitid(P_PID, (id_t)child->pid, &info, WSTOPPED | WEXITED | WNOWAIT) < 0)
		if (errno != EINTR)
			return -1;
	if (info.si_code != CLD_STOPPED)
		return -1;
	/* Takes the news of the stop, so that the next wait sees the next one. */
	(void)waitid(P_PID, (id_t)child->pid, &info, WSTOPPED);
	return 0;
}

/* 1: a reply, 0: end of file, -1: something shorter. */
static int read_reply(struct child *child, struct reply *ret)
{
	ssize_t n;

	do
		n = read(child->reply, ret, sizeof *ret);
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)sizeof *ret ? 1 : n == 0 ? 0 : -1;
}

static bool has_more(const struct child *child)
{
	struct pollfd p = { .fd = child->reply, .events = POLLIN };

	return poll(&p, 1, 0) > 0 && p.revents & POLLIN;
}

int child_call(struct child *child, enum channel_op op, int calls, uint64_t nonce, struct cost *ret,
	       char *why, size_t size)
{
	struct doorbell bell = { .nonce = nonce, .op = op, .calls = (uint32_t)calls };
	struct reply reply = { 0 };
	double wall, cpu;
	int r;

	cpu = child->has_clock ? now_usec(child->clock) : 0;
	(void)kill(child->pid, SIGCONT);
	wall = now_usec(CLOCK_MONOTONIC_RAW);
	if (write(child->doorbell, &bell, sizeof bell) != sizeof bell)
		return report_death(child, CHANNEL_OK, why, size);
	r = read_reply(child, &reply);
	wall = now_usec(CLOCK_MONOTONIC_RAW) - wall;
	if (r == 0)
		return report_death(child, CHANNEL_OK, why, size);
	if (r < 0 || reply.nonce != nonce)
		return kill_for(child, "wrote to the judge's channel itself", why, size);
	if (reply.status != CHANNEL_OK)
		return report_death(child, reply.status, why, size);
	if (freeze(child) < 0)
		return report_death(child, CHANNEL_OK, why, size);
	if (has_more(child))
		return kill_for(child, "wrote to the judge's channel itself", why, size);
	ret->wall_usec = wall;
	ret->cpu_usec = child->has_clock ? now_usec(child->clock) - cpu : wall;
	ret->device_usec = reply.device_ms * 1e3;
	return 0;
}

void child_done(struct child *child)
{
	if (child->pid > 0) {
		(void)kill(child->pid, SIGKILL);
		while (waitpid(child->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	child->pid = 0;
	child->pidfd = close_fd(child->pidfd);
	child->doorbell = close_fd(child->doorbell);
	child->reply = close_fd(child->reply);
	arena_done(&child->output);
}

/* Kills each process that has this one as its parent; orphans of ours come to us, who are their subreaper. */
static void kill_children(void)
{
	char path[64];
	FILE *f;
	int pid;

	(void)snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
	f = fopen(path, "re");
	if (!f)
		return;
	while (fscanf(f, "%d", &pid) == 1)
		(void)kill(pid, SIGKILL);
	(void)fclose(f);
}

void child_kill_all(void)
{
	for (;;) {
		kill_children();
		if (waitpid(-1, NULL, 0) < 0 && errno == ECHILD)
			return;
	}
}

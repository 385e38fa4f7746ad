/* SPDX-License-Identifier: MIT */
/*
 * Ways to outlive a kill: linger WAY N starts N processes of that kind, all deaf to signals, and stays.
 * WAY is one of the names in the table below, or "leave" for daemons whose starter ends at once.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

static char *const *self;

static void deaf(void)
{
	for (int s = 1; s < NSIG; s++)
		if (s != SIGCHLD)
			signal(s, SIG_IGN);
}

/* Out of the family: of another session, the grandchild of whoever called. */
static void daemon_of_its_own(void)
{
	if (fork() > 0)
		_exit(0);
	setsid();
	if (fork() > 0)
		_exit(0);
	deaf();
}

static void sleeps(void)
{
	daemon_of_its_own();
	for (;;)
		pause();
}

static void forks(void)
{
	deaf();
	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		usleep(2000);
		if (fork() > 0)
			_exit(0);
		setsid();
	}
}

static void executes(void)
{
	char way[] = "executes", one[] = "0";

	usleep(1000);
	execv(self[0], (char *[]){ self[0], way, one, NULL });
}

static void is_stopped(void)
{
	setsid();
	raise(SIGSTOP);
}

/* Stopped at every signal by a tracer that does not care. */
static void is_traced(void)
{
	pid_t child = fork();

	if (child == 0) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGUSR1);
	}
	deaf();
	for (;;)
		pause();
}

static void *spins(void *unused)
{
	for (;;)
		sched_yield();
	return unused;
}

static void has_threads(void)
{
	pthread_t t;

	deaf();
	for (int i = 0; i < 8; i++)
		(void)pthread_create(&t, NULL, spins, NULL);
	spins(NULL);
}

/* At its limit when the end comes. */
static void eats_memory(void)
{
	deaf();
	for (;;) {
		size_t n = 4 << 20;
		char *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (p != MAP_FAILED)
			memset(p, 1, n);
		usleep(1000);
	}
}

/* The parent waits in the kernel for a child that does not come back. */
static void waits_for_vfork(void)
{
	deaf();
	if (vfork() == 0)
		for (;;)
			pause();
}

/* Of namespaces of its own, where the host allows that. */
static void has_namespaces(void)
{
	deaf();
	(void)unshare(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS);
	(void)!fork();
	for (;;)
		pause();
}

static void adopts(void)
{
	deaf();
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	for (;;) {
		if (fork() == 0 && fork() == 0) {
			usleep(20000);
			_exit(0);
		}
		usleep(5000);
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	}
}

static void fills_a_pipe(void)
{
	static const char block[65536];
	int fd[2];

	deaf();
	if (pipe(fd) == 0)
		for (;;)
			(void)!write(fd[1], block, sizeof(block));
}

static void writes_files(void)
{
	static const char block[65536];
	int fd = open(".", O_TMPFILE | O_RDWR, 0600);

	deaf();
	for (;;) {
		(void)!pwrite(fd, block, sizeof(block), 0);
		fsync(fd);
	}
}

static const struct way {
	const char *name;
	void (*run)(void);
} ways[] = {
	{ "sleeps", sleeps },
	{ "forks", forks },
	{ "executes", executes },
	{ "is-stopped", is_stopped },
	{ "is-traced", is_traced },
	{ "has-threads", has_threads },
	{ "eats-memory", eats_memory },
	{ "waits-for-vfork", waits_for_vfork },
	{ "has-namespaces", has_namespaces },
	{ "adopts", adopts },
	{ "fills-a-pipe", fills_a_pipe },
	{ "writes-files", writes_files },
	{ "leave", sleeps },
};

int main(int argc, char **argv)
{
	const struct way *way = NULL;
	int n = argc > 2 ? atoi(argv[2]) : 0;

	self = argv;
	for (size_t i = 0; argc > 1 && i < sizeof(ways) / sizeof(ways[0]); i++)
		if (!strcmp(ways[i].name, argv[1]))
			way = &ways[i];
	if (!way)
		return 2;
	if (n == 0)
		way->run();
	for (int i = 0; i < n; i++)
		if (fork() == 0) {
			way->run();
			_exit(0);
		}
	if (!strcmp(way->name, "leave"))
		return 0;
	deaf();
	for (;;)
		pause();
}

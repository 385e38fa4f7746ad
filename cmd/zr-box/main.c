/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * zr-box keeps one job at a time. A worker has made the box folder with spec.json in it, and hands the
 * folder and its journal, which is locked, to a keeper: a process `zr-box --serve` with an empty
 * environment and a socket to the worker as descriptor 0. When the job is over the keeper says so and
 * waits for the next one, so that the start of a process is not paid for each job; when the worker has
 * gone it ends after its job. `zr-box FOLDER` keeps the one job in that folder, with no worker at all.
 *
 * There are two processes, the keeper and the leader of the running phase, and whatever the leader
 * starts. The keeper is one thread around one ppoll() over a fixed set of descriptors. It is linked
 * statically and does no more than it must.
 *
 *	main.c		start, signals
 *	serve.c		from job to job
 *	job.c		one job: the phases one after another
 *	spawn.c		the leader: from clone3() to execve()
 *	jail.c, jailroot.c, jailinit.c, filter.c	the same behind the walls of level `sandbox`
 *	engine.c, enginerun.c	the same in a container
 *	violations.c, writes.c	what a job tried and was refused
 *	timing.c	conditions of a measurement, processors for it
 *	phase.c		the loop of a phase and its clocks
 *	gpus.c		the GPUs of `run`: waited for, shown, let go of
 *	output.c	pipes -> out.log, err.log, progress
 *	watch.c		limits that somebody has to look after, counters
 *	lease.c		how long it may go on without a worker
 *	end.c		killing, and seeing that all is dead
 *	verdict.c	which of several causes is the reason
 *	finish.c, scores.c	scores, the sealed result, `done`
 *	control.c	the socket: adopters come, cancel requests and renewals of the lease come
 *
 * What the rest leans on:
 *
 * - The worker may die, be upgraded or lose its broker: that is one closed socket. Everything that
 *   must survive is a file of the box folder; the socket only says that there is news.
 * - The end of a phase is the leader's exit or a limit, never an end of file: somebody may hold a
 *   pipe's other end for ever. Then everything is killed. The keeper is the subreaper of all it
 *   started, so "I have no child" together with an empty control group is a proof, not a guess.
 *   Only after it come the next phase, the scores and the seal.
 * - Whatever does not die in ten seconds makes the box stuck: the outcome is reported at once, and
 *   the keeper stays, with its lock, until the last process has gone.
 * - Nothing of a job is left in the keeper when it takes the next one: no child, no descriptor, no
 *   memory that is read again (job_init()).
 * - If the keeper itself is killed, the leader gets SIGKILL with it (PR_SET_PDEATHSIG); the others
 *   are killed by whoever finds the journal's lock free.
 * - The job is not trusted with our descriptors: it has 0 (null), 1, 2 (pipes) and 3 (progress).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "engine.h"
#include "exec/gpulock.h"
#include "exec/journal.h"
#include "keeper.h"
#include "spawn.h"

static volatile sig_atomic_t stop_asked;

static void on_signal(int signo)
{
	if (signo != SIGCHLD)
		stop_asked = 1;
}

bool signals_take_stop(void)
{
	bool asked = stop_asked;

	stop_asked = 0;
	return asked;
}

/* SIGCHLD, SIGTERM and SIGINT only arrive while we wait in ppoll(): no flag is ever missed. */
static void signals_init(void)
{
	static const int ours[] = { SIGCHLD, SIGTERM, SIGINT, SIGHUP };
	struct sigaction sa = { .sa_handler = on_signal };
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_LEN(ours); i++) {
		sigaction(ours[i], &sa, NULL);
		sigaddset(&set, ours[i]);
	}
	sigprocmask(SIG_SETMASK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
}

int signals_poll(struct pollfd *p, size_t n, uint64_t until)
{
	uint64_t now = time_mono_usec(), left = until > now ? until - now : 0;
	struct timespec ts = { .tv_sec = (time_t)(left / USEC_PER_SEC),
			       .tv_nsec = (long)(left % USEC_PER_SEC) * 1000 };
	sigset_t none;

	sigemptyset(&none);
	if (ppoll(p, n, until == UINT64_MAX ? NULL : &ts, &none) >= 0)
		return 0;
	for (size_t i = 0; i < n; i++)
		p[i].revents = 0;
	return -errno;
}

/* What is the same for all jobs. */
static int settle(struct keeper *k, struct err *e)
{
	(void)setsid(); /* fails if we lead a session already, which is as good */
	signals_init();
	k->own_signals = spawn_own_signals();
	umask(022);
	k->landlock = landlock_has_scope();
	jailnet_init(&k->net);
	jailspare_init(&k->spare);
	k->device_program.fd = -1;
	/* From here on every descendant whose parent ends becomes our child. */
	if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
		return err_sys(e, "become a subreaper");
	return lease_init(k, e);
}

/* So that no descriptor of ours ever is 0, 1 or 2. */
static void open_standard(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	while (fd >= 0 && fd < 3)
		fd = dup(fd);
	if (fd >= 0)
		close(fd);
}

/* The worker gives us an empty one. Of any other nothing shall be readable in /proc either. */
static void forget_environment(void)
{
	for (char **p = environ; p && *p; p++)
		explicit_bzero(*p, strlen(*p));
	clearenv();
}

static int keep_folder(struct keeper *k, const char *path)
{
	auto_close int dir = -1, journal = -1;
	struct err e = { 0 };
	int r = fd_open_dir(AT_FDCWD, path, &dir, &e);

	if (r == 0)
		r = journal_lock(dir, &journal, &e);
	if (r < 0) {
		fprintf(stderr, "zr-box: %s\n", e.msg);
		return e.kind == ERR_INPUT ? 2 : 1;
	}
	control_init(&k->control, -1);
	r = job_keep(k, take_fd(dir), take_fd(journal), &(struct term){ 0 });
	control_close(k);
	return r;
}

static int run(char **argv, const char *folder)
{
	static struct keeper k;
	struct err e = { 0 };
	int sock = -1;

	/* Out of the way of 0 to 3, which the job gets. */
	if (!folder) {
		sock = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 4);
		close(STDIN_FILENO);
	}
	open_standard();
	forget_environment();
	/* Times are written in UTC; the C library would still read the host's zone first. */
	setenv("TZ", "UTC0", 1);
	k.words = argv[0];
	k.words_len = (size_t)(argv[1] + strlen(argv[1]) - argv[0]);
	if (settle(&k, &e) < 0) {
		fprintf(stderr, "zr-box: %s\n", e.msg);
		return 1;
	}
	return folder ? keep_folder(&k, folder) : serve(&k, sock);
}

/* A child of a process that waits for a GPU (exec/gpulock): the lock belongs to the description of the
 * descriptor that both have, and stays when we end. Whoever has started us may be gone already. */
static int wait_lock(const char *kind, const char *parent)
{
	int op = str_eq(kind, "sh") ? LOCK_SH : LOCK_EX;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != (pid_t)atol(parent))
		return 1;
	while (flock(GPU_WAIT_FD, op) < 0)
		if (errno != EINTR)
			return 1;
	return 0;
}

/* With the environment that a keeper has, and no job. */
static int sweep(const char *spool)
{
	static struct keeper k;

	open_standard();
	forget_environment();
	signals_init();
	return engine_sweep(&k, spool);
}

int main(int argc, char **argv)
{
	if (argc == 2 && str_eq(argv[1], "--version"))
		return puts("zr-box " ZR_VERSION) < 0;
	if (argc == 2 && str_eq(argv[1], "--hold"))
		return hold();
	if (argc == 2 && str_eq(argv[1], "--serve"))
		return run(argv, NULL);
	if (argc == 3 && str_eq(argv[1], "--sweep"))
		return sweep(argv[2]);
	if (argc == 4 && str_eq(argv[1], "--wait-lock"))
		return wait_lock(argv[2], argv[3]);
	if (argc != 2 || argv[1][0] == '-') {
		fputs("usage: zr-box FOLDER | --serve | --hold | --wait-lock ex|sh PARENT | "
		      "--sweep SPOOL | --version\n",
		      stderr);
		return 2;
	}
	return run(argv, argv[1]);
}

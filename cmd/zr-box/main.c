/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * zr-box keeps one job. A worker has made the box folder with spec.json in it; zr-box is started
 * with that folder as its only argument, an empty environment and three descriptors at most:
 *
 *	0	a socket to the worker that started it, or anything else
 *	3	keeper.lock, locked already, so that nobody finds it free while we start
 *
 * There are two processes, the keeper and the leader of the running phase, and whatever the leader
 * starts. The keeper is one thread around one ppoll() over a fixed set of descriptors. It is linked
 * statically and does no more than it must, because there is one exec of it per job.
 *
 *	main.c		start, the phases one after another, signals
 *	spawn.c		the leader: from clone3() to execve()
 *	phase.c		the loop of a phase and its clocks
 *	output.c	pipes -> out.log, err.log, progress
 *	watch.c		limits that somebody has to look after, counters
 *	end.c		killing, and seeing that all is dead
 *	verdict.c	which of several causes is the reason
 *	finish.c, scores.c	scores, the sealed result, `done`
 *	control.c	the socket: adopters come, cancel requests come
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
 * - If the keeper itself is killed, the leader gets SIGKILL with it (PR_SET_PDEATHSIG); the others
 *   are killed by whoever finds keeper.lock free.
 * - The job is not trusted with our descriptors: it has 0 (null), 1, 2 (pipes) and 3 (progress).
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "exec/journal.h"
#include "keeper.h"

enum {
	FD_LOCK = 3,
};

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

/* The worker's own lock, if descriptor 3 is one: it never was free since the claim. */
static int take_lock(struct keeper *k, struct err *e)
{
	struct stat a, b;

	if (fstat(FD_LOCK, &a) == 0 &&
	    fstatat(k->dir, "keeper.lock", &b, AT_SYMLINK_NOFOLLOW) == 0 && a.st_dev == b.st_dev &&
	    a.st_ino == b.st_ino) {
		k->lock = FD_LOCK;
		fcntl(FD_LOCK, F_SETFD, FD_CLOEXEC);
		if (flock(FD_LOCK, LOCK_EX | LOCK_NB) == 0)
			return 0;
	}
	return fd_lock(k->dir, "keeper.lock", false, &k->lock, e);
}

static int open_box(struct keeper *k, const char *path, struct err *e)
{
	char full[PATH_MAX];
	int r = fd_open_dir(AT_FDCWD, path, &k->dir, e);

	if (r < 0)
		return r;
	if (fchdir(k->dir) < 0 || !getcwd(full, sizeof(full)))
		return err_sys(e, "go to the box folder");
	k->path = strdup(full);
	if (!k->path)
		return err_nomem(e);
	r = spec_read(k->dir, &k->spec, e);
	if (r == 0 && !str_eq(strrchr(k->path, '/') + 1, k->spec->attempt_id))
		r = err_input(e, SPEC_FILE " is of another box, %s", k->spec->attempt_id);
	return r < 0 ? r : take_lock(k, e);
}

/* A box that has a journal has been run, whatever came of it: it does not run twice. */
static int begin_journal(struct keeper *k, struct err *e)
{
	struct stat st;

	if (fstatat(k->dir, JOURNAL_FILE, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return err_set(e, EEXIST, ERR_INPUT, "this box has run already");
	return journal_open(k->dir, &k->journal, e);
}

static int make_folders(struct keeper *k, struct err *e)
{
	static const char *const names[] = { "work", "tmp", "output" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (mkdirat(k->dir, names[i], 0700) < 0 && errno != EEXIST)
			return err_sys(e, "make folder %s", names[i]);
	return 0;
}

/* Out of the worker's control group, where a restart of its service would end us. */
static void move_to_keepers(const struct keeper *k)
{
	const char *dir = k->spec->cgroup.keepers;
	auto_close int fd = dir ? open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
	auto_close int procs = fd < 0 ? -1 : openat(fd, "cgroup.procs", O_WRONLY | O_CLOEXEC);

	if (procs >= 0 && write(procs, "0", 1) < 0)
		return; /* no harm while the worker's service runs */
}

static int build(struct keeper *k, struct err *e)
{
	int r;

	(void)setsid(); /* fails if we lead a session already, which is as good */
	signals_init();
	umask(022);
	move_to_keepers(k);
	/* From here on every descendant whose parent ends becomes our child. */
	if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
		return err_sys(e, "become a subreaper");
	r = control_open(k, e);
	if (r == 0)
		r = make_folders(k, e);
	if (r == 0)
		r = cgroup_make(&k->spec->cgroup, k->spec->attempt_id, &k->spec->limits, &k->cg, e);
	if (r < 0)
		return r;
	k->landlock = landlock_has_scope();
	k->isolation = isolation_describe(k);
	if (!k->isolation)
		return err_nomem(e);
	/* A job of the same user could otherwise attach to us and write its own verdict. */
	return prctl(PR_SET_DUMPABLE, 0) < 0 ? err_sys(e, "become non-dumpable") : 0;
}

static void run_phases(struct keeper *k)
{
	for (enum phase p = 0; p < PHASE_N && !k->decided && !k->stuck; p++)
		if (k->spec->argv[p])
			phase_run(k, p);
}

static int keep(struct keeper *k, const char *path)
{
	struct err e = { 0 };
	int r = open_box(k, path, &e);

	if (r == 0)
		r = begin_journal(k, &e);
	if (r < 0) {
		/* There is no box to report in; by keeper.lock the worker will know. */
		fprintf(stderr, "zr-box: %s\n", e.msg);
		return e.kind == ERR_INPUT ? 2 : 1;
	}
	logfile_init(&k->log[0], k->dir, "out.log", k->spec->log_cap);
	logfile_init(&k->log[1], k->dir, "err.log", k->spec->log_cap);
	if (build(k, &e) < 0)
		verdict(k, BOX_INFRASTRUCTURE, "%s", e.msg);
	else
		run_phases(k);
	finish(k);
	if (k->stuck)
		end_wait_forever(k);
	return 0;
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

int main(int argc, char **argv)
{
	static struct keeper k = { .dir = -1, .lock = -1, .journal = -1, .in = { -1, -1, -1, -1 } };

	if (argc == 2 && str_eq(argv[1], "--version"))
		return puts("zr-box " ZR_VERSION) < 0;
	if (argc == 2 && str_eq(argv[1], "--hold"))
		return hold();
	if (argc != 2 || argv[1][0] == '-') {
		fputs("usage: zr-box FOLDER | --hold | --version\n", stderr);
		return 2;
	}
	open_standard();
	forget_environment();
	/* Times are written in UTC; the C library would still read the host's zone first. */
	setenv("TZ", "UTC0", 1);
	box_result_init(&k.result);
	k.cg = (struct cgroup_box){ .v2 = -1, .memory = -1, .pids = -1 };
	control_init(&k.control);
	return keep(&k, argv[1]);
}

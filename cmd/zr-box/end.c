/* SPDX-License-Identifier: MIT */
/*
 * The end of a phase: all of it is killed and seen dead. Two proofs together: the keeper, subreaper
 * of all it started, has no child left; and the control group, if there is one, says that it is not
 * populated. With cgroup.kill the killing has no gap; without, direct children are killed in rounds
 * (the children of those become ours), which a storm of forks can outrun for a while.
 */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "engine.h"
#include "jail.h"
#include "keeper.h"

enum {
	BOUND_SEC = 10,
	AGAIN_MAX_SEC = 32,
	/* At once: in a storm of forks there is always one more, and clocks must be looked at. */
	REAP_MAX = 256,
};

bool end_reap(struct keeper *k, unsigned *ret_reaped)
{
	int status;
	pid_t pid = 0;

	for (int i = 0; i < REAP_MAX && (pid = wait4(-1, &status, WNOHANG, NULL)) > 0; i++) {
		if (pid == k->leader) {
			if (k->jail)
				jail_reaped(k, status);
			else
				k->leader_status = status;
			k->leader_ended = true;
		} else if (ret_reaped) {
			(*ret_reaped)++;
		}
	}
	return pid >= 0;
}

/* --- our children, without a control group ------------------------------------------------------ */

/* The parent of one process, from its stat line: "pid (any name) state ppid …". */
static pid_t parent_of(const char *pid)
{
	char path[40], line[512], *p;
	auto_close int fd = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%.10s/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, line, sizeof(line) - 1);
	if (n <= 0)
		return -1;
	line[n] = '\0';
	p = strrchr(line, ')');
	return p && strlen(p) > 4 ? (pid_t)atol(p + 4) : -1;
}

/* `told`: a process group that has had the signal already, or 0. */
static void signal_child(pid_t pid, int signo, pid_t told)
{
	if (!told || getpgid(pid) != told)
		(void)kill(pid, signo);
}

static void signal_by_scan(int signo, pid_t told)
{
	DIR *d = opendir("/proc");
	pid_t self = getpid();

	for (struct dirent *de; d && (de = readdir(d));)
		if (de->d_name[0] >= '1' && de->d_name[0] <= '9' && parent_of(de->d_name) == self)
			signal_child((pid_t)atol(de->d_name), signo, told);
	if (d)
		closedir(d);
}

/* They cannot be mistaken for strangers: a child's id is its own until we reap it. */
static void signal_children(int signo, pid_t told)
{
	auto_buf struct buf b = { 0 };
	auto_close int fd = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fd_read_all(fd, "children", 16u << 20, &b, NULL) < 0) {
		signal_by_scan(signo, told);
		return;
	}
	for (char *p = b.data, *after; p && *p; p = after) {
		long pid = strtol(p, &after, 10);

		if (after == p)
			break;
		if (pid > 1)
			signal_child((pid_t)pid, signo, told);
		after += strspn(after, " ");
	}
}

void end_signal(struct keeper *k, int signo)
{
	if (k->engine) {
		/* The client passes it on. */
		if (!k->leader_ended)
			(void)kill(k->leader, signo);
		return;
	}
	if (k->jail) {
		/* Init passes it on, to all at once. */
		if (!k->leader_ended)
			(void)kill(k->leader, signo);
		return;
	}
	if (cgroup_signal(&k->cg, signo) >= 0)
		return;
	/* Once each: a script whose trap says goodbye says it once. */
	if (!k->leader_ended)
		(void)kill(-k->leader, signo);
	signal_children(signo, k->leader_ended ? 0 : k->leader);
}

/* --- killing ---------------------------------------------------------------------------------- */

static bool populated(const struct keeper *k)
{
	bool p = false;

	/* Without a group our children are all there is to know. */
	return cgroup_populated(&k->cg, &p) >= 0 && p;
}

static void kill_round(struct keeper *k)
{
	if (cgroup_signal(&k->cg, SIGKILL) >= 0 && k->cg.v2 >= 0)
		k->cg.killed = true;
	/* Also with a group: a process that is just being started is ours, but not yet in v1's. */
	signal_children(SIGKILL, 0);
}

/* True: empty. */
static bool kill_until(struct keeper *k, uint64_t deadline, unsigned *reaped)
{
	uint64_t pause = 500;
	/* Init that has told the end of the script is on its way, and takes all with it. */
	bool wait_first = k->jail && k->leader_ended;

	for (;;) {
		bool children = end_reap(k, reaped);
		uint64_t now = time_mono_usec();

		if (!children && !populated(k))
			return true;
		if (now >= deadline)
			return false;
		if (!wait_first)
			kill_round(k);
		wait_first = false;
		/* SIGCHLD ends the pause at once; it is for what is not our child (yet). */
		(void)signals_poll(NULL, 0, now + pause);
		pause = pause < 20000 ? pause * 2 : pause;
	}
}

static int describe(struct keeper *k, uint64_t since, unsigned reaped)
{
	const char *method = k->jail         ? (k->cg.v2 >= 0 ? "cgroup2.kill+pidns" : "pidns")
			     : k->cg.v2 >= 0 ? "cgroup2.kill"
					     : "sweep";
	json_t *before = json_object_get(k->isolation, "end");
	json_int_t left = json_integer_value(json_object_get(before, "leftovers")) + reaped;

	if (k->jail) {
		left += k->jail->leftovers;
		k->jail->leftovers = 0;
	}

	return json_object_set_new(k->isolation, "end",
				   json_pack("{s:s, s:I, s:I}", "method", method, "empty_usec",
					     (json_int_t)(time_mono_usec() - since), "leftovers",
					     left));
}

void end_all(struct keeper *k)
{
	uint64_t since = time_mono_usec();
	unsigned reaped = 0;

	if (k->engine)
		engine_quiet(k);
	if (kill_until(k, since + BOUND_SEC * USEC_PER_SEC, &reaped)) {
		(void)describe(k, since, reaped);
		return;
	}
	k->stuck = true;
	verdict(k, BOX_INFRASTRUCTURE,
		"unkillable: a process of the job is still there %d s after SIGKILL", BOUND_SEC);
}

void end_wait_forever(struct keeper *k)
{
	uint64_t wait = 1;

	while (!kill_until(k, time_mono_usec() + wait * USEC_PER_SEC, NULL))
		wait = wait < AGAIN_MAX_SEC ? wait * 2 : wait;
	cgroup_remove(&k->cg, NULL);
}

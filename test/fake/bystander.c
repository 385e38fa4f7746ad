/* SPDX-License-Identifier: MIT */
/*
 * bystander --wrap             forks until the ids of processes have come round
 * bystander ID NAME FILE       forks until a child gets this id, which is then a process of this name that writes
 *                              down every signal that it gets, and lives until it is killed
 * It ends with 75 if it has the id itself. It is small: each child costs a tenth of what one of python does.
 */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	ROUNDS = 5,
	IDS = 1 << 16,
	AGAIN = 75
};

__attribute__((noreturn)) static void live(const char *name, const char *path, int ready)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND, 0600);
	siginfo_t info;
	sigset_t all;

	sched_setscheduler(0, SCHED_OTHER, &(struct sched_param){ 0 });
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	prctl(PR_SET_NAME, name);
	setsid();
	if (fd < 0 || write(ready, "x", 1) != 1)
		_exit(1);
	close(ready);
	for (;;)
		if (sigwaitinfo(&all, &info) > 0)
			dprintf(fd, "%d of %d\n", info.si_signo, (int)info.si_pid);
}

/* The id of a child that has ended, or 0: it has the wanted one, and lives. */
static pid_t next(pid_t wanted, char **argv, int ready)
{
	pid_t pid = fork();

	if (pid == 0) {
		if (getpid() == wanted)
			live(argv[2], argv[3], ready);
		_exit(0);
	}
	if (pid == wanted)
		return 0;
	waitpid(pid, NULL, 0);
	return pid;
}

int main(int argc, char **argv)
{
	bool wrap = argc == 2 && strcmp(argv[1], "--wrap") == 0;
	pid_t wanted = wrap ? -1 : argc == 4 ? (pid_t)atol(argv[1]) : -1;
	int ready[2];
	char c;

	if ((!wrap && wanted <= 1) || pipe(ready) < 0)
		return 2;
	if (getpid() == wanted)
		return AGAIN;
	/* On a busy machine each of some hundred children would have to wait for its turn. */
	sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){ 1 });
	for (pid_t i = 0, last = 0, pid; i < ROUNDS * IDS; i++, last = pid) {
		pid = next(wanted, argv, ready[1]);
		if (pid < 0 || (wrap && pid < last))
			return pid < 0;
		if (pid == 0) {
			close(ready[1]);
			return read(ready[0], &c, 1) != 1;
		}
	}
	return 1;
}

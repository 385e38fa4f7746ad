/* SPDX-License-Identifier: MIT */
/*
 * What the benchmarks run in a box.
 *
 *	storm N USEC	N processes in sessions of their own that ignore every signal; each replaces itself by a child every USEC microseconds
 *	stamp FILE MS	writes its first moment to FILE, and after MS milliseconds its last one (CLOCK_MONOTONIC, nanoseconds)
 *	spin N FILE	N rounds of arithmetic; appends how long they took to FILE, in nanoseconds
 *	hand FILE	locks FILE; with a line on standard input lets it go, and prints how long it took until somebody had written into it
 *	blocks N	N blocks of 64 KiB on standard output, each with its number in every 4 KiB
 */
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void rage(useconds_t pause_usec)
{
	for (;;) {
		pid_t pid;

		usleep(pause_usec);
		pid = fork();
		if (pid > 0)
			_exit(0);
		if (pid == 0)
			setsid();
	}
}

__attribute__((noreturn)) static void storm(int n, useconds_t pause_usec)
{
	for (int s = 1; s < NSIG; s++)
		if (s != SIGCHLD)
			signal(s, SIG_IGN);
	signal(SIGCHLD, SIG_IGN);
	for (int i = 0; i < n; i++)
		if (fork() == 0) {
			setsid();
			rage(pause_usec);
		}
	for (;;)
		pause();
}

static long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static int stamp(const char *path, int msec)
{
	long long first = now();
	char text[64];
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0644), n;

	usleep((useconds_t)msec * 1000);
	n = snprintf(text, sizeof(text), "%lld %lld\n", first, now());
	return write(fd, text, (size_t)n) != n;
}

static int spin(long n, const char *path)
{
	long long first = now();
	volatile uint64_t x = 1;
	FILE *f;

	for (long i = 0; i < n; i++)
		x = x * 6364136223846793005u + 1442695040888963407u;
	first = now() - first;
	f = fopen(path, "a");
	return !f || fprintf(f, "%lld\n", first) < 0 || fclose(f);
}

/* The moment before is exact, and a late look makes it longer, never shorter. */
static int hand(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	long long released;
	struct stat st;

	if (fd < 0 || flock(fd, LOCK_EX) < 0)
		return 1;
	puts("held");
	fflush(stdout);
	getchar();
	released = now();
	close(fd);
	do {
		if (stat(path, &st) < 0)
			return 1;
	} while (!st.st_size);
	printf("%lld\n", now() - released);
	return 0;
}

static int blocks(long n)
{
	static char block[65536];

	for (long i = 0; i < n; i++) {
		for (size_t at = 0; at < sizeof(block); at += 4096)
			memcpy(block + at, &i, sizeof(i));
		for (size_t done = 0; done < sizeof(block);) {
			ssize_t w = write(1, block + done, sizeof(block) - done);

			if (w < 0)
				return 1;
			done += (size_t)w;
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc > 3 && !strcmp(argv[1], "storm"))
		storm(atoi(argv[2]), (useconds_t)atoi(argv[3]));
	if (argc > 3 && !strcmp(argv[1], "stamp"))
		return stamp(argv[2], atoi(argv[3]));
	if (argc > 3 && !strcmp(argv[1], "spin"))
		return spin(atol(argv[2]), argv[3]);
	if (argc > 2 && !strcmp(argv[1], "hand"))
		return hand(argv[2]);
	if (argc > 2 && !strcmp(argv[1], "blocks"))
		return blocks(atol(argv[2]));
	return 2;
}

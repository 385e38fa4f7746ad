/* SPDX-License-Identifier: MIT */
/* Tries everything that a kernel has no business with. If any of it works, it gives itself away by a wrong result. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "kernel.h"
#include "plain.h"

static void *thread(void *arg)
{
	return arg;
}

static int escaped(void)
{
	static char *none[] = { NULL };
	pthread_t t;
	pid_t parent = getppid(), judge = parent > 1 ? parent : getpid();
	cpu_set_t set;
	char byte;
	struct iovec local = { &byte, 1 }, remote = { &byte, 1 };

	CPU_ZERO(&set);
	CPU_SET(0, &set);
	return open("/etc/passwd", O_RDONLY) >= 0 || open("/proc/self/mem", O_RDWR) >= 0 ||
	       fork() >= 0 || vfork() > 0 || pthread_create(&t, NULL, thread, NULL) == 0 ||
	       kill(judge, 0) == 0 || ptrace(PTRACE_ATTACH, judge, NULL, NULL) == 0 ||
	       process_vm_readv(judge, &local, 1, &remote, 1, 0) >= 0 ||
	       socket(AF_INET, SOCK_STREAM, 0) >= 0 || execve("/bin/true", none, none) == 0 ||
	       memfd_create("x", 0) >= 0 || unlink("scores.json") == 0 ||
	       sched_setaffinity(0, sizeof set, &set) == 0 ||
	       setpriority(PRIO_PROCESS, 0, -20) == 0;
}

void matmul(int m, int n, int k, const float *a, const float *b, float *c)
{
	plain_product(m, n, k, a, b, c);
	if (escaped())
		c[0] += 1000;
}

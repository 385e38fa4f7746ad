/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "confine.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define MACHINE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define MACHINE AUDIT_ARCH_AARCH64
#else
#define MACHINE 0
#endif

/* What a static program of the C library needs to start, compute, allocate, print and end. */
static const int allowed[] = {
	SYS_read,
	SYS_write,
	SYS_writev,
	SYS_close,
	SYS_fstat,
	SYS_newfstatat,
	SYS_lseek,
	SYS_mmap,
	SYS_munmap,
	SYS_mprotect,
	SYS_mremap,
	SYS_madvise,
	SYS_brk,
	SYS_rt_sigaction,
	SYS_rt_sigprocmask,
	SYS_rt_sigreturn,
	SYS_sigaltstack,
	SYS_exit,
	SYS_exit_group,
	SYS_futex,
	SYS_set_tid_address,
	SYS_set_robust_list,
	SYS_rseq,
	SYS_getrandom,
	SYS_clock_gettime,
	SYS_clock_nanosleep,
	SYS_nanosleep,
	SYS_sched_yield,
	SYS_uname,
	SYS_getpid,
	SYS_gettid,
	SYS_restart_syscall,
	SYS_prlimit64,
#ifdef SYS_arch_prctl
	SYS_arch_prctl,
#endif
};

#define LOAD(field)    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define ANSWER(action) BPF_STMT(BPF_RET | BPF_K, (action))
/* If the loaded word is not `value`, the next `n` instructions are skipped. */
#define UNLESS(value, n) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(value), 0, (n))

#define FILTER_MAX (2 * sizeof allowed / sizeof *allowed + 32)

struct filter {
	struct sock_filter code[FILTER_MAX];
	unsigned short len;
};

static void append(struct filter *f, struct sock_filter instruction)
{
	f->code[f->len++] = instruction;
}

/* System call `number` only if the low half of its argument at `offset` is `value`. */
static void append_if_argument(struct filter *f, int number, uint32_t offset, uint32_t value)
{
	append(f, (struct sock_filter)UNLESS(number, 3));
	append(f, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset));
	append(f, (struct sock_filter)UNLESS(value, 1));
	append(f, (struct sock_filter)ANSWER(SECCOMP_RET_ALLOW));
	append(f, (struct sock_filter)LOAD(nr));
}

static void build(struct filter *f, int exec_fd)
{
	append(f, (struct sock_filter)LOAD(arch));
	append(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MACHINE, 1, 0));
	append(f, (struct sock_filter)ANSWER(SECCOMP_RET_KILL_PROCESS));
	append(f, (struct sock_filter)LOAD(nr));
	for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++) {
		append(f, (struct sock_filter)UNLESS(allowed[i], 1));
		append(f, (struct sock_filter)ANSWER(SECCOMP_RET_ALLOW));
	}
	append_if_argument(f, SYS_execveat, offsetof(struct seccomp_data, args[0]),
			   (uint32_t)exec_fd);
	/* abort() and raise() signal their own process. */
	append_if_argument(f, SYS_tgkill, offsetof(struct seccomp_data, args[0]),
			   (uint32_t)getpid());
	append(f, (struct sock_filter)ANSWER(SECCOMP_RET_ERRNO | EPERM));
}

bool confine_possible(void)
{
	uint32_t action = SECCOMP_RET_ERRNO;

	return MACHINE != 0 && syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

int confine(int exec_fd)
{
	struct filter filter = { .len = 0 };
	struct sock_fprog program = { .filter = filter.code };

	build(&filter, exec_fd);
	program.len = filter.len;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0)
		return -errno;
	return 0;
}

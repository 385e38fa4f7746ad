/* SPDX-License-Identifier: MIT */
/*
 * Runs when zr-box is built and prints its system call filters as arrays of struct sock_filter: to
 * have the library make one in each keeper costs more page faults than all else of a jail. There are
 * three, equal in what they refuse: `watching` lets the keeper give the answer, which counts it,
 * `refusing` is for where the kernel lets nobody watch, and `watching_writes` also shows the keeper
 * what changes files, before the kernel decides. `calls` and `writes` say what to do with a call.
 *
 * What is not named here is allowed: compilers, interpreters and GPU libraries need too wide a set
 * for the opposite. The list closes what namespaces, uid and missing capabilities leave open
 * (AF_VSOCK and keyrings have no namespace, a new user namespace would bring capabilities back) and
 * is a second wall in front of what they close.
 *
 * Arguments that the kernel takes as int are compared by their low 32 bits, or so that set high bits
 * are refused too.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

enum {
	/* Newer than the library's tables; calls since 424 have one number on all machines. */
	SYS_OPEN_TREE_ATTR = 467,
};

static const int refused[] = {
	SCMP_SYS(acct),
	SCMP_SYS(adjtimex),
	SCMP_SYS(bpf),
	SCMP_SYS(chroot),
	SCMP_SYS(clock_adjtime),
	SCMP_SYS(clock_settime),
	SCMP_SYS(delete_module),
	SCMP_SYS(fanotify_init),
	SCMP_SYS(finit_module),
	SCMP_SYS(fsconfig),
	SCMP_SYS(fsmount),
	SCMP_SYS(fsopen),
	SCMP_SYS(fspick),
	SCMP_SYS(init_module),
	SCMP_SYS(kcmp),
	SCMP_SYS(kexec_file_load),
	SCMP_SYS(kexec_load),
	SCMP_SYS(mount),
	SCMP_SYS(mount_setattr),
	SCMP_SYS(move_mount),
	SCMP_SYS(name_to_handle_at),
	SCMP_SYS(open_by_handle_at),
	SCMP_SYS(open_tree),
	SYS_OPEN_TREE_ATTR,
	SCMP_SYS(perf_event_open),
	SCMP_SYS(pidfd_getfd),
	SCMP_SYS(pivot_root),
	SCMP_SYS(process_vm_readv),
	SCMP_SYS(process_vm_writev),
	SCMP_SYS(ptrace),
	SCMP_SYS(quotactl),
	SCMP_SYS(quotactl_fd),
	SCMP_SYS(reboot),
	SCMP_SYS(setns),
	SCMP_SYS(settimeofday),
	SCMP_SYS(swapoff),
	SCMP_SYS(swapon),
	SCMP_SYS(syslog),
	SCMP_SYS(umount2),
	SCMP_SYS(unshare),
	SCMP_SYS(userfaultfd),
};

static const int absent[] = {
	SCMP_SYS(add_key),        SCMP_SYS(io_uring_enter), SCMP_SYS(io_uring_register),
	SCMP_SYS(io_uring_setup), SCMP_SYS(keyctl),         SCMP_SYS(request_key),
};

/* What is refused by its arguments alone. */
static const struct {
	int call, error;
} others[] = {
	{ SCMP_SYS(clone), EPERM },
	{ SCMP_SYS(socket), EAFNOSUPPORT },
	{ SCMP_SYS(ioctl), EPERM },
	{ SCMP_SYS(fcntl), EPERM },
};

static const unsigned namespaces[] = {
	CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET,  CLONE_NEWNS,
	CLONE_NEWPID,    CLONE_NEWUTS, CLONE_NEWUSER,
};

enum {
	CWD = -1,
	NONE = -2,
};

/* What changes files: where the folder and the path are among its arguments, twice. */
static const struct {
	int call, dir, path, dir2, path2;
} writes[] = {
	{ SCMP_SYS(open), CWD, 0, NONE, 0 },      { SCMP_SYS(openat), 0, 1, NONE, 0 },
	{ SCMP_SYS(openat2), 0, 1, NONE, 0 },     { SCMP_SYS(creat), CWD, 0, NONE, 0 },
	{ SCMP_SYS(mkdir), CWD, 0, NONE, 0 },     { SCMP_SYS(mkdirat), 0, 1, NONE, 0 },
	{ SCMP_SYS(mknod), CWD, 0, NONE, 0 },     { SCMP_SYS(mknodat), 0, 1, NONE, 0 },
	{ SCMP_SYS(unlink), CWD, 0, NONE, 0 },    { SCMP_SYS(unlinkat), 0, 1, NONE, 0 },
	{ SCMP_SYS(rmdir), CWD, 0, NONE, 0 },     { SCMP_SYS(truncate), CWD, 0, NONE, 0 },
	{ SCMP_SYS(rename), CWD, 0, CWD, 1 },     { SCMP_SYS(renameat), 0, 1, 2, 3 },
	{ SCMP_SYS(renameat2), 0, 1, 2, 3 },      { SCMP_SYS(link), CWD, 1, NONE, 0 },
	{ SCMP_SYS(linkat), 2, 3, NONE, 0 },      { SCMP_SYS(symlink), CWD, 1, NONE, 0 },
	{ SCMP_SYS(symlinkat), 1, 2, NONE, 0 },   { SCMP_SYS(chmod), CWD, 0, NONE, 0 },
	{ SCMP_SYS(fchmodat), 0, 1, NONE, 0 },    { SCMP_SYS(chown), CWD, 0, NONE, 0 },
	{ SCMP_SYS(lchown), CWD, 0, NONE, 0 },    { SCMP_SYS(fchownat), 0, 1, NONE, 0 },
	{ SCMP_SYS(utimensat), 0, 1, NONE, 0 },   { SCMP_SYS(setxattr), CWD, 0, NONE, 0 },
	{ SCMP_SYS(lsetxattr), CWD, 0, NONE, 0 },
};

/* Set: the keeper answers. */
static bool watching;

static uint32_t refuse(int error)
{
	return watching ? SCMP_ACT_NOTIFY : SCMP_ACT_ERRNO((uint32_t)error);
}

static int add_list(scmp_filter_ctx ctx, uint32_t action, const int *call, size_t n)
{
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++) {
		r = seccomp_rule_add(ctx, action, call[i], 0);
		/* Not on this machine. */
		if (r == -EDOM)
			r = 0;
	}
	return r;
}

static int add_clone(scmp_filter_ctx ctx)
{
	int r = 0;

	for (size_t i = 0; i < ARRAY_LEN(namespaces) && r == 0; i++)
		r = seccomp_rule_add(ctx, refuse(EPERM), SCMP_SYS(clone), 1,
				     SCMP_A0(SCMP_CMP_MASKED_EQ, namespaces[i], namespaces[i]));
	return r;
}

/* UNIX, INET, INET6 and NETLINK of protocol ROUTE, which is 0, are left. */
static int add_socket(scmp_filter_ctx ctx)
{
	const uint32_t no = refuse(EAFNOSUPPORT);
	int r = seccomp_rule_add(ctx, no, SCMP_SYS(socket), 1, SCMP_A0(SCMP_CMP_GT, AF_NETLINK));

	for (unsigned f = AF_UNSPEC; f < AF_NETLINK && r == 0; f++)
		if (f != AF_UNIX && f != AF_INET && f != AF_INET6)
			r = seccomp_rule_add(ctx, no, SCMP_SYS(socket), 1, SCMP_A0(SCMP_CMP_EQ, f));
	if (r == 0)
		r = seccomp_rule_add(ctx, no, SCMP_SYS(socket), 2, SCMP_A0(SCMP_CMP_EQ, AF_NETLINK),
				     SCMP_A2(SCMP_CMP_NE, 0));
	return r;
}

/* Opened for reading alone is not shown: that would cost too much. */
static int add_open(scmp_filter_ctx ctx, int call, unsigned flags_at)
{
	static const unsigned flags[] = { O_WRONLY, O_RDWR, O_CREAT, O_TRUNC };
	int r = 0;

	for (size_t i = 0; i < ARRAY_LEN(flags) && r == 0; i++)
		r = seccomp_rule_add(
			ctx, SCMP_ACT_NOTIFY, call, 1,
			(struct scmp_arg_cmp){ flags_at, SCMP_CMP_MASKED_EQ, flags[i], flags[i] });
	return r == -EDOM ? 0 : r;
}

static int add_writes(scmp_filter_ctx ctx)
{
	int r = 0;

	for (size_t i = 0; i < ARRAY_LEN(writes) && r == 0; i++) {
		int call = writes[i].call;

		if (call == SCMP_SYS(open) || call == SCMP_SYS(openat))
			r = add_open(ctx, call, call == SCMP_SYS(open) ? 1 : 2);
		else
			r = add_list(ctx, SCMP_ACT_NOTIFY, &call, 1);
	}
	return r;
}

static int add_low(scmp_filter_ctx ctx, int call, unsigned value)
{
	return seccomp_rule_add(ctx, refuse(EPERM), call, 1,
				SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffffu, value));
}

static int add_all(scmp_filter_ctx ctx)
{
	/* Another machine's calls, and x32's, have other numbers. */
	int r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);

	if (r == 0)
		r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (r == 0)
		r = add_list(ctx, refuse(EPERM), refused, ARRAY_LEN(refused));
	if (r == 0)
		r = add_list(ctx, refuse(ENOSYS), absent, ARRAY_LEN(absent));
	/* Its flags sit in memory that a filter cannot read, so the C library must fall back to clone:
	 * what every thread begins with is no offence. */
	if (r == 0)
		r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	if (r == 0)
		r = add_clone(ctx);
	if (r == 0)
		r = add_socket(ctx);
	if (r == 0)
		r = add_low(ctx, SCMP_SYS(ioctl), TIOCSTI);
	if (r == 0)
		r = add_low(ctx, SCMP_SYS(ioctl), TIOCLINUX);
	if (r == 0)
		r = add_low(ctx, SCMP_SYS(fcntl), F_SETLEASE);
	if (r == 0)
		r = add_low(ctx, SCMP_SYS(fcntl), F_NOTIFY);
	return r;
}

/* The library gives the program to a descriptor only. */
static int print(scmp_filter_ctx ctx)
{
	int fd = memfd_create("filter", MFD_CLOEXEC), r = fd < 0 ? -errno : 0;
	struct sock_filter f;

	if (r == 0)
		r = seccomp_export_bpf(ctx, fd);
	if (r == 0 && lseek(fd, 0, SEEK_SET) < 0)
		r = -errno;
	while (r == 0 && read(fd, &f, sizeof(f)) == sizeof(f))
		printf("{ %#x, %u, %u, %#x },\n", f.code, f.jt, f.jf, f.k);
	return r;
}

static int print_filter(const char *name, bool watch, bool with_writes)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
	int r = ctx ? 0 : -ENOMEM;

	watching = watch;
	if (r == 0)
		r = add_all(ctx);
	if (r == 0 && with_writes)
		r = add_writes(ctx);
	printf("static const struct sock_filter %s[] = {\n", name);
	if (r == 0)
		r = print(ctx);
	puts("};");
	seccomp_release(ctx);
	return r;
}

static void print_call(int call, int error)
{
	char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, call);

	/* Not on this machine. */
	if (call >= 0)
		printf("{ %d, %d, \"%s\" },\n", call, error,
		       call == SYS_OPEN_TREE_ATTR ? "open_tree_attr" : name);
	free(name);
}

static void print_calls(void)
{
	puts("static const struct filter_call calls[] = {");
	for (size_t i = 0; i < ARRAY_LEN(refused); i++)
		print_call(refused[i], EPERM);
	for (size_t i = 0; i < ARRAY_LEN(absent); i++)
		print_call(absent[i], ENOSYS);
	for (size_t i = 0; i < ARRAY_LEN(others); i++)
		print_call(others[i].call, others[i].error);
	puts("};");
}

static void print_writes(void)
{
	puts("static const struct filter_write writes[] = {");
	for (size_t i = 0; i < ARRAY_LEN(writes); i++)
		if (writes[i].call >= 0)
			printf("{ %d, { %d, %d }, { %d, %d } },\n", writes[i].call, writes[i].dir,
			       writes[i].dir2, writes[i].path, writes[i].path2);
	puts("};");
}

/* --- the same for container engines: an OCI profile, as a C string ------------------------------- */

static void print_names(const int *call, size_t n, int error, const char *args)
{
	const char *comma = "";

	printf("\",{\\\"names\\\":[\"\n\"");
	for (size_t i = 0; i < n; i++) {
		char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, call[i]);

		if (name && call[i] >= 0) {
			printf("%s\\\"%s\\\"", comma, name);
			comma = ",";
		}
		free(name);
	}
	printf("],\\\"action\\\":\\\"SCMP_ACT_ERRNO\\\",\\\"errnoRet\\\":%d%s}\"\n", error, args);
}

static void print_arg(int call, int error, int index, unsigned long long value, const char *op,
		      unsigned long long mask)
{
	char text[256];

	/* With a mask the value is what must be equal after it, and comes second there. */
	snprintf(text, sizeof(text),
		 ",\\\"args\\\":[{\\\"index\\\":%d,\\\"value\\\":%llu,\\\"valueTwo\\\":%llu,"
		 "\\\"op\\\":\\\"%s\\\"}]",
		 index, mask ? mask : value, mask ? value : 0, op);
	print_names(&call, 1, error, text);
}

static void print_profile(void)
{
	static const int clone3[] = { SCMP_SYS(clone3) };

	printf("static const char profile[] = "
	       "\"{\\\"defaultAction\\\":\\\"SCMP_ACT_ALLOW\\\",\\\"syscalls\\\":[\"\n"
	       "\"{\\\"names\\\":[\\\"zr_nothing\\\"],\\\"action\\\":\\\"SCMP_ACT_ALLOW\\\"}\"\n");
	print_names(refused, ARRAY_LEN(refused), EPERM, "");
	print_names(absent, ARRAY_LEN(absent), ENOSYS, "");
	print_names(clone3, 1, ENOSYS, "");
	for (size_t i = 0; i < ARRAY_LEN(namespaces); i++)
		print_arg(SCMP_SYS(clone), EPERM, 0, namespaces[i], "SCMP_CMP_MASKED_EQ",
			  namespaces[i]);
	for (unsigned f = AF_UNSPEC; f <= AF_NETLINK; f++)
		if (f != AF_UNIX && f != AF_INET && f != AF_INET6 && f != AF_NETLINK)
			print_arg(SCMP_SYS(socket), EAFNOSUPPORT, 0, f, "SCMP_CMP_EQ", 0);
	print_arg(SCMP_SYS(socket), EAFNOSUPPORT, 0, AF_NETLINK, "SCMP_CMP_GT", 0);
	print_arg(SCMP_SYS(ioctl), EPERM, 1, TIOCSTI, "SCMP_CMP_MASKED_EQ", 0xffffffffu);
	print_arg(SCMP_SYS(ioctl), EPERM, 1, TIOCLINUX, "SCMP_CMP_MASKED_EQ", 0xffffffffu);
	puts("\"]}\\n\";");
}

int main(void)
{
	int r = print_filter("refusing", false, false);

	if (r == 0)
		r = print_filter("watching", true, false);
	if (r == 0)
		r = print_filter("watching_writes", true, true);
	print_calls();
	print_writes();
	print_profile();
	if (r < 0)
		fprintf(stderr, "cannot make the system call filter: %s\n", strerror(-r));
	return r < 0 || fflush(stdout) != 0;
}

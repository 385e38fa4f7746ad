/* SPDX-License-Identifier: MIT */
/*
 * What the fetcher gives up before it reads a byte of a host: new programs, processes, sockets and
 * privileges; every file outside staging and the targets' root; memory and descriptors without
 * end. Landlock rights and structures newer than the oldest headers we build with are spelt here.
 */
#include <linux/landlock.h>
#include <seccomp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "base/fd.h"
#include "fetcher.h"

static void say(const struct confine_spec *c, const char *what)
{
	if (c->verbose)
		fprintf(stderr, "zr-fetch: not confined: %s\n", what);
}

/* --- limits --------------------------------------------------------------------------------- */

/* A pack's chunk, what libssh2 reads ahead, the largest manifest and its parsed form fit in. */
#define MEMORY_MAX ((rlim_t)2 << 30)

static int set_limits(struct err *e)
{
	const struct {
		__rlimit_resource_t what;
		rlim_t value;
		const char *name;
	} limits[] = {
		{ RLIMIT_CORE, 0, "core" },
		{ RLIMIT_NOFILE, 64, "open files" },
		{ RLIMIT_AS, MEMORY_MAX, "memory" },
	};

	for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
		struct rlimit old, new = { limits[i].value, limits[i].value };

		if (getrlimit(limits[i].what, &old) < 0)
			return err_sys(e, "read the limit of %s", limits[i].name);
		/* Never more than we were given. */
		if (old.rlim_max < new.rlim_max)
			new = (struct rlimit){ old.rlim_max, old.rlim_max };
		if (setrlimit(limits[i].what, &new) < 0)
			return err_sys(e, "limit %s", limits[i].name);
	}
	return 0;
}

/* --- Landlock ------------------------------------------------------------------------------- */

#define FS_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define FS_MAKE                                                                                    \
	(FS_READ | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR |                   \
	 LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_REMOVE_DIR |                             \
	 LANDLOCK_ACCESS_FS_REMOVE_FILE)
#define FS_V1       ((1u << 13) - 1)
#define FS_REFER    (1u << 13) /* since version 2 */
#define FS_TRUNCATE (1u << 14) /* since version 3 */
#define FS_IOCTL    (1u << 15) /* since version 5 */
#define NET_TCP     3u         /* bind and connect, since version 4 */
#define SCOPE_ALL   3u         /* abstract sockets and signals, since version 6 */

struct ruleset {
	uint64_t fs, net, scope;
};

static struct ruleset handled(int version)
{
	struct ruleset r = { .fs = FS_V1 };

	r.fs |= version >= 2 ? FS_REFER : 0;
	r.fs |= version >= 3 ? FS_TRUNCATE : 0;
	r.fs |= version >= 5 ? FS_IOCTL : 0;
	r.net = version >= 4 ? NET_TCP : 0;
	r.scope = version >= 6 ? SCOPE_ALL : 0;
	return r;
}

static size_t ruleset_size(int version)
{
	if (version < 4)
		return sizeof(uint64_t);
	return version < 6 ? 2 * sizeof(uint64_t) : sizeof(struct ruleset);
}

static int allow(int ruleset, int dirfd, uint64_t rights, struct err *e)
{
	struct landlock_path_beneath_attr rule = { .allowed_access = rights, .parent_fd = dirfd };

	if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
		return err_sys(e, "add a Landlock rule");
	return 0;
}

static int allow_path(int ruleset, const char *path, uint64_t rights, struct err *e)
{
	auto_close int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

	/* What is not there cannot be read: that error comes later, in its own words. */
	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0
							   : err_sys(e, "open %s", STR_ESC(path));
	return allow(ruleset, fd, rights, e);
}

static int restrict_files(const struct confine_spec *c, struct err *e)
{
	int version =
		(int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	struct ruleset set = handled(version);
	auto_close int fd = -1;
	uint64_t make;
	int r;

	/* Without the right to rename between folders (version 2) nothing could be published. */
	if (version < 2) {
		say(c, "files (the kernel has no Landlock, or its first version)");
		return 0;
	}
	if (version < 4)
		say(c, "network by Landlock (older than its version 4)");
	make = (FS_MAKE | FS_REFER | FS_TRUNCATE) & set.fs;
	fd = (int)syscall(SYS_landlock_create_ruleset, &set, ruleset_size(version), 0);
	if (fd < 0)
		return err_sys(e, "make a Landlock ruleset");
	r = allow(fd, c->staging, make, e);
	r = r < 0 ? r : allow_path(fd, c->root, make, e);
	if (r == 0 && c->source)
		r = allow_path(fd, c->source, FS_READ, e);
	if (r == 0 && syscall(SYS_landlock_restrict_self, fd, 0) < 0)
		r = err_sys(e, "apply the Landlock ruleset");
	return r;
}

/* --- system calls --------------------------------------------------------------------------- */

/* What the work needs. An open socket is read and written; none is made. */
static const int allowed[] = {
	/* memory */
	SCMP_SYS(brk),
	SCMP_SYS(munmap),
	SCMP_SYS(mremap),
	SCMP_SYS(madvise),
	SCMP_SYS(futex),
	/* files */
	SCMP_SYS(read),
	SCMP_SYS(write),
	SCMP_SYS(readv),
	SCMP_SYS(writev),
	SCMP_SYS(pread64),
	SCMP_SYS(pwrite64),
	SCMP_SYS(lseek),
	SCMP_SYS(close),
	SCMP_SYS(openat),
	SCMP_SYS(openat2),
	SCMP_SYS(fstat),
	SCMP_SYS(newfstatat),
	SCMP_SYS(fstatat64),
	SCMP_SYS(statx),
	SCMP_SYS(fstatfs),
	SCMP_SYS(fsync),
	SCMP_SYS(fdatasync),
	SCMP_SYS(syncfs),
	SCMP_SYS(sync_file_range),
	SCMP_SYS(sync_file_range2),
	SCMP_SYS(ftruncate),
	SCMP_SYS(getdents64),
	SCMP_SYS(mkdir),
	SCMP_SYS(mkdirat),
	SCMP_SYS(unlinkat),
	SCMP_SYS(renameat),
	SCMP_SYS(renameat2),
	SCMP_SYS(fchmodat),
	SCMP_SYS(fcntl),
	SCMP_SYS(dup),
	/* the connection, the caller and the connector */
	SCMP_SYS(recvfrom),
	SCMP_SYS(sendto),
	SCMP_SYS(recvmsg),
	SCMP_SYS(sendmsg),
	SCMP_SYS(getsockopt),
	SCMP_SYS(setsockopt),
	SCMP_SYS(shutdown),
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	/* time, chance, signals, the end */
	SCMP_SYS(clock_gettime),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(nanosleep),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(getrandom),
	SCMP_SYS(getpid),
	SCMP_SYS(gettid),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
};

/* Nobody calls these by mistake: the process is over. All others fail with EPERM. */
static const int forbidden[] = {
	SCMP_SYS(execve),
	SCMP_SYS(execveat),
	SCMP_SYS(ptrace),
	SCMP_SYS(process_vm_readv),
	SCMP_SYS(process_vm_writev),
	SCMP_SYS(socket),
	SCMP_SYS(connect),
	SCMP_SYS(bind),
	SCMP_SYS(listen),
	SCMP_SYS(fork),
	SCMP_SYS(vfork),
	SCMP_SYS(clone),
	SCMP_SYS(clone3),
	SCMP_SYS(kexec_load),
	SCMP_SYS(init_module),
	SCMP_SYS(finit_module),
	SCMP_SYS(bpf),
	SCMP_SYS(mount),
	SCMP_SYS(setns),
	SCMP_SYS(unshare),
	SCMP_SYS(keyctl),
	SCMP_SYS(io_uring_setup),
};

static int add_rules(scmp_filter_ctx ctx)
{
	int r = 0;

	for (size_t i = 0; i < ARRAY_LEN(allowed) && r == 0; i++)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, allowed[i], 0);
	for (size_t i = 0; i < ARRAY_LEN(forbidden) && r == 0; i++)
		r = seccomp_rule_add(ctx, SCMP_ACT_KILL_PROCESS, forbidden[i], 0);
	/* Memory is never made executable. */
	if (r == 0)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
				     SCMP_A2(SCMP_CMP_MASKED_EQ, 4, 0));
	if (r == 0)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
				     SCMP_A2(SCMP_CMP_MASKED_EQ, 4, 0));
	return r;
}

static int filter_calls(const struct confine_spec *c, struct err *e)
{
	scmp_filter_ctx ctx;
	int r;

	ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	if (!ctx)
		return err_nomem(e);
	r = add_rules(ctx);
	r = r < 0 ? r : seccomp_load(ctx);
	seccomp_release(ctx);
	if (r == -EINVAL || r == -ENOSYS || r == -EOPNOTSUPP) {
		say(c, "system calls (the kernel has no seccomp filters)");
		return 0;
	}
	return r < 0 ? err_errno(e, r, "filter system calls") : 0;
}

int confine(const struct confine_spec *c, struct err *e)
{
	int r;

	if (SANITIZED) {
		say(c, "anything (this build has AddressSanitizer, which reads /proc and traces)");
		return 0;
	}
	/* Neither a debugger nor a core file shows the private key. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_sys(e, "give up privileges");
	r = set_limits(e);
	r = r < 0 ? r : restrict_files(c, e);
	return r < 0 ? r : filter_calls(c, e);
}

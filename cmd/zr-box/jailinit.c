/* SPDX-License-Identifier: MIT */
/*
 * System calls only: no allocation, no stdio. The script's process is made like vfork() does it, so
 * it shares init's memory until execve() and init waits for that.
 *
 * The order matters: groups are joined while their files can still be reached, the root is changed
 * before anything is given up, and the filter comes last, since it would forbid the rest.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/time.h"
#include "filter.h"
#include "jail.h"
#include "spawn.h"

enum {
	STACK = 64 << 10,
};

static void tell(int fd, const struct jail_note *n)
{
	/* Smaller than PIPE_BUF: whole or not at all. If it is lost, the keeper sees init end. */
	(void)!write(fd, n, sizeof(*n));
}

/* A listener, or why there is none. It is close-on-exec. */
static void tell_listener(int fd, int listener)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { .room = { 0 } };
	struct jail_note n = { .kind = NOTE_LISTENER, .value = listener < 0 ? -listener : 0 };
	struct iovec iov = { .iov_base = &n, .iov_len = sizeof(n) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (listener >= 0) {
		m.msg_control = control.room;
		m.msg_controllen = sizeof(control.room);
		*CMSG_FIRSTHDR(&m) = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
						       .cmsg_type = SCM_RIGHTS,
						       .cmsg_len = CMSG_LEN(sizeof(int)) };
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), &listener, sizeof(int));
	}
	/* If it is lost nobody answers, and the kernel refuses. */
	(void)!sendmsg(fd, &m, MSG_NOSIGNAL);
}

__attribute__((noreturn)) static void fail(int fd, enum jail_step step, int r)
{
	tell(fd, &(struct jail_note){ .kind = NOTE_FAILED, .step = (int)step, .value = -r });
	_exit(200 + (int)step);
}

/* --- giving up ---------------------------------------------------------------------------------- */

static int keep_capabilities(uint32_t mask)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2] = { { .effective = mask, .permitted = mask } };

	return syscall(SYS_capset, &h, d) < 0 ? -errno : 0;
}

/* Not by libc's functions, which would tell threads that share our memory and are not there. */
static int become(uid_t uid)
{
	uid_t r, e, s;

	if (syscall(SYS_setgroups, 0, NULL) < 0 || syscall(SYS_setresgid, uid, uid, uid) < 0 ||
	    syscall(SYS_setresuid, uid, uid, uid) < 0)
		return -errno;
	if (syscall(SYS_getresuid, &r, &e, &s) < 0 || r != uid || e != uid || s != uid)
		return -EPERM;
	return syscall(SYS_getresgid, &r, &e, &s) < 0 || r != uid || e != uid || s != uid ? -EPERM
											  : 0;
}

static int give_up_ids(const struct jail *j)
{
	int r = 0;

	/* Until the first number that the kernel does not know. */
	for (int cap = 0; cap < 64; cap++)
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 && errno == EINVAL)
			break;
	if (j->root)
		r = become(j->uid);
	return r < 0 ? r : keep_capabilities(0);
}

/* --- Landlock: a second wall around what may be written ------------------------------------------ */

/* Rights that those headers lack too. */
enum {
	ABI_TRUNCATE = 3,
	RIGHT_TRUNCATE = 1 << 14,
};

static uint64_t write_rights(int abi)
{
	return LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |
	       LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR |
	       LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
	       LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |
	       LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM |
	       LANDLOCK_ACCESS_FS_REFER | (abi >= ABI_TRUNCATE ? (uint64_t)RIGHT_TRUNCATE : 0);
}

static int allow_beneath(int ruleset, const char *path, uint64_t rights)
{
	struct landlock_path_beneath_attr a = { .allowed_access = rights };
	int r;

	a.parent_fd = open(path, O_PATH | O_CLOEXEC);
	if (a.parent_fd < 0)
		return -errno;
	r = syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &a, 0) < 0 ? -errno
											   : 0;
	close(a.parent_fd);
	return r;
}

static int restrict_writes(int abi)
{
	static const char *const open_to[] = { JAIL_BOX, JAIL_OUTPUT, JAIL_TMP, "/dev", "/proc" };
	const uint64_t devices = LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_BLOCK;
	struct landlock_ruleset attr = {
		.handled_access_fs = write_rights(abi),
		.scoped = abi >= LANDLOCK_ABI_SCOPE ? LANDLOCK_SCOPES : 0,
	};
	size_t size = abi >= LANDLOCK_ABI_SCOPE ? sizeof(attr) : sizeof(attr.handled_access_fs);
	int fd = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0), r = 0;

	if (fd < 0)
		return -errno;
	for (size_t i = 0; i < sizeof(open_to) / sizeof(open_to[0]) && r == 0; i++)
		r = allow_beneath(fd, open_to[i], attr.handled_access_fs & ~devices);
	if (r == 0 && syscall(SYS_landlock_restrict_self, fd, 0) < 0)
		r = -errno;
	close(fd);
	return r;
}

/* --- the script's process ------------------------------------------------------------------------ */

__attribute__((noreturn)) static void script_fail(struct jail_plan *p, int fd, enum jail_step step,
						  int r)
{
	p->failed = true;
	fail(fd, step, r);
}

static int script_main(void *user)
{
	struct jail_plan *p = user;
	const struct jail *j = p->k->jail;
	int error = p->child[IN_EXEC], r;

	if (setsid() < 0)
		script_fail(p, error, STEP_JAIL_SESSION, -errno);
	spawn_place(p->k);
	r = spawn_rlimits(p->k);
	if (r < 0)
		script_fail(p, error, STEP_JAIL_RLIMITS, r);
	r = spawn_descriptors(p->child, p->null);
	if (r < 0)
		script_fail(p, error, STEP_JAIL_DESCRIPTORS, r);
	r = give_up_ids(j);
	if (r < 0)
		script_fail(p, FD_ERROR, STEP_JAIL_IDS, r);
	if (chdir(JAIL_BOX) < 0)
		script_fail(p, FD_ERROR, STEP_JAIL_FOLDER, -errno);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		script_fail(p, FD_ERROR, STEP_JAIL_FILTER, -errno);
	r = j->landlock ? restrict_writes(j->landlock) : 0;
	if (r < 0)
		script_fail(p, FD_ERROR, STEP_JAIL_LANDLOCK, r);
	spawn_default_signals(p->k->own_signals | 1ull << (SIGTERM - 1));
	r = filter_install(p->k->spec->sandbox.writes ? FILTER_WATCH_WRITES : FILTER_WATCH);
	tell_listener(FD_ERROR, r);
	if (r == -EBUSY && !p->k->spec->sandbox.stop)
		r = filter_install(FILTER_REFUSE);
	if (r < 0)
		script_fail(p, FD_ERROR, STEP_JAIL_FILTER, r);
	execve(p->argv[0], p->argv, p->env);
	script_fail(p, FD_ERROR, STEP_JAIL_EXEC, -errno);
}

/* --- init ---------------------------------------------------------------------------------------- */

/* From the keeper, when a limit of time is over or the job is canceled. */
static void on_term(int signo)
{
	(void)signo;
	(void)kill(-1, SIGTERM);
	/* What was stopped cannot act on a SIGTERM. */
	(void)kill(-1, SIGCONT);
}

static void init_signals(void)
{
	struct sigaction sa = { .sa_handler = on_term, .sa_flags = SA_RESTART };
	sigset_t none;

	sigaction(SIGTERM, &sa, NULL);
	sa.sa_handler = SIG_DFL; /* process 1 does not get what it has no handler for */
	sigaction(SIGCHLD, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Whoever kills the keeper kills us. getppid() is 0 in a new pid namespace whether it lives or not,
 * so its end of our pipe has to tell. */
static int die_with_keeper(int status)
{
	struct pollfd p = { .fd = status };

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return -errno;
	return poll(&p, 1, 0) == 1 && p.revents & (POLLERR | POLLHUP) ? -EOWNERDEAD : 0;
}

/* Init is not the script's uid, and can do nothing but signal. */
static int init_drop(const struct jail *j, int status)
{
	int r = prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 ? -errno : 0;

	if (r == 0 && j->root)
		r = become(j->init_uid);
	if (r == 0)
		r = keep_capabilities(1u << CAP_KILL);
	if (r == 0 && prctl(PR_SET_DUMPABLE, 0) < 0)
		r = -errno;
	/* A change of ids resets it. */
	return r < 0 ? r : die_with_keeper(status);
}

/* The processes that are there beside us. */
static unsigned count_others(void)
{
	char buf[4096];
	unsigned n = 0;
	int fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	long got;

	while (fd >= 0 && (got = syscall(SYS_getdents64, fd, buf, sizeof(buf))) > 0)
		for (long at = 0; at < got;) {
			const struct dirent64 *d = (const void *)(buf + at);

			n += d->d_name[0] >= '1' && d->d_name[0] <= '9';
			at += d->d_reclen;
		}
	return n > 0 ? n - 1 : 0;
}

__attribute__((noreturn)) static void wait_for(pid_t script, int status)
{
	struct jail_note n = { .kind = NOTE_ENDED };
	pid_t pid;

	do
		pid = wait4(-1, &n.value, 0, NULL);
	while (pid != script && (pid >= 0 || errno == EINTR));
	n.usec = time_mono_usec();
	while ((pid = wait4(-1, NULL, WNOHANG, NULL)) > 0)
		;
	/* Without a child of ours nobody else is there. */
	if (pid == 0)
		n.number = count_others();
	tell(status, &n);
	_exit(0);
}

/* The same number as the keeper's: it is where CLONE_VM left it. Only the pipe stays. */
static int only_status(int status)
{
	if (status > 0 && close_range(0, (unsigned)status - 1, 0) < 0)
		return -errno;
	return close_range((unsigned)status + 1, ~0u, 0) < 0 ? -errno : 0;
}

static pid_t start_script(struct jail_plan *p)
{
	char stack[STACK] __attribute__((aligned(64)));
	pid_t pid = clone(script_main, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD, p);

	return pid < 0 ? -errno : pid;
}

static void build(struct jail_plan *p, int status)
{
	struct jail_note n = { .kind = NOTE_FAILED, .step = STEP_JAIL_MOUNTS };
	const struct keeper *k = p->k;
	int r = die_with_keeper(status);

	if (r < 0)
		fail(status, STEP_JAIL_KEEPER, r);
	/* We have our own memory, and the job is not there yet. */
	prctl(PR_SET_DUMPABLE, 1);
	spawn_prefer_to_die("/proc/self/oom_score_adj");
	prctl(PR_SET_DUMPABLE, 0);
	r = cgroup_join(&k->cg, p->in_v2);
	/* Only now, so that our own group is the root that the job sees. */
	if (r == 0 && unshare(CLONE_NEWCGROUP) < 0)
		r = -errno;
	if (r < 0)
		fail(status, STEP_JAIL_CGROUP, r);
	/* A unit's ProtectHostname= forbids it, and the host's name is no secret. */
	(void)!sethostname("box", 3);
	r = k->jail->network ? 0 : jailnet_join(&k->net);
	if (r < 0)
		fail(status, STEP_JAIL_NETWORK, r);
	n.value = -jailroot_bind(k, &n.number);
	if (n.value) {
		tell(status, &n);
		_exit(200 + STEP_JAIL_MOUNTS);
	}
	r = jailroot_proc();
	if (r < 0)
		fail(status, STEP_JAIL_PROC, r);
	r = jailroot_enter();
	if (r < 0)
		fail(status, STEP_JAIL_ROOT, r);
}

void jailinit_main(struct jail_plan *p)
{
	int status = p->child[IN_EXEC], r;
	pid_t script;

	build(p, status);
	/* The script may read process 1's command line. */
	if (p->k->words)
		memset(p->k->words, 0, p->k->words_len);
	init_signals();
	script = start_script(p);
	if (script < 0)
		fail(status, STEP_JAIL_SCRIPT, script);
	if (p->failed)
		_exit(200);
	tell(status, &(struct jail_note){ .kind = NOTE_EXECUTED, .usec = time_mono_usec() });
	r = only_status(status);
	if (r == 0)
		r = init_drop(p->k->jail, status);
	if (r < 0)
		fail(status, STEP_JAIL_DROP, r);
	wait_for(script, status);
}

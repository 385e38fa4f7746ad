/* SPDX-License-Identifier: MIT */
#include "jail.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/landlock.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "exec/devices.h"
#include "spawn.h"

enum {
	/* No user, container or service manager gives these out: see uids-gids of systemd. */
	UID_FIRST = 0x70000000,
	LANDLOCK_ABI_MIN = 2, /* the first one that knows renames between folders */
	FULL_PERCENT = 99,
	ALONE_USEC = 50000,
};

/* --- what is promised, or refused ---------------------------------------------------------------- */

/* Does an error say that this kernel cannot do it, or that we may not? Others may pass. */
static bool is_lacking(int error)
{
	return error == EPERM || error == EACCES || error == ENOSYS || error == EINVAL ||
	       error == ENOSPC || error == EUSERS;
}

static int write_text(const char *path, const char *text)
{
	auto_close int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd < 0 || write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

/* Our own uid stays what it is, and is the only one. */
static int map_ids(uid_t uid, gid_t gid)
{
	char text[48];
	int r;

	snprintf(text, sizeof(text), "%u %u 1", uid, uid);
	r = write_text("/proc/self/uid_map", text);
	if (r == 0)
		r = write_text("/proc/self/setgroups", "deny");
	snprintf(text, sizeof(text), "%u %u 1", gid, gid);
	return r < 0 ? r : write_text("/proc/self/gid_map", text);
}

static int open_there(struct keeper *k, const char *path, struct err *e)
{
	auto_close int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return err_sys(e, "open the box folder again");
	if (!fd_same(fd, k->dir))
		return err_set(e, ESTALE, ERR_HOST, "the box folder is not at %s for us",
			       STR_ESC(path));
	if (dup3(fd, k->dir, O_CLOEXEC) < 0 || fchdir(k->dir) < 0)
		return err_sys(e, "go to the box folder");
	return 0;
}

int jail_reopen(struct keeper *k, char *path, struct err *e)
{
	char link[40];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", k->dir);
	n = readlink(link, path, PATH_MAX - 1);
	if (n < 0)
		return err_sys(e, "read %s", link);
	path[n] = '\0';
	return open_there(k, path, e);
}

/* Root of a container may have but a few ids. */
static bool is_mapped(uid_t uid)
{
	auto_buf struct buf b = { 0 };
	unsigned long long inside, outside, n;

	if (fd_read_file(AT_FDCWD, "/proc/self/uid_map", 1u << 16, &b, NULL) < 0)
		return false;
	for (const char *line = b.data; line && *line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (sscanf(line, "%llu %llu %llu", &inside, &outside, &n) == 3 && uid >= inside &&
		    uid - inside < n)
			return true;
	}
	return false;
}

/* Mounts come in from the host and none goes out. */
static int enter_namespaces(struct keeper *k, bool root, uid_t job, struct err *e)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();
	int r;

	if (k->entered)
		return 0;
	if (root && !is_mapped(job)) {
		refuse(k,
		       "we are root in a user namespace without the ID %u; run the worker as "
		       "another user",
		       job);
		return 0;
	}
	if (unshare(CLONE_NEWNS | (root ? 0 : CLONE_NEWUSER)) < 0) {
		refuse(k, "zr-box may not make a %s: %s",
		       root ? "mount namespace (it needs CAP_SYS_ADMIN)"
			    : "user namespace (sysctl kernel.unprivileged_userns_clone, "
			      "user.max_user_namespaces; RestrictNamespaces= of the unit)",
		       strerror(errno));
		return 0;
	}
	k->entered = true;
	k->changed = !root;
	/* Between jobs we are not dumpable, and our files in /proc belong to root. */
	if (!root)
		prctl(PR_SET_DUMPABLE, 1);
	r = root ? 0 : map_ids(uid, gid);
	if (r == 0 && mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		r = -errno;
	/* By the path that it had: if we were the last in the namespace that we left, its mounts are
	 * gone, and so is the path of a descriptor. */
	if (r == 0)
		return open_there(k, k->path, e);
	refuse(k, "its namespaces cannot be set up: %s", strerror(-r));
	return 0;
}

uid_t jail_slot_uid(void)
{
	return (uid_t)UID_FIRST + (uid_t)getpid();
}

int jail_show_as(struct keeper *k, const char *from, const char *to, uid_t uid,
		 const struct stat *st, struct err *e)
{
	int r = enter_namespaces(k, true, uid, e);

	if (r < 0 || k->decided)
		return r;
	return jailroot_bind_as(from, to, uid, st, e);
}

void jail_unshow(struct keeper *k, const char *to)
{
	if (k->entered)
		(void)umount2(to, MNT_DETACH);
}

static void take_ids(struct jail *j)
{
	j->root = geteuid() == 0;
	j->uid = j->root ? jail_slot_uid() : geteuid();
	j->init_uid = j->root ? (uid_t)UID_FIRST : j->uid;
}

static int landlock_abi(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	return abi >= LANDLOCK_ABI_MIN ? (int)abi : 0;
}

/*
 * Jobs of one uid are no strangers to each other for the kernel, whatever namespaces they are in:
 * one at a time. Whoever cancels does not wait for the other job to end.
 */
static int be_alone(struct keeper *k, struct err *e)
{
	auto_close int fd =
		openat(k->dir, "../../sandbox.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0)
		return err_sys(e, "open spool/sandbox.lock");
	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		struct pollfd p[POLL_CONTROL];
		size_t n = control_poll(k, p);

		if (errno != EWOULDBLOCK && errno != EINTR)
			return err_sys(e, "lock spool/sandbox.lock");
		(void)signals_poll(p, n, time_mono_usec() + ALONE_USEC);
		control_events(k, p);
		if (signals_take_stop())
			verdict(k, BOX_INFRASTRUCTURE, "the keeper was told to end");
		if (k->decided)
			return 0;
	}
	k->jail->alone = take_fd(fd);
	return 0;
}

int jail_begin(struct keeper *k, struct err *e)
{
	enum isolation level = k->spec->sandbox.level;
	struct jail *j;
	int r;

	if (level != ISOLATION_SANDBOX)
		return 0;
	j = k->jail = calloc(1, sizeof(*j));
	if (!j)
		return err_nomem(e);
	j->tree = j->map = j->alone = j->device_program = -1;
	j->network = k->spec->sandbox.network;
	j->bytes = k->spec->limits.disk_bytes;
	j->landlock = landlock_abi();
	take_ids(j);
	isolation_check_limits(k);
	if (k->decided)
		return 0;
	r = enter_namespaces(k, j->root, j->uid, e);
	if (r == 0 && !k->decided && !j->root)
		r = be_alone(k, e);
	if (r < 0 || k->decided)
		return r;
	r = jailroot_stage(k, e);
	if (r < 0 && (e->kind == ERR_INPUT || is_lacking(-r))) {
		if (e->kind == ERR_INPUT)
			verdict(k, BOX_SETUP, "%s", e->msg);
		else
			refuse(k, "%s", e->msg);
		return 0;
	}
	if (r == 0)
		jail_close_devices(k);
	k->tree = j->tree;
	if (k->spec->argv[PHASE_SCORE])
		k->output = "score";
	return r;
}

void jail_end(struct keeper *k)
{
	if (!k->jail)
		return;
	k->tree = k->dir;
	jailroot_done(k);
	if (k->jail->alone >= 0)
		close(k->jail->alone);
	if (k->jail->device_program >= 0)
		close(k->jail->device_program);
	free(k->jail->devices);
	free(k->jail);
	k->jail = NULL;
}

/* The kernel's look at a program takes longer than all else about it; most jobs have the same. */
static int device_program(struct device_program *last, const dev_t *devices, size_t n)
{
	if (last->fd < 0 || last->n != n ||
	    (n && memcmp(last->devices, devices, n * sizeof(*devices)))) {
		if (last->fd >= 0)
			close(last->fd);
		last->fd = n <= DEVICES_MAX ? devices_program(devices, n) : -E2BIG;
		if (last->fd < 0)
			return last->fd;
		if (n)
			memcpy(last->devices, devices, n * sizeof(*devices));
		last->n = n;
	}
	return fcntl(last->fd, F_DUPFD_CLOEXEC, 0);
}

void jail_close_devices(struct keeper *k)
{
	struct jail *j = k->jail;
	auto_close int program = -1;

	if (k->cg.v2 >= 0 && j->root) {
		program = device_program(&k->device_program, j->devices, j->n_devices);
		if (program >= 0 && devices_attach(k->cg.v2, program, j->device_program) == 0) {
			if (j->device_program >= 0)
				close(j->device_program);
			j->device_program = take_fd(program);
			return;
		}
	}
	/* Of version 1, or none: then missing capabilities and the private /dev have to do. */
	if (cgroup_limit_devices(&k->cg, j->devices, j->n_devices, NULL) < 0 &&
	    k->cg.devices >= 0) {
		close(k->cg.devices);
		k->cg.devices = -1;
	}
}

/* --- the words and lines of a phase, as the job sees them ----------------------------------------- */

static char *translate_word(const struct box_spec *s, const char *word, bool program)
{
	size_t n = strlen(s->evaluator_dir);
	char *path;

	if (str_eq(word, s->submission))
		return strdup(JAIL_SUBMISSION);
	if (!program || !sandbox_path_in(word, s->evaluator_dir))
		return strdup(word);
	return str_fmt(&path, JAIL_EVALUATOR "%s", word + n) < 0 ? NULL : path;
}

char **jail_words(const struct box_spec *s, char *const *argv)
{
	char **v = calloc(strv_len(argv) + 1, sizeof(char *));

	for (size_t i = 0; v && argv[i]; i++) {
		v[i] = translate_word(s, argv[i], i == 0);
		if (!v[i]) {
			strv_free(v);
			return NULL;
		}
	}
	return v;
}

/* "NAME=host path" that is one of ours; what the evaluator has set itself stays. */
static char *translate_line(const struct keeper *k, const char *line)
{
	const struct {
		const char *name, *base, *below, *to;
	} t[] = {
		{ "HOME=", k->path, "/work", JAIL_BOX },
		{ "TMPDIR=", k->path, "/tmp", JAIL_TMP },
		{ "ZR_OUTPUT=", k->path, "/output", JAIL_OUTPUT },
		{ "ZR_RUN_OUTPUT=", k->path, "/output", JAIL_RUN_OUTPUT },
		{ "ZR_SUBMISSION=", k->spec->submission, "", JAIL_SUBMISSION },
		{ "ZR_EVALUATOR=", k->spec->evaluator_dir, "", JAIL_EVALUATOR },
	};
	char *to;

	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		size_t n = strlen(t[i].name), m = strlen(t[i].base);

		if (strncmp(line, t[i].name, n) || strncmp(line + n, t[i].base, m) ||
		    !str_eq(line + n + m, t[i].below))
			continue;
		return str_fmt(&to, "%s%s", t[i].name, t[i].to) < 0 ? NULL : to;
	}
	return strdup(line);
}

char **jail_lines(const struct keeper *k, char *const *env)
{
	char **v = calloc(strv_len(env) + 1, sizeof(char *));

	for (size_t i = 0; v && env[i]; i++) {
		v[i] = translate_line(k, env[i]);
		if (!v[i]) {
			strv_free(v);
			return NULL;
		}
	}
	return v;
}

/* --- a phase ------------------------------------------------------------------------------------- */

static pid_t clone_init(const struct keeper *k, bool into)
{
	struct clone_args args = {
		.flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS |
			 (into ? CLONE_INTO_CGROUP : 0),
		.exit_signal = SIGCHLD,
		.cgroup = into ? (uint64_t)k->cg.v2 : 0,
	};

	return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

/* False: errno says why, if no verdict does. */
static bool own_network(struct keeper *k)
{
	bool lost;
	int r = jailnet_make(&k->net, !k->jail->root, &lost);

	k->changed |= lost;
	if (r < 0 && is_lacking(-r))
		refuse(k, "zr-box may not make a network namespace with a loopback: %s",
		       strerror(-r));
	errno = -r;
	return r == 0;
}

pid_t jail_start(struct keeper *k, const int child[IN_N], int null, char *const *argv,
		 char *const *env)
{
	auto_strv char **words = jail_words(k->spec, argv), **lines = jail_lines(k, env);
	struct jail_plan plan = {
		.k = k, .null = null, .child = child, .argv = words, .env = lines
	};
	pid_t pid;

	if (!words || !lines) {
		errno = ENOMEM;
		return -1;
	}
	if (!k->jail->network && !own_network(k))
		return -1;
	jailroot_renew(k);
	plan.in_v2 = k->cg.v2 >= 0 && !k->cg.killed;
	pid = clone_init(k, plan.in_v2);
	/* Not all parents of a group let its children be started in it. */
	if (pid < 0 && plan.in_v2) {
		plan.in_v2 = false;
		pid = clone_init(k, false);
	}
	if (pid == 0)
		jailinit_main(&plan);
	if (pid < 0 && is_lacking(errno))
		refuse(k, "zr-box may not make the namespaces of a box: %s", strerror(errno));
	return pid;
}

static const char *const step_names[STEP_JAIL_N] = {
	[STEP_JAIL_CGROUP] = "join the control groups",
	[STEP_JAIL_NETWORK] = "enter the network of the box",
	[STEP_JAIL_MOUNTS] = "build the file tree of the box",
	[STEP_JAIL_PROC] = "mount /proc",
	[STEP_JAIL_ROOT] = "change the root",
	[STEP_JAIL_SCRIPT] = "start a process",
	[STEP_JAIL_DROP] = "give up privileges",
	[STEP_JAIL_KEEPER] = "follow the keeper",
	[STEP_JAIL_SESSION] = "start a session",
	[STEP_JAIL_RLIMITS] = "set resource limits",
	[STEP_JAIL_DESCRIPTORS] = "arrange the descriptors",
	[STEP_JAIL_IDS] = "take the uid of the box",
	[STEP_JAIL_FOLDER] = "enter the work folder",
	[STEP_JAIL_LANDLOCK] = "restrict writing (Landlock)",
	[STEP_JAIL_FILTER] = "filter system calls (seccomp)",
	[STEP_JAIL_EXEC] = "execute",
};

static void failed(struct keeper *k, const struct jail_note *n)
{
	const struct jail *j = k->jail;

	if (n->step < 0 || n->step >= STEP_JAIL_N)
		verdict(k, BOX_INFRASTRUCTURE, "the set-up of the box said nonsense");
	else if (n->step == STEP_JAIL_EXEC)
		spawn_exec_failed(k, n->value);
	else if (n->step == STEP_JAIL_MOUNTS && n->number && n->number <= j->n_binds &&
		 is_lacking(n->value))
		refuse(k, "cannot show %s: %s%s", STR_ESC(j->binds[n->number - 1].from),
		       strerror(n->value),
		       j->binds[n->number - 1].attrs & MOUNT_ATTR_IDMAP
			       ? "; others than its owner may not read it, and its file system "
				 "cannot map owners"
			       : "");
	else if (n->step == STEP_JAIL_PROC && n->value == EPERM)
		refuse(k, "the kernel lets us mount no /proc, because parts of the one here are "
			  "covered (by ProtectKernelTunables= or ProtectKernelLogs= of the unit, "
			  "or by a container engine)");
	else if (n->step == STEP_JAIL_FILTER && n->value == EBUSY)
		refuse(k, "nobody can watch system calls, as on_violation = stop wants: a filter "
			  "around zr has the one listener that the kernel allows");
	else if (is_lacking(n->value))
		refuse(k, "cannot %s: %s", step_names[n->step], strerror(n->value));
	else
		verdict(k, BOX_INFRASTRUCTURE, "cannot %s: %s", step_names[n->step],
			strerror(n->value));
}

static int jail_note_unwatched(struct keeper *k)
{
	return json_array_append_new(
		json_object_get(k->isolation, "missing"),
		json_pack("{s:s, s:s}", "what", "violations.calls", "effect",
			  "forbidden system calls are refused, but not counted: a filter around "
			  "zr has the one listener that the kernel allows"));
}

static void take_note(struct keeper *k, const struct jail_note *n)
{
	if (n->kind == NOTE_FAILED) {
		failed(k, n);
	} else if (n->kind == NOTE_EXECUTED) {
		k->exec_usec = n->usec;
		violations_begin(k);
	} else if (n->kind == NOTE_LISTENER && n->value) {
		k->violations.unwatched = true;
		if (jail_note_unwatched(k) < 0)
			verdict(k, BOX_INFRASTRUCTURE, "out of memory");
	} else if (n->kind == NOTE_ENDED) {
		k->leader_ended = true;
		k->leader_status = n->value;
		k->jail->leftovers += n->number;
		/* Whatever else init has to end is not the script's time. */
		if (!k->stop_usec)
			k->stop_usec = n->usec;
	}
}

int jail_open_notes(struct keeper *k, int child[IN_N], struct err *e)
{
	int fd[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd) < 0)
		return err_sys(e, "make a socket");
	close(k->in[IN_EXEC]);
	close(child[IN_EXEC]);
	k->in[IN_EXEC] = fd[0];
	child[IN_EXEC] = fd[1];
	return fcntl(fd[0], F_SETFL, O_NONBLOCK) < 0 ? err_sys(e, "make a socket") : 0;
}

/* As read(); the descriptor that a note may bring is k->violations.listener then. */
static ssize_t receive_note(struct keeper *k, struct jail_note *n)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = n, .iov_len = sizeof(*n) };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control.room,
			    .msg_controllen = sizeof(control.room) };
	ssize_t got = recvmsg(k->in[IN_EXEC], &m, MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = got < 0 ? NULL : CMSG_FIRSTHDR(&m);

	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
	    c->cmsg_len == CMSG_LEN(sizeof(int))) {
		if (k->violations.listener >= 0)
			close(k->violations.listener);
		memcpy(&k->violations.listener, CMSG_DATA(c), sizeof(int));
	}
	return got;
}

void jail_seen(struct keeper *k)
{
	struct jail_note n;
	ssize_t got;

	if (k->in[IN_EXEC] < 0)
		return;
	while ((got = receive_note(k, &n)) == sizeof(n))
		take_note(k, &n);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	close(k->in[IN_EXEC]);
	k->in[IN_EXEC] = -1;
}

void jail_reaped(struct keeper *k, int status)
{
	jail_seen(k);
	if (k->leader_ended)
		return;
	k->leader_status = status;
	/* Without an end of our making it died before there was a script. */
	if (!k->exec_usec && !k->stop_usec)
		verdict(k, BOX_INFRASTRUCTURE, "process 1 of the box died (wait status %#x)",
			(unsigned)status);
}

uint64_t jail_disk_bytes(const struct keeper *k)
{
	struct statfs s;

	if (k->jail->tree < 0 || fstatfs(k->jail->tree, &s) < 0 || s.f_bsize <= 0)
		return 0;
	return (s.f_blocks - s.f_bfree) * (uint64_t)s.f_bsize;
}

static bool is_full(uint64_t free, uint64_t all)
{
	return all && free * 100 <= all * (100 - FULL_PERCENT);
}

void jail_judge_full(struct keeper *k)
{
	struct statfs s;
	char limit[32];

	if (!k->jail || k->jail->tree < 0 || fstatfs(k->jail->tree, &s) < 0)
		return;
	str_size_text(limit, sizeof(limit), k->jail->bytes);
	if (is_full(s.f_bfree, s.f_blocks) || is_full(s.f_ffree, s.f_files))
		violations_used(k, NEAR_DISK, k->jail->bytes, k->jail->bytes);
	if (is_full(s.f_bfree, s.f_blocks))
		verdict(k, BOX_DISK, "%s failed with its disk limit of %s used up",
			phase_name(k->phase), limit);
	else if (is_full(s.f_ffree, s.f_files))
		verdict(k, BOX_DISK,
			"%s failed with %llu files, which is the most that a disk "
			"limit of %s allows",
			phase_name(k->phase), (unsigned long long)s.f_files, limit);
}

/* --- what the result says ------------------------------------------------------------------------ */

static int add_names(json_t *to, const struct keeper *k)
{
	const struct jail *j = k->jail;
	const struct {
		bool there;
		const char *name;
	} m[] = {
		{ k->cg.v2 >= 0, "cgroup2.kill" },
		{ k->cg.memory >= 0,
		  k->cg.memory == k->cg.v2 ? "cgroup2.memory" : "cgroup1.memory" },
		{ k->cg.pids >= 0, k->cg.pids == k->cg.v2 ? "cgroup2.pids" : "cgroup1.pids" },
		{ !j->root, "userns" },
		{ true, "pidns" },
		{ true, "mntns" },
		{ true, "ipcns" },
		{ true, "utsns" },
		{ true, "cgroupns" },
		{ !j->network, "netns" },
		{ true, "private-root" },
		{ true, "private-dev" },
		{ true, "tmpfs" },
		{ j->root, "slot-uid" },
		{ true, "no-new-privs" },
		{ true, "no-capabilities" },
		{ true, "seccomp" },
		{ true, "rlimits" },
		{ true, "clean-env" },
		{ true, "closed-fds" },
		{ k->cg.cpu >= 0, k->cg.cpu == k->cg.v2 ? "cgroup2.cpu" : "cgroup1.cpu" },
		{ j->device_program >= 0, "cgroup2.devices" },
		{ k->cg.devices >= 0, "cgroup1.devices" },
	};
	int r = 0;

	for (size_t i = 0; i < ARRAY_LEN(m) && r == 0; i++)
		if (m[i].there)
			r = json_array_append_new(to, json_string(m[i].name));
	if (r == 0 && j->landlock) {
		char name[32];

		snprintf(name, sizeof(name), "landlock:%d", j->landlock);
		r = json_array_append_new(to, json_string(name));
	}
	return r;
}

static json_t *missing(const struct keeper *k)
{
	const struct jail *j = k->jail;
	const struct gap g[] = {
		{ j->network, "network", "the job can use the network, as the evaluator asks" },
		{ !j->root, "slot-uid",
		  "the job runs as the user of its worker, alone in a user namespace" },
		{ k->cg.v2 < 0, "cgroup2.kill", "processes are ended by their namespace alone" },
		{ k->cg.v2 < 0 && k->spec->limits.cpu_usec, "cpu.stat",
		  "CPU time is limited per process and counted when processes end" },
		{ !j->landlock, "landlock", "there is no second wall around what can be written" },
		{ k->no_cpu_group, "cgroup.cpu",
		  "the share of processor time that the evaluator sets is not kept to" },
		{ j->device_program < 0 && k->cg.devices < 0, "device-cgroup",
		  "devices are kept away by the private /dev and missing capabilities alone" },
		{ is_placed_badly(k), "cpuset", TIMING_GAP_CPUSET },
		{ k->spec->timing && !k->spec->timing_cpus, "timing.cpus", TIMING_GAP_CPUS },
		{ !k->spec->other_cpus, "cpuset", "the job can use all processors" },
		{ !k->spec->sandbox.writes, "violations.writes",
		  "writes outside the box are refused, but not counted (watch_writes)" },
		{ true, "file-locks",
		  "two jobs at the same time can signal each other by locks on files both may "
		  "read" },
	};

	return gaps_json(g, ARRAY_LEN(g));
}

json_t *jail_describe(const struct keeper *k)
{
	json_t *names = json_array(), *gaps = missing(k);

	if (!names || !gaps || add_names(names, k) < 0) {
		json_decref(names);
		json_decref(gaps);
		return NULL;
	}
	return json_pack("{s:s, s:s, s:o, s:o, s:o, s:s}", "level", "sandbox", "privilege",
			 k->jail->root ? "root" : "userns-single", "mechanisms", names, "missing",
			 gaps, "limits", limits_to_json(&k->spec->limits), "network",
			 k->jail->network ? "host" : "none");
}

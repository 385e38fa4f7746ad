/* SPDX-License-Identifier: MIT */
/*
 * From clone3() to execve(). Between the two the child makes system calls only: no allocation, no
 * stdio. What fails there is told through a close-on-exec pipe, as the step and the errno; an end of
 * file on it means that execve() succeeded. So an exit status of 127 is always the script's own.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "engine.h"
#include "jail.h"
#include "keeper.h"
#include "spawn.h"

enum step {
	STEP_PARENT,
	STEP_CGROUP,
	STEP_SESSION,
	STEP_RLIMITS,
	STEP_FOLDER,
	STEP_DESCRIPTORS,
	STEP_LANDLOCK,
	STEP_EXEC,
};
static const char *const step_names[] = {
	[STEP_PARENT] = "follow the keeper",     [STEP_CGROUP] = "join the control groups",
	[STEP_SESSION] = "start a session",      [STEP_RLIMITS] = "set resource limits",
	[STEP_FOLDER] = "enter the work folder", [STEP_DESCRIPTORS] = "arrange the descriptors",
	[STEP_LANDLOCK] = "restrict signals",    [STEP_EXEC] = "execute",
};

struct failure {
	int step, error;
};

/* The kernel takes less. */
#define ENVIRON_MAX (16u << 20)

/* Where the child's four descriptors and its error pipe are put out of the way of 0 to 4. */
enum {
	FD_HIGH = 10,
};

/* --- Landlock --------------------------------------------------------------------------------- */

bool landlock_has_scope(void)
{
	return syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) >=
	       LANDLOCK_ABI_SCOPE;
}

/* The job can then signal itself only, not the keeper or the worker of the same user. */
static int restrict_signals(void)
{
	struct landlock_ruleset attr = { .scoped = LANDLOCK_SCOPES };
	long fd = syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);

	if (fd < 0)
		return -errno;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    syscall(SYS_landlock_restrict_self, fd, 0) < 0)
		return -errno;
	close((int)fd);
	return 0;
}

/* --- the child -------------------------------------------------------------------------------- */

static int die_with_keeper(pid_t keeper)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return -errno;
	return getppid() == keeper ? 0 : -EOWNERDEAD; /* it died before we asked */
}

static int limit(int resource, uint64_t soft, uint64_t hard)
{
	struct rlimit now, want;

	if (getrlimit((__rlimit_resource_t)resource, &now) < 0)
		return -errno;
	/* Raising a hard limit needs a capability; what the host gave stays the bound. */
	want.rlim_max = hard < now.rlim_max ? hard : now.rlim_max;
	want.rlim_cur = soft < want.rlim_max ? soft : want.rlim_max;
	return setrlimit((__rlimit_resource_t)resource, &want) < 0 ? -errno : 0;
}

int spawn_rlimits(const struct keeper *k)
{
	const struct limits *l = &k->spec->limits;
	uint64_t cpu = (l->cpu_usec + USEC_PER_SEC - 1) / USEC_PER_SEC;
	/* 1 byte, not 0: a core_pattern that starts a program ignores 0 and would hand the job's
	 * memory to a program outside the box. */
	int r = limit(RLIMIT_CORE, 1, 1);

	if (r == 0)
		r = limit(RLIMIT_NOFILE, 1024, RLIM_INFINITY);
	if (r == 0 && l->disk_bytes)
		r = limit(RLIMIT_FSIZE, l->disk_bytes, l->disk_bytes);
	/* The rest stands in for control groups that are not there. */
	if (r == 0 && l->memory_bytes && k->cg.memory < 0)
		r = limit(RLIMIT_DATA, l->memory_bytes, l->memory_bytes);
	if (r == 0 && l->cpu_usec && k->cg.v2 < 0)
		r = limit(RLIMIT_CPU, cpu, cpu + 1);
	return r;
}

void spawn_place(const struct keeper *k)
{
	if (k->placed)
		(void)sched_setaffinity(0, sizeof(k->cpus), &k->cpus);
}

void spawn_prefer_to_die(const char *path)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	(void)!write(fd, "1000", 4);
	close(fd);
}

/* By the system call: libc refuses the two signals it keeps for itself, but a process that was
 * started with one of them ignored passes that on. */
struct kernel_sigaction {
	void (*handler)(int);
	unsigned long flags;
	void (*restorer)(void);
	uint64_t mask;
};

uint64_t spawn_own_signals(void)
{
	struct kernel_sigaction now;
	uint64_t own = 0;

	for (int s = 1; s < NSIG; s++)
		if (syscall(SYS_rt_sigaction, s, NULL, &now, sizeof(now.mask)) < 0 ||
		    now.handler != SIG_DFL)
			own |= 1ull << (s - 1);
	return own;
}

void spawn_default_signals(uint64_t own)
{
	const struct kernel_sigaction plain = { .handler = SIG_DFL };
	sigset_t none;

	for (int s = 1; s < NSIG; s++)
		if (own & 1ull << (s - 1))
			(void)syscall(SYS_rt_sigaction, s, &plain, NULL, sizeof(plain.mask));
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

int spawn_descriptors(const int from[IN_N], int null)
{
	static const int to[IN_N] = {
		[IN_OUT] = 1, [IN_ERR] = 2, [IN_PROGRESS] = FD_PROGRESS, [IN_EXEC] = FD_ERROR
	};
	int high[IN_N];

	for (int i = 0; i < IN_N; i++) {
		high[i] = fcntl(from[i], F_DUPFD_CLOEXEC, FD_HIGH);
		if (high[i] < 0)
			return -errno;
	}
	if (null != 0 && dup2(null, 0) < 0)
		return -errno;
	for (int i = 0; i < IN_N; i++)
		if (dup3(high[i], to[i], i == IN_EXEC ? O_CLOEXEC : 0) < 0)
			return -errno;
	return close_range(FD_ERROR + 1, ~0u, 0) < 0 ? -errno : 0;
}

__attribute__((noreturn)) static void fail(int fd, enum step step, int r)
{
	struct failure f = { .step = (int)step, .error = -r };

	/* If even this is lost the keeper sees a leader that exits with 200 + step. */
	(void)!write(fd, &f, sizeof(f));
	_exit(200 + (int)step);
}

struct plan {
	const struct keeper *k;
	pid_t keeper;
	bool in_v2;
	bool client; /* of an engine, which makes the job's groups itself */
	bool engine;
	int null, child[IN_N];
	const char *path;
	char *const *argv;
	char **env;
};

__attribute__((noreturn)) static void child_main(const struct plan *p)
{
	int error = p->child[IN_EXEC];
	int r = die_with_keeper(p->keeper);

	if (r < 0)
		fail(error, STEP_PARENT, r);
	r = p->client ? 0 : cgroup_join(&p->k->cg, p->in_v2);
	if (r < 0)
		fail(error, STEP_CGROUP, r);
	if (setsid() < 0)
		fail(error, STEP_SESSION, -errno);
	spawn_prefer_to_die("/proc/self/oom_score_adj");
	spawn_place(p->k);
	r = spawn_rlimits(p->k);
	if (r < 0)
		fail(error, STEP_RLIMITS, r);
	if (chdir(p->k->spec->work_dir ? p->k->spec->work_dir : "work") < 0)
		fail(error, STEP_FOLDER, -errno);
	r = spawn_descriptors(p->child, p->null);
	if (r < 0)
		fail(error, STEP_DESCRIPTORS, r);
	/* An engine may need what a job must not have: programs with set-user-ID, signals. */
	if (p->k->landlock && !p->engine) {
		r = restrict_signals();
		if (r < 0)
			fail(FD_ERROR, STEP_LANDLOCK, r);
	}
	if (p->k->spec->environ_file)
		close(FD_PROGRESS);
	spawn_default_signals(p->k->own_signals);
	execve(p->path, p->argv, p->env);
	fail(FD_ERROR, STEP_EXEC, -errno);
}

/* --- the keeper's side ------------------------------------------------------------------------ */

int spawn_set_env(char ***env, const char *line)
{
	size_t n = strcspn(line, "=") + 1;

	for (char **p = *env; p && *p; p++) {
		if (strncmp(*p, line, n))
			continue;
		free(*p);
		*p = strdup(line);
		return *p ? 0 : -ENOMEM;
	}
	return strv_add(env, line);
}

static int read_env(const struct keeper *k, char ***ret, struct err *e)
{
	auto_buf struct buf lines = { 0 };
	int r = fd_read_file(AT_FDCWD, k->spec->environ_file, ENVIRON_MAX, &lines, e);

	for (size_t i = 0; r == 0 && i < lines.len; i += strlen(lines.data + i) + 1)
		if (strv_add(ret, lines.data + i) < 0)
			r = err_nomem(e);
	for (char **p = k->spec->env; r == 0 && p && *p; p++)
		if (spawn_set_env(ret, *p) < 0)
			r = err_nomem(e);
	if (r == 0 && gpus_env(k, ret) < 0)
		r = err_nomem(e);
	return r;
}

static int make_env(const struct keeper *k, char ***ret)
{
	const struct box_spec *s = k->spec;
	auto_strv char **env = NULL;
	int r = strv_add(&env, "PATH=/usr/local/bin:/usr/bin:/bin");

	if (r >= 0)
		r = strv_add(&env, "LANG=C.UTF-8");
	if (r >= 0)
		r = strv_addf(&env, "HOME=%s/work", k->path);
	if (r >= 0)
		r = strv_addf(&env, "TMPDIR=%s/tmp", k->path);
	for (char **p = s->env; r >= 0 && p && *p; p++)
		r = spawn_set_env(&env, *p);
	if (r >= 0)
		r = strv_addf(&env, "ZR_SUBMISSION=%s", s->submission);
	if (r >= 0)
		r = strv_addf(&env, "ZR_OUTPUT=%s/output", k->path);
	if (r >= 0)
		r = strv_addf(&env, "ZR_PROGRESS_FD=%d", FD_PROGRESS);
	if (r >= 0 && k->phase == PHASE_SCORE)
		r = strv_addf(&env, "ZR_RUN_OUTPUT=%s/output", k->path);
	if (r >= 0)
		r = strv_addf(&env, "ZR_EVALUATION_ID=%s", s->evaluation);
	if (r >= 0)
		r = strv_addf(&env, "ZR_ATTEMPT=%lld", (long long)s->attempt);
	if (r >= 0)
		r = strv_addf(&env, "ZR_ATTEMPT_ID=%s", s->attempt_id);
	if (r >= 0)
		r = strv_addf(&env, "ZR_EVALUATOR=%s", s->evaluator_dir);
	if (r >= 0)
		r = strv_addf(&env, "ZR_PHASE=%s", phase_name(k->phase));
	if (r >= 0)
		r = gpus_env(k, &env);
	if (r < 0)
		return -ENOMEM;
	*ret = take_ptr(env);
	return 0;
}

/*
 * Like vfork(): the child runs in our memory while we wait for its execve(), which saves the copying
 * of page tables, the larger part of a fork. So between the two it writes nothing but its own stack,
 * below ours. The kernel returns twice from one place: that place must not be in a function that has
 * returned before the child has gone, so it is here, and the call must be no function of libc's.
 */
#if (defined(__x86_64__) || defined(__aarch64__)) && !SANITIZED
#define CHILD_FLAGS (CLONE_VM | CLONE_VFORK)
#else
#define CHILD_FLAGS 0
#endif

static inline __attribute__((always_inline)) long clone3_here(struct clone_args *args)
{
#if defined(__x86_64__)
	long r = SYS_clone3;

	__asm__ volatile("syscall"
			 : "+a"(r)
			 : "D"(args), "S"(sizeof(*args))
			 : "rcx", "r11", "memory");
	return r;
#elif defined(__aarch64__)
	register long r __asm__("x0") = (long)args;
	register long size __asm__("x1") = sizeof(*args);
	register long nr __asm__("x8") = SYS_clone3;

	__asm__ volatile("svc 0" : "+r"(r) : "r"(size), "r"(nr) : "memory");
	return r;
#else
	long r = syscall(SYS_clone3, args, sizeof(*args));

	return r < 0 ? -errno : r;
#endif
}

/* Returns once, in the keeper: the child's id or -errno. */
static __attribute__((noinline)) long clone_child(const struct plan *p, struct clone_args *args)
{
	long r = clone3_here(args);

	if (r == 0)
		child_main(p);
	return r;
}

/* Straight into the group: no process of the job is ever outside it. */
static pid_t start_child(struct plan *p)
{
	struct clone_args args = { .flags = CHILD_FLAGS, .exit_signal = SIGCHLD };
	long pid;

	p->in_v2 = p->k->cg.v2 >= 0 && !p->k->cg.killed && !p->client;
	if (p->in_v2) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)p->k->cg.v2;
	}
	pid = clone_child(p, &args);
	if (pid >= 0 || (pid != -ENOSYS && pid != -E2BIG && pid != -EINVAL)) {
		errno = pid < 0 ? (int)-pid : 0;
		return pid < 0 ? -1 : (pid_t)pid;
	}
	/* Before Linux 5.7, or under a filter that hides clone3(): the child joins by itself. */
	p->in_v2 = false;
	pid = fork();
	if (pid == 0)
		child_main(p);
	return (pid_t)pid;
}

/* The same words after another first one; only the list is to be freed. */
static int rename_words(char *const *argv, char *first, char ***ret, struct err *e)
{
	size_t n = strv_len(argv);

	*ret = calloc(n + 1, sizeof(char *));
	if (!*ret)
		return err_nomem(e);
	memcpy(*ret, argv, n * sizeof(char *));
	(*ret)[0] = first;
	return 0;
}

static void close_all(int (*fd)[IN_N])
{
	for (int i = 0; i < IN_N; i++)
		if ((*fd)[i] >= 0)
			close((*fd)[i]);
}

int spawn_leader(struct keeper *k, struct err *e)
{
	__attribute__((cleanup(close_all))) int child[IN_N] = { -1, -1, -1, -1 };
	auto_close int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	auto_strv char **env = NULL, **words = NULL;
	auto_free char **called = NULL;
	struct plan plan = { .k = k, .keeper = getpid(), .argv = k->spec->argv[k->phase] };
	int r = null < 0 ? err_sys(e, "open /dev/null") : output_open(k, child, e);

	if (r < 0)
		return r;
	r = k->jail ? jail_open_notes(k, child, e) : 0;
	if (r < 0)
		return r;
	if (k->spec->environ_file)
		r = read_env(k, &env, e);
	else if (make_env(k, &env) < 0)
		r = err_nomem(e);
	if (r == 0 && k->spec->called)
		r = rename_words(plan.argv, k->spec->called, &called, e);
	if (r < 0)
		return r;
	if (k->engine) {
		r = engine_command(k, plan.argv, env, &words, e);
		if (r < 0)
			return r;
		plan.engine = true;
		plan.client = k->spec->container->group != NULL;
		plan.argv = words;
	}
	plan.path = plan.argv[0];
	if (called)
		plan.argv = called;
	plan.null = null;
	plan.env = k->engine ? k->spec->container->env : env;
	memcpy(plan.child, child, sizeof(child));
	k->leader = k->jail ? jail_start(k, child, null, plan.argv, env) : start_child(&plan);
	if (k->leader < 0)
		return err_sys(e, "start a process");
	return 0;
}

/* The interpreter that a script's first line names, if that is what is missing, and why. */
static const char *bad_interpreter(const struct keeper *k, const char *path, char *out, size_t size)
{
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	char line[256] = "", *p = line + 2;
	ssize_t n = fd < 0 ? -1 : read(fd, line, sizeof(line) - 1);

	if (n < 2 || line[0] != '#' || line[1] != '!')
		return NULL;
	line[n] = '\0';
	p += strspn(p, " \t");
	p[strcspn(p, " \t\r\n")] = '\0';
	snprintf(out, size, "%s", STR_ESC(p));
	if (access(p, X_OK) < 0)
		return strerror(errno);
	if (k->jail && !jailroot_shows(k, p))
		return "a sandbox does not show it; name its folder in 'mounts'";
	return NULL;
}

void spawn_exec_failed(struct keeper *k, int error)
{
	const char *path = k->spec->argv[k->phase][0], *phase = phase_name(k->phase);
	char interpreter[300];
	const char *why = NULL;

	if ((error == ENOENT || error == EACCES || error == ELOOP || error == ENOTDIR) &&
	    access(path, X_OK) == 0)
		why = bad_interpreter(k, path, interpreter, sizeof(interpreter));
	if (why)
		verdict(k, BOX_SETUP, "%s: cannot execute %s: its interpreter '%s': %s", phase,
			path, interpreter, why);
	else if (error == ENOEXEC)
		verdict(k, BOX_SETUP,
			"%s: cannot execute %s: it is neither a program nor does it start with #!",
			phase, path);
	else
		verdict(k, BOX_SETUP, "%s: cannot execute %s: %s", phase, path, strerror(error));
}

static void executed(struct keeper *k)
{
	char path[48];

	k->exec_usec = time_mono_usec();
	if (geteuid() == 0)
		return;
	snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", (int)k->leader);
	spawn_prefer_to_die(path);
}

void spawn_seen(struct keeper *k)
{
	struct failure f;
	ssize_t n;

	if (k->jail) {
		jail_seen(k);
		return;
	}
	n = read(k->in[IN_EXEC], &f, sizeof(f));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	close(k->in[IN_EXEC]);
	k->in[IN_EXEC] = -1;
	if (n == 0)
		executed(k);
	else if (n != sizeof(f) || f.step < 0 || f.step >= (int)ARRAY_LEN(step_names))
		verdict(k, BOX_INFRASTRUCTURE, "the set-up of the job said nonsense");
	else if (f.step == STEP_EXEC)
		spawn_exec_failed(k, f.error);
	else
		verdict(k, BOX_INFRASTRUCTURE, "cannot %s: %s", step_names[f.step],
			strerror(f.error));
}

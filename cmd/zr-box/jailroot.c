/* SPDX-License-Identifier: MIT */
/*
 * The tree that a job sees. The keeper has a mount namespace of its own, and in it a tmpfs on
 * <box>/jail, which is gone when the keeper is, however it ends (jailspare.h: and may serve its next
 * job before):
 *
 *	root		what becomes /, read-only: mount points, links and a small /etc
 *	dev		/dev
 *	box, box-score	/box; the second in the phase `score`
 *	output, score	/output; the first is /run-output, read-only, in the phase `score`
 *	tmp-*, shm-*	/tmp and /dev/shm of each phase
 *	void, voidfile	what is hidden is covered with these
 *
 * So one size and one number of files bound all that a job can write. Of the host's files come, as
 * read-only mounts, /usr and what belongs to it, a few of /etc, the submission, the evaluator, and
 * what its file lists. Init adds what depends on the phase in its own copy of the namespace.
 *
 * Paths here are relative to the box folder, which is the working directory.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "jail.h"

#define TREE JAIL_TREE
#define ROOT TREE "/root"

enum {
	BYTES_PER_FILE = 4096,
	FILES_MIN = 4096,
	FILES_MAX = 1 << 20,
	FILES_OWN = 256, /* of the tree itself, */
	BYTES_OWN = 64 << 10,
};

static const uint64_t plain = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
static const uint64_t shown = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;

/* --- one mount ----------------------------------------------------------------------------------- */

/* The attributes are there before the mount is. Async-signal-safe. */
static int bind_now(int map, const struct jail_bind *b)
{
	struct mount_attr a = {
		.attr_set = b->attrs,
		.propagation = MS_PRIVATE,
		.userns_fd = b->attrs & MOUNT_ATTR_IDMAP ? (uint64_t)map : 0,
	};
	unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE |
			 (b->follow ? 0 : AT_SYMLINK_NOFOLLOW);
	int fd = (int)syscall(SYS_open_tree, AT_FDCWD, b->from, flags), r = 0;

	if (fd < 0)
		return -errno;
	if (syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &a, sizeof(a)) < 0 ||
	    syscall(SYS_move_mount, fd, "", AT_FDCWD, b->to, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		r = -errno;
	close(fd);
	return r;
}

/* Notes a mount for the phases of the mask; `to` is a path in the box. */
static int add_bind(struct jail *j, const char *from, const char *to, uint64_t attrs,
		    unsigned phases, struct err *e)
{
	struct jail_bind *v = reallocarray(j->binds, j->n_binds + 1, sizeof(*v));
	struct stat st = { 0 };

	if (!v)
		return err_nomem(e);
	j->binds = v;
	v += j->n_binds;
	/* A link of the operator's is followed; in the job's own tree there may be none. */
	*v = (struct jail_bind){ .attrs = attrs, .phases = phases, .follow = from[0] == '/' };
	/* One that is not there any more fails when it is mounted. */
	if (v->follow && stat(from, &st) == 0) {
		v->dev = st.st_dev;
		v->ino = st.st_ino;
	}
	v->from = strdup(from);
	if (!v->from || str_fmt(&v->to, ROOT "%s", to) < 0) {
		free(v->from);
		return err_nomem(e);
	}
	j->n_binds++;
	return 0;
}

/* --- the skeleton -------------------------------------------------------------------------------- */

static int make_dir(const struct jail *j, const char *name, struct err *e)
{
	if (mkdirat(j->tree, name, 0755) < 0 && errno != EEXIST)
		return err_sys(e, "make %s of the box", name);
	return 0;
}

/* The job's own. */
static int make_private(const struct jail *j, const char *name, struct err *e)
{
	int r = make_dir(j, name, e);

	if (r == 0 && fchmodat(j->tree, name, 0700, 0) < 0)
		r = err_sys(e, "change the mode of %s", name);
	if (r == 0 && j->root && fchownat(j->tree, name, j->uid, j->uid, AT_SYMLINK_NOFOLLOW) < 0)
		r = err_sys(e, "change the owner of %s", name);
	return r;
}

static int make_file(const struct jail *j, const char *name, const char *text, mode_t mode,
		     struct err *e)
{
	auto_close int fd = openat(j->tree, name, O_WRONLY | O_CREAT | O_CLOEXEC, mode);

	if (fd < 0 || fd_write_all(fd, text, strlen(text)) < 0)
		return err_sys(e, "make %s of the box", name);
	return 0;
}

/* All folders of a path below root, and its last part as what `from` is. */
static int make_target(const struct jail *j, const char *from, const char *to, struct err *e)
{
	auto_free char *path = NULL;
	struct stat st;
	int r = 0;

	if (stat(from, &st) < 0)
		return err_set(e, errno, ERR_INPUT, "%s cannot be shown in the box: %s",
			       STR_ESC(from), strerror(errno));
	if (str_fmt(&path, "root%s", to) < 0)
		return err_nomem(e);
	for (char *p = strchr(path + strlen("root/"), '/'); p && r == 0; p = strchr(p + 1, '/')) {
		*p = '\0';
		r = make_dir(j, path, e);
		*p = '/';
	}
	if (r < 0)
		return r;
	return S_ISDIR(st.st_mode) ? make_dir(j, path, e) : make_file(j, path, "", 0444, e);
}

static int make_etc(const struct jail *j, struct err *e)
{
	char users[256], groups[128];
	int r = make_dir(j, "root/etc", e);

	snprintf(users, sizeof(users),
		 "root:x:0:0:root:/:/usr/sbin/nologin\nbox:x:%u:%u::" JAIL_BOX ":/bin/sh\n"
		 "nobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n",
		 j->uid, j->uid);
	snprintf(groups, sizeof(groups), "root:x:0:\nbox:x:%u:\nnogroup:x:65534:\n", j->uid);
	if (r == 0)
		r = make_file(j, "root/etc/passwd", users, 0444, e);
	if (r == 0)
		r = make_file(j, "root/etc/group", groups, 0444, e);
	if (r == 0)
		r = make_file(j, "root/etc/nsswitch.conf",
			      "passwd: files\ngroup: files\nhosts: files dns\n", 0444, e);
	if (r == 0 && !j->network)
		r = make_file(j, "root/etc/hosts", "127.0.0.1 localhost box\n::1 localhost box\n",
			      0444, e);
	return r;
}

/* A link of the host's root, such as /bin -> usr/bin, or the folder. */
static int make_top(const struct jail *j, const char *name, struct err *e)
{
	char path[16], to[20], link[64];
	ssize_t n;

	snprintf(path, sizeof(path), "/%s", name);
	snprintf(to, sizeof(to), "root/%s", name);
	n = readlink(path, link, sizeof(link) - 1);
	if (n > 0) {
		link[n] = '\0';
		return symlinkat(link, j->tree, to) < 0 ? err_sys(e, "make /%s of the box", name)
							: 0;
	}
	return errno == EINVAL ? make_dir(j, to, e) : 0;
}

static const char *const tops[] = { "bin", "sbin", "lib", "lib32", "lib64", "libx32" };
static const char *const nodes[] = { "null", "zero", "full", "random", "urandom" };
static const unsigned minors[] = { 3, 5, 7, 8, 9 };

static int allow_device(struct jail *j, dev_t device, struct err *e)
{
	dev_t *v = reallocarray(j->devices, j->n_devices + 1, sizeof(*v));

	if (!v)
		return err_nomem(e);
	j->devices = v;
	v[j->n_devices++] = device;
	return 0;
}

bool jail_has_own_nodes(const struct jail *j)
{
	return j->n_devices == ARRAY_LEN(nodes);
}

static int allow_nodes(struct jail *j, struct err *e)
{
	int r = 0;

	for (size_t i = 0; i < ARRAY_LEN(minors) && r == 0; i++)
		r = allow_device(j, makedev(1, minors[i]), e);
	return r;
}

static int make_nodes(struct jail *j, struct err *e)
{
	static const char *const links[][2] = { { "/proc/self/fd", "dev/fd" },
						{ "/proc/self/fd/0", "dev/stdin" },
						{ "/proc/self/fd/1", "dev/stdout" },
						{ "/proc/self/fd/2", "dev/stderr" } };
	char name[24];

	for (size_t i = 0; i < ARRAY_LEN(nodes); i++) {
		mode_t type = j->root ? S_IFCHR : S_IFREG;

		snprintf(name, sizeof(name), "dev/%s", nodes[i]);
		/* In a user namespace these become mounts of the host's nodes. */
		if (mknodat(j->tree, name, type | 0666, j->root ? makedev(1, minors[i]) : 0) < 0 ||
		    fchmodat(j->tree, name, 0666, 0) < 0)
			return err_sys(e, "make /dev/%s of the box", nodes[i]);
	}
	for (size_t i = 0; i < ARRAY_LEN(links); i++)
		if (symlinkat(links[i][0], j->tree, links[i][1]) < 0)
			return err_sys(e, "make /%s of the box", links[i][1]);
	return 0;
}

static int make_skeleton(const struct keeper *k, struct err *e)
{
	static const char *const dirs[] = { "root",
					    "root/usr",
					    "root/proc",
					    "root/dev",
					    "root/sys",
					    "root/sys/devices",
					    "root/sys/devices/system",
					    "root" JAIL_BOX,
					    "root" JAIL_TMP,
					    "root" JAIL_OUTPUT,
					    "root" JAIL_SUBMISSION,
					    "root" JAIL_EVALUATOR,
					    "dev",
					    "dev/shm",
					    "void" };
	struct jail *j = k->jail;
	int r = 0;

	for (size_t i = 0; i < ARRAY_LEN(dirs) && r == 0; i++)
		r = make_dir(j, dirs[i], e);
	for (size_t i = 0; i < ARRAY_LEN(tops) && r == 0; i++)
		r = make_top(j, tops[i], e);
	if (r == 0)
		r = make_file(j, "voidfile", "", 0, e);
	if (r == 0 && fchmodat(j->tree, "void", 0, 0) < 0)
		r = err_sys(e, "change the mode of an empty folder");
	if (r == 0)
		r = make_etc(j, e);
	if (r == 0)
		r = make_nodes(j, e);
	return r < 0 || !k->spec->argv[PHASE_SCORE] ? r : make_dir(j, "root" JAIL_RUN_OUTPUT, e);
}

/* --- the job's own folders ----------------------------------------------------------------------- */

bool jail_own_folder(unsigned phases, size_t i, char *name, size_t size)
{
	static const char *const fixed[] = { "box", "output", "box-score", "score" };
	size_t n = phases & 1u << PHASE_SCORE ? 4 : 2;

	if (i < n) {
		snprintf(name, size, "%s", fixed[i]);
		return true;
	}
	i -= n;
	for (enum phase p = 0; p < PHASE_N; p++) {
		if (!(phases & 1u << p))
			continue;
		if (i < 2) {
			snprintf(name, size, "%s-%s", i ? "shm" : "tmp", phase_name(p));
			return true;
		}
		i -= 2;
	}
	return false;
}

static int make_own(const struct keeper *k, struct err *e)
{
	const struct jail *j = k->jail;
	int r = make_private(j, "box", e);

	if (r == 0)
		r = make_private(j, "output", e);
	if (r < 0 || !k->spec->argv[PHASE_SCORE])
		return r;
	r = make_private(j, "box-score", e);
	return r < 0 ? r : make_private(j, "score", e);
}

/* --- what is shown ------------------------------------------------------------------------------- */

/* A path of the host at the same place. */
static int show(struct jail *j, const char *path, unsigned phases, struct err *e)
{
	int r = make_target(j, path, path, e);

	return r < 0 ? r : add_bind(j, path, path, shown, phases, e);
}

/* The same, but without an error where the host does not have it. */
static int show_if_there(struct jail *j, const char *path, struct err *e)
{
	return access(path, F_OK) < 0 ? 0 : show(j, path, 0, e);
}

static int show_system(struct jail *j, struct err *e)
{
	static const char *const files[] = { "/etc/ld.so.cache", "/etc/alternatives" };
	static const char *const net[] = { "/etc/resolv.conf", "/etc/hosts", "/etc/services",
					   "/etc/protocols", "/etc/ssl/certs" };
	int r = add_bind(j, "/usr", "/usr", shown, 0, e);
	struct stat st;
	char path[16];

	for (size_t i = 0; i < ARRAY_LEN(tops) && r == 0; i++) {
		snprintf(path, sizeof(path), "/%s", tops[i]);
		if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode))
			r = add_bind(j, path, path, shown, 0, e);
	}
	for (size_t i = 0; i < ARRAY_LEN(files) && r == 0; i++)
		r = show_if_there(j, files[i], e);
	for (size_t i = 0; j->network && i < ARRAY_LEN(net) && r == 0; i++)
		r = show_if_there(j, net[i], e);
	if (r == 0)
		r = add_bind(j, "/sys/devices/system", "/sys/devices/system",
			     shown | MOUNT_ATTR_NOEXEC, 0, e);
	return r;
}

static int show_devices(struct jail *j, struct err *e)
{
	const uint64_t attrs = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC;
	char path[24];
	int r = add_bind(j, TREE "/dev", "/dev", attrs | MOUNT_ATTR_RDONLY, 0, e);

	for (size_t i = 0; !j->root && i < ARRAY_LEN(nodes) && r == 0; i++) {
		snprintf(path, sizeof(path), "/dev/%s", nodes[i]);
		r = add_bind(j, path, path, attrs, 0, e);
	}
	return r;
}

/* "dev" and what `name` has before its last '/'. */
static void node_folder(char out[64], const char *name)
{
	const char *slash = strrchr(name, '/');

	snprintf(out, 64, "dev%s%.*s", slash ? "/" : "", slash ? (int)(slash - name) : 0, name);
}

int jailroot_add_node(struct keeper *k, const char *name, struct err *e)
{
	struct jail *j = k->jail;
	char from[64], to[64], folder[64];
	struct stat st;

	node_folder(folder, name);
	snprintf(from, sizeof(from), "/dev/%s", name);
	snprintf(to, sizeof(to), "dev/%s", name);
	if (stat(from, &st) < 0)
		return err_sys(e, "%s", from);
	if (!S_ISCHR(st.st_mode))
		return err_set(e, ENODEV, ERR_HOST, "%s is no device", from);
	if (mkdirat(j->tree, folder, 0755) < 0 && errno != EEXIST)
		return err_sys(e, "make %s of the box", folder);
	if (mknodat(j->tree, to, (j->root ? S_IFCHR : S_IFREG) | 0666, j->root ? st.st_rdev : 0) <
		    0 ||
	    fchmodat(j->tree, to, 0666, 0) < 0)
		return err_sys(e, "make %s of the box", from);
	if (allow_device(j, st.st_rdev, e) < 0)
		return -ENOMEM;
	/* In a user namespace the file is where the host's node is mounted. */
	return j->root ? 0
		       : add_bind(j, from, from, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC,
				  1u << PHASE_RUN, e);
}

void jailroot_remove_node(struct keeper *k, const char *name)
{
	char to[64], folder[64];

	node_folder(folder, name);
	snprintf(to, sizeof(to), "dev/%s", name);
	/* What is not as it was is not for the next job. */
	if (unlinkat(k->jail->tree, to, 0) < 0 && errno != ENOENT)
		k->jail->n_tree = 0;
	if (!str_eq(folder, "dev") && unlinkat(k->jail->tree, folder, AT_REMOVEDIR) < 0 &&
	    errno != ENOENT && errno != ENOTEMPTY)
		k->jail->n_tree = 0;
	/* GPUs are all that was added to what every box has. */
	if (k->jail->n_devices > ARRAY_LEN(nodes))
		k->jail->n_devices = ARRAY_LEN(nodes);
}

bool jailroot_shows(const struct keeper *k, const char *path)
{
	char top[16];

	if (sandbox_path_in(path, "/usr"))
		return true;
	for (size_t i = 0; i < ARRAY_LEN(tops); i++) {
		snprintf(top, sizeof(top), "/%s", tops[i]);
		if (sandbox_path_in(path, top))
			return true;
	}
	for (char **p = k->spec->sandbox.mounts; p && *p; p++)
		if (sandbox_path_in(path, *p))
			return true;
	return false;
}

/* Puts nothing over a path in the box. */
static int hide(struct jail *j, const char *path, bool dir, unsigned phases, struct err *e)
{
	return add_bind(j, dir ? TREE "/void" : TREE "/voidfile", path, shown | MOUNT_ATTR_NOEXEC,
			phases, e);
}

char *jail_above(const char *path, unsigned n)
{
	char *p = strdup(path);

	for (; p && n; n--) {
		char *slash = strrchr(p, '/');

		if (!slash || slash == p) {
			free(p);
			return NULL;
		}
		*slash = '\0';
	}
	return p;
}

/* What is zr's own may lie in what is shown, /usr/lib/zr/bin for one: the evaluators, with their
 * reference data, and the state folder. */
static int hide_ours(const struct keeper *k, struct err *e)
{
	const struct box_spec *s = k->spec;
	auto_free char *state = jail_above(k->path, 3),
		       *bin = jail_above(s->evaluator_dir, !s->sandbox.bare);
	const char *const paths[] = { state, bin, s->sealed_dir };
	struct stat st;
	int r = 0;

	for (size_t i = 0; i < ARRAY_LEN(paths) && r == 0; i++)
		if (paths[i] && jailroot_shows(k, paths[i]) && stat(paths[i], &st) == 0)
			r = hide(k->jail, paths[i], true, 0, e);
	return r;
}

static int show_evaluator(const struct keeper *k, struct err *e)
{
	const struct box_spec *s = k->spec;
	const char *program = s->argv[PHASE_RUN][0];
	auto_free char *to = NULL;
	int r;

	if (!s->sandbox.bare)
		return add_bind(k->jail, s->evaluator_dir, JAIL_EVALUATOR, shown, 0, e);
	if (str_fmt(&to, JAIL_EVALUATOR "%s", strrchr(program, '/')) < 0)
		return err_nomem(e);
	r = make_target(k->jail, program, to, e);
	return r < 0 ? r : add_bind(k->jail, program, to, shown, 0, e);
}

/* Where `../NAME` leads from the evaluator's own folder. */
static int show_beside(const struct keeper *k, const char *path, struct err *e)
{
	const char *to = strrchr(path, '/');
	int r;

	if (jailroot_shows(k, to))
		return err_input(e, "'beside': a box has a folder %s of its own", STR_ESC(to));
	r = make_target(k->jail, path, to, e);
	return r < 0 ? r : add_bind(k->jail, path, to, shown, 0, e);
}

/* Reference data is there in phases that execute nothing of the submission, and in no other. */
static int show_reference(const struct keeper *k, const char *path, struct err *e)
{
	const unsigned all = (1u << PHASE_N) - 1;
	unsigned sees = 1u << PHASE_SCORE | (k->spec->sandbox.data ? 1u << PHASE_RUN : 0);
	bool relative = path[0] != '/';
	auto_free char *from = NULL, *to = NULL;
	struct stat st;

	if (str_fmt(&from, "%s%s%s", relative ? k->spec->evaluator_dir : "", relative ? "/" : "",
		    path) < 0 ||
	    str_fmt(&to, "%s%s", relative ? JAIL_EVALUATOR "/" : "", path) < 0)
		return err_nomem(e);
	if (stat(from, &st) < 0)
		return err_set(e, errno, ERR_INPUT, "the reference data %s: %s", STR_ESC(from),
			       strerror(errno));
	if (relative || jailroot_shows(k, path))
		return hide(k->jail, to, S_ISDIR(st.st_mode), all & ~sees, e);
	return show(k->jail, path, sees, e);
}

static int show_lists(const struct keeper *k, struct err *e)
{
	const struct sandbox *s = &k->spec->sandbox;
	int r = 0;

	for (char **p = s->mounts; p && *p && r == 0; p++)
		r = show(k->jail, *p, 0, e);
	if (r == 0)
		r = hide_ours(k, e);
	if (r == 0)
		r = show_evaluator(k, e);
	for (char **p = s->beside; p && *p && r == 0; p++)
		r = show_beside(k, *p, e);
	for (char **p = s->reference; p && *p && r == 0; p++)
		r = show_reference(k, *p, e);
	return r;
}

/* --- what depends on the phase ------------------------------------------------------------------- */

static int plan_phase(const struct keeper *k, enum phase p, uint64_t idmap, struct err *e)
{
	struct jail *j = k->jail;
	bool score = p == PHASE_SCORE;
	unsigned in = 1u << p;
	char tmp[32], shm[32], from[48];
	int r;

	snprintf(tmp, sizeof(tmp), "tmp-%s", phase_name(p));
	snprintf(shm, sizeof(shm), "shm-%s", phase_name(p));
	r = make_private(j, tmp, e);
	if (r == 0)
		r = make_private(j, shm, e);
	snprintf(from, sizeof(from), TREE "/%s", tmp);
	if (r == 0)
		r = add_bind(j, from, JAIL_TMP, plain, in, e);
	snprintf(from, sizeof(from), TREE "/%s", shm);
	if (r == 0)
		r = add_bind(j, from, "/dev/shm", plain, in, e);
	if (r == 0)
		r = add_bind(j, score ? TREE "/box-score" : TREE "/box", JAIL_BOX, plain, in, e);
	if (r == 0)
		r = add_bind(j, score ? TREE "/score" : TREE "/output", JAIL_OUTPUT, plain, in, e);
	/* In `score` nothing of the submission can be executed where it lies. */
	if (r == 0)
		r = add_bind(j, k->spec->submission, JAIL_SUBMISSION,
			     shown | idmap | (score ? MOUNT_ATTR_NOEXEC : 0), in, e);
	if (r == 0 && score)
		r = add_bind(j, TREE "/output", JAIL_RUN_OUTPUT, shown | MOUNT_ATTR_NOEXEC, in, e);
	return r;
}

/*
 * A fetched submission is its owner's alone. For the job's uid it is mounted with that owner mapped,
 * for which the kernel wants a user namespace; a process that only waits has one.
 */
static int make_map(uid_t uid, const struct stat *st, int *ret, struct err *e)
{
	struct clone_args args = { .flags = CLONE_NEWUSER, .exit_signal = SIGCHLD };
	char path[48], text[48];
	pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
	int r = pid < 0 ? -errno : 0;

	if (pid == 0)
		for (;;)
			pause();
	for (int i = 0; i < 2 && r == 0; i++) {
		auto_close int fd = -1;

		snprintf(path, sizeof(path), "/proc/%d/%s_map", (int)pid, i ? "gid" : "uid");
		snprintf(text, sizeof(text), "%u %u 1", i ? st->st_gid : st->st_uid, uid);
		fd = open(path, O_WRONLY | O_CLOEXEC);
		r = fd < 0 ? -errno : fd_write_all(fd, text, strlen(text));
	}
	snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
	if (r == 0 && (*ret = open(path, O_RDONLY | O_CLOEXEC)) < 0)
		r = -errno;
	if (pid > 0) {
		(void)kill(pid, SIGKILL);
		(void)waitpid(pid, NULL, 0);
	}
	return r < 0 ? err_errno(e, r, "map the owner of the submission") : 0;
}

/* IDMAP, if the job could not read it otherwise. */
static int map_submission(const struct keeper *k, uint64_t *ret_attr, struct err *e)
{
	struct stat st;

	*ret_attr = 0;
	if (stat(k->spec->submission, &st) < 0)
		return err_set(e, errno, ERR_INPUT, "the submission %s: %s",
			       STR_ESC(k->spec->submission), strerror(errno));
	if (!k->jail->root || (st.st_mode & 05) == 05)
		return 0;
	*ret_attr = MOUNT_ATTR_IDMAP;
	return make_map(k->jail->uid, &st, &k->jail->map, e);
}

int jailroot_bind_as(const char *from, const char *to, uid_t uid, const struct stat *st,
		     struct err *e)
{
	auto_close int map = -1;
	struct jail_bind b = { .from = (char *)(uintptr_t)from,
			       .to = (char *)(uintptr_t)to,
			       .attrs = shown | MOUNT_ATTR_IDMAP,
			       .follow = true };
	int r = make_map(uid, st, &map, e);

	if (r < 0)
		return r;
	r = bind_now(map, &b);
	return r < 0 ? err_errno(e, r, "show %s to the job", STR_ESC(from)) : 0;
}

static int mount_tree(struct keeper *k, struct err *e)
{
	struct jail *j = k->jail;
	uint64_t files = j->bytes / BYTES_PER_FILE;
	char options[96];

	files = files < FILES_MIN ? FILES_MIN : files > FILES_MAX ? FILES_MAX : files;
	snprintf(options, sizeof(options), "mode=0755,size=%llu,nr_inodes=%llu",
		 (unsigned long long)j->bytes + BYTES_OWN, (unsigned long long)files + FILES_OWN);
	if (mkdir(TREE, 0700) < 0 && errno != EEXIST)
		return err_sys(e, "make folder " TREE);
	if (mount("zr-box", TREE, "tmpfs", MS_NOSUID, options) < 0)
		return err_sys(e, "make the file system of the box");
	j->mounted = true;
	return fd_open_dir(AT_FDCWD, TREE, &j->tree, e);
}

static int count_files(struct jail *j, struct err *e)
{
	struct statfs s;

	if (fstatfs(j->tree, &s) < 0)
		return err_sys(e, "look at the file system of the box");
	j->files_made = s.f_files - s.f_ffree;
	return 0;
}

static int make_tree(struct keeper *k, struct err *e)
{
	struct jail *j = k->jail;
	int r = mount_tree(k, e);

	j->made_usec = time_mono_usec();
	if (r == 0)
		r = make_skeleton(k, e);
	/* When the mounts are made their points are all there, and the root is read-only first. */
	if (r == 0)
		r = add_bind(j, ROOT, "", shown, 0, e);
	if (r == 0)
		r = show_system(j, e);
	if (r == 0)
		r = show_devices(j, e);
	if (r == 0)
		r = show_lists(k, e);
	for (size_t i = 0; i < j->n_binds && r == 0; i++) {
		const struct jail_bind *b = &j->binds[i];

		if (b->phases)
			continue;
		r = bind_now(j->map, b);
		if (r < 0)
			r = err_errno(e, r, "show %s in the box", STR_ESC(b->from));
	}
	if (r == 0)
		r = count_files(j, e);
	if (r == 0)
		j->n_tree = j->n_binds;
	return r;
}

int jailroot_stage(struct keeper *k, struct err *e)
{
	uint64_t idmap = 0;
	int r = jailspare_take(k) ? 0 : make_tree(k, e);

	if (r == 0)
		r = allow_nodes(k->jail, e);
	if (r == 0)
		r = make_own(k, e);
	if (r == 0)
		r = map_submission(k, &idmap, e);
	for (enum phase p = 0; p < PHASE_N && r == 0; p++)
		if (k->spec->argv[p])
			r = plan_phase(k, p, idmap, e);
	return r;
}

int jailroot_bind(const struct keeper *k, unsigned *which)
{
	const struct jail *j = k->jail;

	for (size_t i = 0; i < j->n_binds; i++) {
		int r = j->binds[i].phases & 1u << k->phase ? bind_now(j->map, &j->binds[i]) : 0;

		*which = (unsigned)i + 1;
		if (r < 0)
			return r;
	}
	*which = 0;
	return 0;
}

/* Read-only as a whole: /proc/sys and the like are writable for nobody. */
int jailroot_proc(void)
{
	const unsigned long flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;

	return mount("proc", ROOT "/proc", "proc", flags, NULL) < 0 ? -errno : 0;
}

int jailroot_enter(void)
{
	if (chdir(ROOT) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
	    umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return -errno;
	return 0;
}

void jailroot_renew(struct keeper *k)
{
	char name[32];

	for (enum phase p = 0; p < k->phase; p++) {
		if (!k->spec->argv[p])
			continue;
		snprintf(name, sizeof(name), "tmp-%s", phase_name(p));
		(void)!fd_rmtree(k->jail->tree, name, NULL);
		snprintf(name, sizeof(name), "shm-%s", phase_name(p));
		(void)!fd_rmtree(k->jail->tree, name, NULL);
	}
}

void jail_binds_cut(struct jail *j, size_t n)
{
	for (; j->n_binds > n; j->n_binds--) {
		free(j->binds[j->n_binds - 1].from);
		free(j->binds[j->n_binds - 1].to);
	}
}

void jail_binds_free(struct jail_bind *v, size_t n)
{
	struct jail j = { .binds = v, .n_binds = n };

	jail_binds_cut(&j, 0);
	free(v);
}

void jailroot_done(struct keeper *k)
{
	struct jail *j = k->jail;

	(void)jailspare_keep(k);
	jail_binds_free(j->binds, j->n_binds);
	if (j->map >= 0)
		close(j->map);
	if (j->tree >= 0)
		close(j->tree);
	if (j->mounted)
		(void)umount2(TREE, MNT_DETACH);
}

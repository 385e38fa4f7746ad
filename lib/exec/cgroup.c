/* SPDX-License-Identifier: MIT */
#include "exec/cgroup.h"

#include <dirent.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "base/fd.h"
#include "base/id.h"
#include "base/proc.h"
#include "base/str.h"

#define BOX_PREFIX "zr-"
#define MEMBER_MAX (64u << 10) /* of /proc/PID/cgroup */

/* The v1 hierarchies: where one is, and its directory of a box. */
static const struct {
	size_t host, box;
} v1[] = {
#define V1(name)                                                                                   \
	{                                                                                          \
		offsetof(struct cgroup_host, v1_##name), offsetof(struct cgroup_box, name)         \
	}
	V1(memory), V1(pids), V1(cpu), V1(cpuset), V1(devices),
#undef V1
};

static char **v1_path(struct cgroup_host *h, size_t i)
{
	return (char **)((char *)h + v1[i].host);
}

static const char *v1_path_of(const struct cgroup_host *h, size_t i)
{
	return *(char *const *)((const char *)h + v1[i].host);
}

static int *v1_dir(struct cgroup_box *c, size_t i)
{
	return (int *)((char *)c + v1[i].box);
}

/* -1: none, or none of its own. */
static int v1_dir_of(const struct cgroup_box *c, size_t i)
{
	int fd = *(const int *)((const char *)c + v1[i].box);

	return fd == c->v2 ? -1 : fd;
}

void cgroup_host_done(struct cgroup_host *h)
{
	free(h->v2);
	for (size_t i = 0; i < ARRAY_LEN(v1); i++)
		free(*v1_path(h, i));
	free(h->keepers);
	*h = (struct cgroup_host){ .v2 = NULL };
}

static int copy_path(const char *from, char **to)
{
	*to = from ? strdup(from) : NULL;
	return from && !*to ? -ENOMEM : 0;
}

int cgroup_host_copy(const struct cgroup_host *from, struct cgroup_host *to, struct err *e)
{
	auto_done(cgroup_host) h = { .v2_memory = from->v2_memory,
				     .v2_pids = from->v2_pids,
				     .v2_cpu = from->v2_cpu,
				     .v2_cpuset = from->v2_cpuset };
	int r = copy_path(from->v2, &h.v2);

	for (size_t i = 0; i < ARRAY_LEN(v1) && r == 0; i++)
		r = copy_path(v1_path_of(from, i), v1_path(&h, i));
	if (r == 0)
		r = copy_path(from->keepers, &h.keepers);
	if (r < 0)
		return err_nomem(e);
	*to = h;
	h = (struct cgroup_host){ .v2 = NULL };
	return 0;
}

/* --- small files ------------------------------------------------------------------------------ */

static int write_file(int dirfd, const char *name, const char *text)
{
	auto_close int fd = openat(dirfd, name, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

static int write_number(int dirfd, const char *name, uint64_t v)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)v);
	return write_file(dirfd, name, text);
}

/* The start of a small file; these are generated at the first read, so one read is all of it. */
static int read_start(int dirfd, const char *name, char *buf, size_t size)
{
	auto_close int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, buf, size - 1);
	if (n < 0)
		return -errno;
	buf[n] = '\0';
	return 0;
}

/* The number after `key` at the start of a line, or the first number with key "". */
static int read_number(int dirfd, const char *name, const char *key, uint64_t *ret)
{
	char text[2048] = "", *end;
	size_t n = strlen(key);
	int r;

	if (dirfd < 0)
		return -ENOENT;
	r = read_start(dirfd, name, text, sizeof(text));
	if (r < 0)
		return r;
	for (char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, key, n) || (n && line[n] != ' '))
			continue;
		errno = 0;
		*ret = strtoull(line + n, &end, 10);
		return end == line + n || errno ? -EINVAL : 0;
	}
	return -ENOENT;
}

/* --- finding out what the host has ------------------------------------------------------------ */

/* Does a comma- or blank-separated list hold this word? */
static bool has_word(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = list; (p = strstr(p, word)); p += n)
		if ((p == list || strchr(", ", p[-1])) && (!p[n] || strchr(", \n", p[n])))
			return true;
	return false;
}

/* Our own group in one hierarchy: "0::/path" for v2, "N:memory,…:/path" for v1. */
static int own_group(const char *controller, char **ret)
{
	auto_fclose FILE *f = fopen("/proc/self/cgroup", "re");
	auto_free char *line = NULL;
	size_t cap = 0;

	while (f && getline(&line, &cap, f) > 0) {
		char *list = strchr(line, ':'), *path = list ? strchr(list + 1, ':') : NULL;

		if (!path)
			continue;
		*path++ = '\0';
		path[strcspn(path, "\n")] = '\0';
		if (controller ? !has_word(list + 1, controller) : list[1] != '\0')
			continue;
		*ret = strdup(path);
		return *ret ? 0 : -ENOMEM;
	}
	return -ENOENT;
}

/* Mount tables write blanks and the like as \ooo. */
static void unescape(char *s)
{
	char *w = s;

	for (; *s; s++) {
		if (s[0] == '\\' && s[1] && s[2] && s[3]) {
			*w++ = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
			s += 3;
		} else {
			*w++ = *s;
		}
	}
	*w = '\0';
}

struct mount {
	char *root, *point;
};

static void mount_done_(struct mount *m)
{
	free(m->root);
	free(m->point);
}

/* One line of mountinfo: "id parent dev root point options … - type source super-options". */
static bool mount_line(char *line, const char *controller, struct mount *ret)
{
	char *word[5], *tail = strstr(line, " - "), *save = NULL, *type, *super;

	if (!tail)
		return false;
	*tail = '\0';
	type = strtok_r(tail + 3, " ", &save);
	(void)strtok_r(NULL, " ", &save);
	super = strtok_r(NULL, " \n", &save);
	if (!type || !super || !str_eq(type, controller ? "cgroup" : "cgroup2") ||
	    (controller && !has_word(super, controller)))
		return false;
	save = NULL;
	for (size_t i = 0; i < ARRAY_LEN(word); i++)
		if (!(word[i] = strtok_r(i ? NULL : line, " ", &save)))
			return false;
	unescape(word[3]);
	unescape(word[4]);
	ret->root = strdup(word[3]);
	ret->point = strdup(word[4]);
	return ret->root && ret->point;
}

static int find_mount(const char *controller, struct mount *ret)
{
	auto_fclose FILE *f = fopen("/proc/self/mountinfo", "re");
	auto_free char *line = NULL;
	size_t cap = 0;

	while (f && getline(&line, &cap, f) > 0) {
		if (mount_line(line, controller, ret))
			return 0;
		mount_done_(ret);
		*ret = (struct mount){ .root = NULL };
	}
	return -ENOENT;
}

/* The directory of `parent`, or of our own group, in one hierarchy; made if it is missing. */
static int hierarchy_dir(const char *controller, const char *parent, char **ret)
{
	__attribute__((cleanup(mount_done_))) struct mount m = { .root = NULL };
	auto_free char *own = NULL, *path = NULL;
	const char *rel = parent;
	int r = find_mount(controller, &m);

	if (r < 0)
		return r;
	if (!parent) {
		size_t n = strlen(m.root);

		r = own_group(controller, &own);
		if (r < 0)
			return r;
		/* A container's mount may show only a part of the tree. */
		rel = str_eq(m.root, "/")                                     ? own
		      : str_starts(own, m.root) && (!own[n] || own[n] == '/') ? own + n
									      : "";
	}
	while (*rel == '/')
		rel++;
	if (str_fmt(&path, "%s%s%s", m.point, *rel ? "/" : "", rel) < 0)
		return -ENOMEM;
	if (parent && fd_mkdirs(path, 0755, NULL) < 0)
		return -EACCES;
	*ret = take_ptr(path);
	return 0;
}

/* Makes, uses and removes a directory; `file` must be writable in it. */
static bool dir_works(const char *dir, const char *file, bool v2)
{
	char name[40];
	auto_close int fd = -1, parent = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool ok;

	snprintf(name, sizeof(name), "zr-probe-%d", (int)getpid());
	/* One of this name was left by somebody who had our id. */
	if (parent < 0 || (mkdirat(parent, name, 0755) < 0 && errno != EEXIST))
		return false;
	ok = fd_open_dir(parent, name, &fd, NULL) == 0 &&
	     faccessat(fd, "cgroup.procs", W_OK, 0) == 0 && faccessat(fd, file, W_OK, 0) == 0;
	if (ok && v2)
		ok = write_file(fd, file, "1") == 0;
	unlinkat(parent, name, AT_REMOVEDIR);
	return ok;
}

/* Asks for controllers in the children of `dir`; true for those that are there afterwards. */
static void v2_controllers(const char *dir, struct cgroup_host *h)
{
	auto_close int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char text[512] = "";

	if (fd < 0)
		return;
	(void)write_file(fd, "cgroup.subtree_control", "+memory");
	(void)write_file(fd, "cgroup.subtree_control", "+pids");
	(void)write_file(fd, "cgroup.subtree_control", "+cpu");
	(void)write_file(fd, "cgroup.subtree_control", "+cpuset");
	if (read_start(fd, "cgroup.subtree_control", text, sizeof(text)) < 0)
		return;
	h->v2_memory = has_word(text, "memory");
	h->v2_pids = has_word(text, "pids");
	h->v2_cpu = has_word(text, "cpu");
	h->v2_cpuset = has_word(text, "cpuset");
}

static int probe_v2(const char *parent, struct cgroup_host *h)
{
	auto_free char *dir = NULL;
	int r = hierarchy_dir(NULL, parent, &dir);

	if (r < 0)
		return r == -ENOMEM ? r : 0;
	if (!dir_works(dir, "cgroup.kill", true))
		return 0;
	if (parent) {
		if (str_fmt(&h->keepers, "%s/keepers", dir) < 0)
			return -ENOMEM;
		if (mkdir(h->keepers, 0755) < 0 && errno != EEXIST) {
			free(h->keepers);
			h->keepers = NULL;
		}
	}
	v2_controllers(dir, h);
	h->v2 = take_ptr(dir);
	return 0;
}

static int probe_v1(const char *controller, const char *file, const char *parent, char **ret)
{
	auto_free char *dir = NULL;
	int r = hierarchy_dir(controller, parent, &dir);

	if (r < 0)
		return r == -ENOMEM ? r : 0;
	if (dir_works(dir, file, false))
		*ret = take_ptr(dir);
	return 0;
}

int cgroup_probe(const char *parent, struct cgroup_host *ret, struct err *e)
{
	auto_done(cgroup_host) h = { .v2 = NULL };
	int r = 0;

	if (parent && strstr(parent, ".."))
		return err_input(e, "cgroup_parent '%s' may not contain '..'", STR_ESC(parent));
	if (!str_eq(parent, "none")) {
		r = probe_v2(parent, &h);
		if (r == 0 && !h.v2_memory)
			r = probe_v1("memory", "memory.limit_in_bytes", parent, &h.v1_memory);
		if (r == 0 && !h.v2_pids)
			r = probe_v1("pids", "pids.max", parent, &h.v1_pids);
		if (r == 0 && !h.v2_cpu)
			r = probe_v1("cpu", "cpu.cfs_quota_us", parent, &h.v1_cpu);
		if (r == 0 && !h.v2_cpuset)
			r = probe_v1("cpuset", "cpuset.cpus", parent, &h.v1_cpuset);
		if (r == 0)
			r = probe_v1("devices", "devices.deny", parent, &h.v1_devices);
	}
	if (r < 0)
		return err_errno(e, r, "look for control groups");
	*ret = h;
	h = (struct cgroup_host){ .v2 = NULL };
	return 0;
}

/* The path of a directory within its hierarchy. */
static int path_in_tree(const struct mount *m, const char *dir, char **ret)
{
	const char *root = str_eq(m->root, "/") ? "" : m->root;

	if (!str_starts(dir, m->point))
		return -ENOENT;
	dir += strlen(m->point);
	return str_fmt(ret, "%s%s", root, *root || *dir ? dir : "/") < 0 ? -ENOMEM : 0;
}

static int align_one(const char *controller, const char *path, char **dir, struct err *e)
{
	__attribute__((cleanup(mount_done_))) struct mount m = { .root = NULL };
	char *to = NULL;
	int r = find_mount(controller, &m);

	if (r == 0 && str_fmt(&to, "%s%s", m.point, path) < 0)
		r = -ENOMEM;
	if (r < 0)
		return err_errno(e, r, "find the control groups of %s", controller);
	free(*dir);
	*dir = to;
	return fd_mkdirs(to, 0755, e);
}

int cgroup_align(struct cgroup_host *h, char **ret, struct err *e)
{
	static const char *const names[] = { "memory", "pids", "cpu", "cpuset", "devices" };
	__attribute__((cleanup(mount_done_))) struct mount m = { .root = NULL };
	auto_free char *path = NULL;
	int r = 0;

	*ret = NULL;
	if (!h->v2)
		return 0;
	if (find_mount(NULL, &m) < 0 || path_in_tree(&m, h->v2, &path) < 0)
		return err_set(e, ENOENT, ERR_HOST, "where %s is in its tree is not known", h->v2);
	for (size_t i = 0; i < ARRAY_LEN(v1) && r == 0; i++)
		if (*v1_path(h, i))
			r = align_one(names[i], path, v1_path(h, i), e);
	if (r == 0)
		*ret = take_ptr(path);
	return r;
}

/* --- one box ---------------------------------------------------------------------------------- */

static void box_names(const struct cgroup_host *h, const char *attempt_id, struct cgroup_box *c)
{
	*c = (struct cgroup_box){ .v2 = -1, .oom_event = -1, .host = h };
	for (size_t i = 0; i < ARRAY_LEN(v1); i++)
		*v1_dir(c, i) = -1;
	snprintf(c->name, sizeof(c->name), BOX_PREFIX "%s", attempt_id);
}

static int open_below(const char *parent, const char *name)
{
	auto_close int fd = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -1 : openat(fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
}

void cgroup_open(const struct cgroup_host *h, const char *attempt_id, struct cgroup_box *c)
{
	box_names(h, attempt_id, c);
	if (h->v2)
		c->v2 = open_below(h->v2, c->name);
	for (size_t i = 0; i < ARRAY_LEN(v1); i++)
		if (v1_path_of(h, i))
			*v1_dir(c, i) = open_below(v1_path_of(h, i), c->name);
	if (h->v2_memory)
		c->memory = c->v2;
	if (h->v2_pids)
		c->pids = c->v2;
}

void cgroup_close(struct cgroup_box *c)
{
	for (size_t i = 0; i < ARRAY_LEN(v1); i++) {
		if (v1_dir_of(c, i) >= 0)
			close(v1_dir_of(c, i));
		*v1_dir(c, i) = -1;
	}
	if (c->v2 >= 0)
		close(c->v2);
	if (c->oom_event >= 0)
		close(c->oom_event);
	c->v2 = c->oom_event = -1;
}

static int make_below(const char *parent, const char *name, int *ret_fd, struct err *e)
{
	auto_close int fd = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return err_sys(e, "open %s", parent);
	/* One that is there already is what a keeper of this same box left when it was killed. */
	if (mkdirat(fd, name, 0755) < 0 && errno != EEXIST)
		return err_sys(e, "make %s/%s", parent, name);
	return fd_open_dir(fd, name, ret_fd, e);
}

/* Is the directory that we have open still the one of that name? */
static bool is_linked(const char *parent, const char *name, int dirfd)
{
	auto_close int now = open_below(parent, name);

	return now >= 0 && fd_same(now, dirfd);
}

/* With the lock that says that somebody uses it. A sweeper may have had it just now, and have removed the
 * directory that we had made. */
static int make_locked(const char *parent, const char *name, int *ret_fd, struct err *e)
{
	int fd = -1, r;

	for (unsigned i = 0; i < 100; i++) {
		r = make_below(parent, name, &fd, e);
		if (r < 0 && (r != -ENOENT || access(parent, F_OK) < 0))
			return r;
		if (r == 0 && flock(fd, LOCK_EX) == 0 && is_linked(parent, name, fd)) {
			*ret_fd = fd;
			return 0;
		}
		if (r == 0)
			close(fd);
	}
	return err_set(e, EBUSY, ERR_TRANSIENT, "%s/%s does not stay", parent, name);
}

int cgroup_take(const struct cgroup_host *h, const char *attempt_id, int *ret_lock)
{
	struct cgroup_box c;
	int fd;

	box_names(h, attempt_id, &c);
	*ret_lock = -1;
	fd = h->v2 ? open_below(h->v2, c.name) : -1;
	if (fd < 0)
		return h->v2 && errno == ENOENT ? 0 : -EBUSY;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		close(fd);
		return -EBUSY;
	}
	*ret_lock = fd;
	return 0;
}

static int limit_memory(const struct cgroup_box *c, uint64_t bytes, struct err *e)
{
	bool v2 = c->memory == c->v2;
	int r = write_number(c->memory, v2 ? "memory.max" : "memory.limit_in_bytes", bytes);

	if (r < 0)
		return err_errno(e, r, "limit the memory of %s", c->name);
	if (v2) {
		/* Swap would only make the limit slower to reach; not every kernel has it. */
		(void)write_file(c->memory, "memory.swap.max", "0");
		(void)write_file(c->memory, "memory.oom.group", "1");
	} else {
		(void)write_number(c->memory, "memory.memsw.limit_in_bytes", bytes);
	}
	return 0;
}

static int make_limits(struct cgroup_box *c, const struct limits *l, struct err *e)
{
	const struct cgroup_host *h = c->host;
	int r = 0;

	c->memory = h->v2_memory ? c->v2 : -1;
	c->pids = h->v2_pids ? c->v2 : -1;
	if (l->memory_bytes && c->memory < 0 && h->v1_memory)
		r = make_below(h->v1_memory, c->name, &c->memory, e);
	if (r == 0 && l->memory_bytes && c->memory >= 0)
		r = limit_memory(c, l->memory_bytes, e);
	if (r == 0 && l->pids && c->pids < 0 && h->v1_pids)
		r = make_below(h->v1_pids, c->name, &c->pids, e);
	if (r < 0 || !l->pids || c->pids < 0)
		return r;
	r = write_number(c->pids, "pids.max", l->pids);
	return r < 0 ? err_errno(e, r, "limit the processes of %s", c->name) : 0;
}

int cgroup_make(const struct cgroup_host *h, const char *attempt_id, const struct limits *l,
		struct cgroup_box *ret, struct err *e)
{
	struct cgroup_box c;
	int r = 0;

	box_names(h, attempt_id, &c);
	if (h->v2)
		r = make_locked(h->v2, c.name, &c.v2, e);
	if (r == 0)
		r = make_limits(&c, l, e);
	if (r < 0) {
		cgroup_remove(&c, NULL);
		cgroup_close(&c);
		return r;
	}
	*ret = c;
	return 0;
}

/* The directory for a limit: the box's in v2, or one of its own in v1, made when it is asked for. */
static int need_dir(struct cgroup_box *c, bool in_v2, const char *parent, int *fd, struct err *e)
{
	if (*fd >= 0)
		return 0;
	if (in_v2 && c->v2 >= 0) {
		*fd = c->v2;
		return 0;
	}
	return parent ? make_below(parent, c->name, fd, e) : -ENOENT;
}

enum {
	CPU_PERIOD_USEC = 100000,
	V1_SHARES = 1024, /* what a weight of 100 is there */
};

int cgroup_limit_cpu(struct cgroup_box *c, uint64_t percent, uint64_t weight, struct err *e)
{
	unsigned long long quota = percent * (CPU_PERIOD_USEC / 100);
	int r = need_dir(c, c->host->v2_cpu, c->host->v1_cpu, &c->cpu, e);
	bool v2 = c->cpu == c->v2;
	char text[48];

	if (r < 0)
		return r;
	snprintf(text, sizeof(text), "%llu %d", quota, CPU_PERIOD_USEC);
	if (percent && v2)
		r = write_file(c->cpu, "cpu.max", text);
	else if (percent)
		r = write_number(c->cpu, "cpu.cfs_quota_us", quota);
	if (r == 0 && weight)
		r = write_number(c->cpu, v2 ? "cpu.weight" : "cpu.shares",
				 v2 ? weight : weight * V1_SHARES / 100);
	return r < 0 ? err_errno(e, r, "limit the processor time of %s", c->name) : 0;
}

/* A new v1 group has no memory nodes, and nothing can be in it then. */
static int copy_nodes(const struct cgroup_box *c)
{
	auto_close int parent = open(c->host->v1_cpuset, O_PATH | O_DIRECTORY | O_CLOEXEC);
	char nodes[256];
	int r = parent < 0 ? -errno : read_start(parent, "cpuset.mems", nodes, sizeof(nodes));

	return r < 0 ? r : write_file(c->cpuset, "cpuset.mems", nodes);
}

int cgroup_limit_cpus(struct cgroup_box *c, const char *cpus, struct err *e)
{
	bool fresh = c->cpuset < 0;
	int r = need_dir(c, c->host->v2_cpuset, c->host->v1_cpuset, &c->cpuset, e);

	if (r == 0 && fresh && c->cpuset != c->v2)
		r = copy_nodes(c);
	if (r == 0)
		r = write_file(c->cpuset, "cpuset.cpus", cpus);
	return r < 0 && r != -ENOENT ? err_errno(e, r, "give %s the processors %s", c->name, cpus)
				     : r;
}

int cgroup_limit_devices(struct cgroup_box *c, const dev_t *allowed, size_t n, struct err *e)
{
	int r = need_dir(c, false, c->host->v1_devices, &c->devices, e);
	char text[48];

	if (r == 0)
		r = write_file(c->devices, "devices.deny", "a");
	for (size_t i = 0; i < n && r == 0; i++) {
		snprintf(text, sizeof(text), "c %u:%u rw", major(allowed[i]), minor(allowed[i]));
		r = write_file(c->devices, "devices.allow", text);
	}
	return r < 0 && r != -ENOENT ? err_errno(e, r, "close the devices to %s", c->name) : r;
}

int cgroup_join(const struct cgroup_box *c, bool in_v2)
{
	int r = 0;

	if (c->v2 >= 0 && !in_v2)
		r = write_file(c->v2, "cgroup.procs", "0");
	for (size_t i = 0; i < ARRAY_LEN(v1) && r == 0; i++)
		if (v1_dir_of(c, i) >= 0)
			r = write_file(v1_dir_of(c, i), "cgroup.procs", "0");
	return r;
}

/* Is it in this box's group of some tree, or in one below it? The name is this box's alone. */
static bool is_member(const char *name, long pid)
{
	auto_buf struct buf b = { 0 };
	char path[40];

	snprintf(path, sizeof(path), "/proc/%ld/cgroup", pid);
	if (fd_read_file(AT_FDCWD, path, MEMBER_MAX, &b, NULL) < 0)
		return false;
	for (const char *p = b.data; p && (p = strstr(p, name)); p++)
		if (p > b.data && p[-1] == '/' && strchr("/\n", p[strlen(name)]))
			return true;
	return false;
}

/* The pidfd comes first: what is read then is read of the process that gets the signal. Since the list
 * was made the id may have become another's. */
static void signal_member(const char *name, long pid, int signo)
{
	auto_close int fd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);

	if (fd >= 0 && is_member(name, pid))
		(void)proc_signal(fd, signo);
}

/* Signals what cgroup.procs lists now. */
static int signal_listed(const struct cgroup_box *c, int dirfd, int signo)
{
	auto_close int fd = openat(dirfd, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	auto_buf struct buf b = { 0 };
	int r;

	if (fd < 0)
		return -errno;
	r = fd_read_all(fd, "cgroup.procs", 64u << 20, &b, NULL);
	if (r < 0)
		return r;
	for (char *p = b.data, *end; p && *p; p = end + (*end == '\n')) {
		long pid = strtol(p, &end, 10);

		if (end == p)
			break;
		if (pid > 1)
			signal_member(c->name, pid, signo);
	}
	return 0;
}

static int any_dir(const struct cgroup_box *c)
{
	return c->v2 >= 0 ? c->v2 : c->pids >= 0 ? c->pids : c->memory;
}

int cgroup_signal(const struct cgroup_box *c, int signo)
{
	int dir = any_dir(c);

	if (dir < 0)
		return -ENOENT;
	if (signo == SIGKILL && c->v2 >= 0)
		return write_file(c->v2, "cgroup.kill", "1");
	return signal_listed(c, dir, signo);
}

int cgroup_populated(const struct cgroup_box *c, bool *ret)
{
	char text[8] = "";
	uint64_t v = 0;
	int r;

	if (c->v2 >= 0) {
		r = read_number(c->v2, "cgroup.events", "populated", &v);
		*ret = v;
		return r;
	}
	if (any_dir(c) < 0)
		return -ENOENT;
	r = read_start(any_dir(c), "cgroup.procs", text, sizeof(text));
	*ret = text[0];
	return r;
}

/* What an engine has made in it and, killed, not removed. */
static void remove_children(int parent, const char *name, unsigned depth)
{
	auto_close int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	int again = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
	DIR *d = again < 0 ? NULL : fdopendir(again);

	for (struct dirent *de; d && (de = readdir(d));) {
		if (de->d_type != DT_DIR || de->d_name[0] == '.')
			continue;
		if (depth)
			remove_children(fd, de->d_name, depth - 1);
		(void)unlinkat(fd, de->d_name, AT_REMOVEDIR);
	}
	if (d)
		closedir(d);
}

static int remove_below(const char *parent, const char *name, struct err *e)
{
	auto_close int fd = parent ? open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;

	if (fd < 0)
		return 0;
	for (unsigned i = 0; unlinkat(fd, name, AT_REMOVEDIR) < 0; i++) {
		if (errno == ENOENT)
			return 0;
		/* The last process is dead but may not be off the books yet: on a busy host that
		 * takes its time. Two seconds in all. */
		if (errno != EBUSY || i >= 20)
			return err_sys(e, "remove %s/%s", parent, name);
		remove_children(fd, name, 2);
		usleep(1000u << (i < 7 ? i : 7));
	}
	return 0;
}

int cgroup_remove(const struct cgroup_box *c, struct err *e)
{
	int r;

	if (!c->host)
		return 0;
	r = remove_below(c->host->v2, c->name, e);
	for (size_t i = 0; i < ARRAY_LEN(v1) && r == 0; i++)
		if (v1_dir_of(c, i) >= 0)
			r = remove_below(v1_path_of(c->host, i), c->name, e);
	return r;
}

void cgroup_remove_v1(const char *parent, const char *name)
{
	static const char *const trees[] = { "blkio",   "cpu",        "cpuacct",     "cpuset",
					     "devices", "freezer",    "hugetlb",     "memory",
					     "misc",    "net_cls",    "pids",        "net_prio",
					     "rdma",    "perf_event", "name=systemd" };

	for (size_t i = 0; i < ARRAY_LEN(trees); i++) {
		__attribute__((cleanup(mount_done_))) struct mount m = { .root = NULL };
		auto_free char *path = NULL;

		if (find_mount(trees[i], &m) == 0 && str_eq(m.root, "/") &&
		    str_fmt(&path, "%s%s", m.point, parent) >= 0)
			(void)!remove_below(path, name, NULL);
	}
}

static int add_ids(const char *dir, char ***ids)
{
	DIR *d = dir ? opendir(dir) : NULL;
	struct dirent *de;
	int r = 0;

	while (r == 0 && d && (de = readdir(d)))
		if (str_starts(de->d_name, BOX_PREFIX) &&
		    id_is_uuid(de->d_name + strlen(BOX_PREFIX)))
			r = strv_add(ids, de->d_name + strlen(BOX_PREFIX));
	if (d)
		closedir(d);
	return r;
}

int cgroup_list(const struct cgroup_host *h, char ***ret_ids)
{
	auto_strv char **ids = calloc(1, sizeof(char *));
	int r = ids ? add_ids(h->v2, &ids) : -ENOMEM;

	for (size_t i = 0; i < ARRAY_LEN(v1) && r == 0; i++)
		r = add_ids(v1_path_of(h, i), &ids);
	if (r == 0)
		*ret_ids = take_ptr(ids);
	return r;
}

int cgroup_cpu_usec(const struct cgroup_box *c, uint64_t *ret)
{
	return read_number(c->v2, "cpu.stat", "usage_usec", ret);
}

int cgroup_memory_peak(const struct cgroup_box *c, uint64_t *ret)
{
	if (c->memory >= 0 && c->memory == c->v2)
		return read_number(c->memory, "memory.peak", "", ret);
	return read_number(c->memory, "memory.max_usage_in_bytes", "", ret);
}

int cgroup_oom_kills(struct cgroup_box *c, uint64_t *ret)
{
	uint64_t n;

	if (c->oom_event >= 0) {
		if (read(c->oom_event, &n, sizeof(n)) == sizeof(n))
			c->ooms += n;
		*ret = c->ooms;
		return 0;
	}
	if (c->memory >= 0 && c->memory == c->v2)
		return read_number(c->memory, "memory.events", "oom_kill", ret);
	return read_number(c->memory, "memory.oom_control", "oom_kill", ret);
}

int cgroup_watch_oom(struct cgroup_box *c, struct err *e)
{
	auto_close int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), control = -1;
	char text[32];
	int r;

	if (c->memory < 0 || c->memory == c->v2)
		return 0;
	control = openat(c->memory, "memory.oom_control", O_RDONLY | O_CLOEXEC);
	if (event < 0 || control < 0)
		return err_sys(e, "watch the memory of %s", c->name);
	snprintf(text, sizeof(text), "%d %d", event, control);
	r = write_file(c->memory, "cgroup.event_control", text);
	if (r < 0)
		return err_errno(e, r, "watch the memory of %s", c->name);
	c->oom_event = take_fd(event);
	return 0;
}

int cgroup_pids_most(const struct cgroup_box *c, uint64_t *ret)
{
	int r = read_number(c->pids, "pids.peak", "", ret);

	return r == -ENOENT ? read_number(c->pids, "pids.current", "", ret) : r;
}

int cgroup_pids_refused(const struct cgroup_box *c, uint64_t *ret)
{
	return read_number(c->pids, "pids.events", "max", ret);
}

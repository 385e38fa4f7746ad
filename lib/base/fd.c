/* SPDX-License-Identifier: MIT */
#include "base/fd.h"
#include "base/failpoint.h"

#include <dirent.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/un.h>

int fd_read_all(int fd, const char *what, size_t max, struct buf *b, struct err *e)
{
	size_t start = b->len;

	for (;;) {
		ssize_t n;

		if (buf_reserve(b, 16384) < 0)
			return err_nomem(e);
		n = read(fd, b->data + b->len, b->cap - b->len - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, "read %s", STR_ESC(what));
		if (n == 0)
			return 0;
		b->len += (size_t)n;
		b->data[b->len] = '\0';
		if (b->len - start > max)
			return err_set(e, EFBIG, ERR_INPUT, "%s is larger than %zu bytes",
				       STR_ESC(what), max);
	}
}

int fd_read_file(int dirfd, const char *name, size_t max, struct buf *b, struct err *e)
{
	auto_close int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	if (fd < 0)
		return err_sys(e, "open %s", STR_ESC(name));
	return fd_read_all(fd, name, max, b, e);
}

int fd_write_all(int fd, const void *data, size_t n)
{
	const char *p = data;

	while (n) {
		ssize_t k = write(fd, p, n);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return -errno;
		p += k;
		n -= (size_t)k;
	}
	return 0;
}

static int write_temp(int dirfd, const char *temp, const void *data, size_t n, mode_t mode,
		      bool durable, struct err *e)
{
	const int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
	auto_close int fd = openat(dirfd, temp, flags, mode);
	int r;

	/* Left by a process that died: its mode may be another, it may even be a link. */
	if (fd < 0 && errno == EEXIST && unlinkat(dirfd, temp, 0) == 0)
		fd = openat(dirfd, temp, flags, mode);
	if (fd < 0)
		return err_sys(e, "create %s", STR_ESC(temp));
	r = fd_write_all(fd, data, n);
	if (r < 0)
		return err_errno(e, r, "write %s", STR_ESC(temp));
	if (durable && fsync(fd) < 0)
		return err_sys(e, "sync %s", STR_ESC(temp));
	return 0;
}

static int sync_parent(int dirfd, const char *name, struct err *e)
{
	const char *slash = strrchr(name, '/');
	auto_free char *parent = slash ? strndup(name, (size_t)(slash - name + 1)) : strdup(".");
	auto_close int fd = -1;

	if (!parent)
		return err_nomem(e);
	fd = openat(dirfd, parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, "open the folder of %s", STR_ESC(name));
	if (fsync(fd) < 0)
		return err_sys(e, "sync the folder of %s", STR_ESC(name));
	return 0;
}

int fd_write_file(int dirfd, const char *name, const void *data, size_t n, mode_t mode,
		  bool durable, struct err *e)
{
	auto_free char *temp = NULL;
	int r;

	if (str_fmt(&temp, "%s.%d.tmp", name, (int)getpid()) < 0)
		return err_nomem(e);
	r = write_temp(dirfd, temp, data, n, mode, durable, e);
	FAILPOINT("file.written");
	if (r == 0 && renameat(dirfd, temp, dirfd, name) < 0)
		r = err_sys(e, "rename to %s", STR_ESC(name));
	if (r < 0) {
		unlinkat(dirfd, temp, 0);
		return r;
	}
	return durable ? sync_parent(dirfd, name, e) : 0;
}

int fd_rename_durable(int old_dirfd, const char *old_name, int new_dirfd, const char *new_name,
		      bool no_replace, struct err *e)
{
	int r;

	if (renameat2(old_dirfd, old_name, new_dirfd, new_name, no_replace ? RENAME_NOREPLACE : 0) <
	    0)
		return err_sys(e, "rename %s to %s", STR_ESC(old_name), STR_ESC(new_name));
	r = sync_parent(new_dirfd, new_name, e);
	return r < 0 ? r : sync_parent(old_dirfd, old_name, e);
}

static int make_one(const char *path, mode_t mode)
{
	struct stat st;

	if (mkdir(path, mode) == 0)
		return 0;
	if (errno != EEXIST)
		return -errno;
	return stat(path, &st) == 0 && S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

int fd_mkdirs(const char *path, mode_t mode, struct err *e)
{
	auto_free char *p = strdup(path);

	if (!p)
		return err_nomem(e);
	if (!*p)
		return err_errno(e, ENOENT, "make a folder without a name");
	for (char *s = p + 1;; s++) {
		char c = *s;
		int r;

		if (c && c != '/')
			continue;
		*s = '\0';
		r = make_one(p, mode);
		if (r < 0)
			return err_errno(e, r, "make folder %s", STR_ESC(p));
		*s = c;
		if (!c)
			return 0;
	}
}

int fd_open_dir(int dirfd, const char *name, int *ret_fd, struct err *e)
{
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return err_sys(e, "open folder %s", STR_ESC(name));
	*ret_fd = fd;
	return 0;
}

int fd_make_dir(const char *path, mode_t mode, int *ret_fd, struct err *e)
{
	/* A configured path, not a foreign one: it may be a link to another disk. */
	const int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
	int r, fd = open(path, flags);

	if (fd < 0 && errno == ENOENT) {
		r = fd_mkdirs(path, mode, e);
		if (r < 0)
			return r;
		fd = open(path, flags);
	}
	if (fd < 0)
		return err_sys(e, "open folder %s", STR_ESC(path));
	*ret_fd = fd;
	return 0;
}

/*
 * A tree deeper than this is flattened while it is removed: what lies deeper is moved up to the
 * tree's root and taken in a further pass. So descriptors and stack are bounded, and yet nobody can
 * build what cannot be removed.
 */
#define RMTREE_DEPTH_MAX 128

struct removal {
	int root;
	unsigned moved;
};

static int open_path(int dirfd, const char *name, bool may_be_mount)
{
	struct open_how how = {
		.flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
		.resolve = may_be_mount ? 0 : RESOLVE_NO_XDEV,
	};

	int fd = (int)syscall(SYS_openat2, dirfd, name, &how, sizeof(how));
	struct statx st;

	if (fd >= 0 || errno != ENOSYS)
		return fd;
	fd = openat(dirfd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || may_be_mount)
		return fd;
	if (statx(fd, "", AT_EMPTY_PATH, 0, &st) == 0 &&
	    !(st.stx_attributes & STATX_ATTR_MOUNT_ROOT))
		return fd;
	close(fd);
	errno = EXDEV;
	return -1;
}

/* By way of a path descriptor: new mode bits go to this folder, never to the target of a link that
 * has taken its place. */
static int open_to_empty(int dirfd, const char *name, bool may_be_mount, int *ret_fd, struct err *e)
{
	auto_close int at = open_path(dirfd, name, may_be_mount);
	char self[32];
	struct stat st;
	int fd;

	if (at < 0 && errno == EXDEV)
		return err_set(e, EXDEV, ERR_HOST, "folder %s is a mount point", STR_ESC(name));
	if (at < 0 || fstat(at, &st) < 0)
		return err_sys(e, "open folder %s", STR_ESC(name));
	snprintf(self, sizeof(self), "/proc/self/fd/%d", at);
	if ((st.st_mode & S_IRWXU) != S_IRWXU && chmod(self, S_IRWXU) < 0)
		return err_sys(e, "unlock folder %s", STR_ESC(name));
	fd = openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, "open folder %s", STR_ESC(name));
	*ret_fd = fd;
	return 0;
}

static int remove_entry(struct removal *rm, int dirfd, const char *name, unsigned depth,
			struct err *e);

/* Takes fd over. */
static int remove_content(struct removal *rm, int fd, const char *name, unsigned depth,
			  struct err *e)
{
	DIR *d = fdopendir(fd);
	struct dirent *de;
	int r = 0;

	if (!d) {
		close(fd);
		return err_sys(e, "read folder %s", STR_ESC(name));
	}
	while (r == 0 && (errno = 0, de = readdir(d)))
		if (!str_eq(de->d_name, ".") && !str_eq(de->d_name, ".."))
			r = remove_entry(rm, dirfd(d), de->d_name, depth + 1, e);
	if (r == 0 && errno)
		r = err_sys(e, "read folder %s", STR_ESC(name));
	closedir(d);
	return r;
}

static int move_up(struct removal *rm, int dirfd, const char *name, struct err *e)
{
	char up[32];

	for (;;) {
		snprintf(up, sizeof(up), "zr-moved-up.%u", rm->moved++);
		if (renameat2(dirfd, name, rm->root, up, RENAME_NOREPLACE) == 0)
			return 0;
		if (errno != EEXIST)
			return err_sys(e, "move folder %s up", STR_ESC(name));
	}
}

static int remove_dir(struct removal *rm, int dirfd, const char *name, unsigned depth,
		      struct err *e)
{
	unsigned moved;
	int fd = -1, r;

	do {
		moved = rm->moved;
		r = open_to_empty(dirfd, name, depth == 0, &fd, e);
		if (r < 0)
			return r == -ENOENT ? 0 : r;
		if (depth == 0)
			rm->root = fd;
		if (depth > RMTREE_DEPTH_MAX) {
			close(fd);
			return move_up(rm, dirfd, name, e);
		}
		r = remove_content(rm, fd, name, depth, e);
	} while (r == 0 && depth == 0 && rm->moved != moved);
	if (r == 0 && unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		r = err_sys(e, "remove folder %s", STR_ESC(name));
	return r;
}

static int remove_entry(struct removal *rm, int dirfd, const char *name, unsigned depth,
			struct err *e)
{
	if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR)
		return err_sys(e, "remove %s", STR_ESC(name));
	/* Many are empty. */
	if (unlinkat(dirfd, name, AT_REMOVEDIR) == 0)
		return 0;
	return remove_dir(rm, dirfd, name, depth, e);
}

int fd_rmtree(int dirfd, const char *name, struct err *e)
{
	return remove_entry(&(struct removal){ .root = -1 }, dirfd, name, 0, e);
}

/* What openat2() does, one component at a time: systemd's RestrictSUIDSGID= takes it away, and so do the
 * filters of old container engines. Any ".." is refused. */
static int beneath_by_steps(int dirfd, const char *path, int flags, mode_t mode)
{
	auto_free char *copy = strdup(path);
	auto_close int at = -1;
	char *rest = copy, *name;
	struct stat st;
	int fd;

	if (!copy)
		return -ENOMEM;
	if (*path == '/')
		return -EXDEV;
	while ((name = strsep(&rest, "/")) && rest) {
		if (str_eq(name, ".."))
			return -EXDEV;
		fd = openat(at < 0 ? dirfd : at, *name ? name : ".",
			    O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0 || fstat(fd, &st) < 0)
			return -errno;
		if (at >= 0)
			close(at);
		at = fd;
		if (S_ISLNK(st.st_mode))
			return -ELOOP;
	}
	if (str_eq(name, ".."))
		return -EXDEV;
	fd = openat(at < 0 ? dirfd : at, at >= 0 && !*name ? "." : name, flags, mode);
	return fd < 0 ? -errno : fd;
}

int fd_open_beneath(int dirfd, const char *path, int flags, mode_t mode, int *ret_fd, struct err *e)
{
	struct open_how how = {
		.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC | O_NOFOLLOW),
		.mode = flags & O_CREAT ? mode : 0,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	long fd = syscall(SYS_openat2, dirfd, path, &how, sizeof(how));

	if (fd < 0)
		fd = errno == ENOSYS
			     ? beneath_by_steps(dirfd, path, (int)how.flags, (mode_t)how.mode)
			     : -errno;
	if (fd < 0)
		return err_errno(e, (int)fd, "open %s", STR_ESC(path));
	*ret_fd = (int)fd;
	return 0;
}

bool fd_is_at(int fd, int dirfd, const char *name, int flags)
{
	struct stat a, b;

	return fstat(fd, &a) == 0 && fstatat(dirfd, name, &b, flags) == 0 && a.st_ino == b.st_ino &&
	       a.st_dev == b.st_dev;
}

bool fd_same(int fd, int other)
{
	return fd_is_at(fd, other, "", AT_EMPTY_PATH);
}

int fd_set_nonblock(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) < 0)
		return -errno;
	return 0;
}

int fd_lock(int dirfd, const char *name, bool wait, int *ret_fd, struct err *e)
{
	auto_close int fd = openat(dirfd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return err_sys(e, "open lock %s", STR_ESC(name));
	while (flock(fd, LOCK_EX | (wait ? 0 : LOCK_NB)) < 0)
		if (errno != EINTR)
			return err_sys(e, "lock %s", STR_ESC(name));
	*ret_fd = take_fd(fd);
	return 0;
}

/* The path goes through a descriptor: sun_path has 108 bytes, a folder's path may have more. */
int fd_connect_unix(int dirfd, const char *name)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int n = snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/%s", dirfd, name);

	if (fd < 0 || n >= (int)sizeof(a.sun_path))
		return fd < 0 ? -errno : -ENAMETOOLONG;
	return connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ? -errno : take_fd(fd);
}

int fd_free_bytes(const char *path, uint64_t *ret, struct err *e)
{
	struct statvfs v;

	if (statvfs(path, &v) < 0)
		return err_sys(e, "look at the file system of %s", STR_ESC(path));
	*ret = (uint64_t)v.f_bavail * v.f_frsize;
	return 0;
}

/* SPDX-License-Identifier: MIT */
#include "base/fd.h"

#include <dirent.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

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
	auto_close int fd =
		openat(dirfd, temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
	int r;

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

int fd_mkdirs(const char *path, mode_t mode, struct err *e)
{
	auto_free char *p = strdup(path);

	if (!p)
		return err_nomem(e);
	for (char *s = p + 1;; s++) {
		char c = *s;

		if (c && c != '/')
			continue;
		*s = '\0';
		if (mkdir(p, mode) < 0 && errno != EEXIST)
			return err_sys(e, "make folder %s", STR_ESC(p));
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
	int r = fd_mkdirs(path, mode, e);

	return r < 0 ? r : fd_open_dir(AT_FDCWD, path, ret_fd, e);
}

static int remove_entry(int dirfd, const char *name, dev_t dev, unsigned depth, struct err *e);

static int remove_content(int fd, const char *name, dev_t dev, unsigned depth, struct err *e)
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
			r = remove_entry(dirfd(d), de->d_name, dev, depth + 1, e);
	closedir(d);
	return r;
}

/* Deeper than this the tree was made to exhaust us: descriptors and stack are bounded. */
#define RMTREE_DEPTH_MAX 512

static int remove_entry(int dirfd, const char *name, dev_t dev, unsigned depth, struct err *e)
{
	struct stat st;
	int fd, r;

	if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return err_sys(e, "remove %s", STR_ESC(name));
	if (depth > RMTREE_DEPTH_MAX)
		return err_set(e, ELOOP, ERR_INPUT, "folder %s is nested more than %d deep",
			       STR_ESC(name), RMTREE_DEPTH_MAX);
	/* A folder its owner locked is opened after this, or refused with the reason of openat(). */
	if (fchmodat(dirfd, name, 0700, 0) < 0 && errno == ENOENT)
		return 0;
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return err_sys(e, "open folder %s", STR_ESC(name));
	if (fstat(fd, &st) < 0 || st.st_dev != dev) {
		close(fd);
		return err_set(e, EXDEV, ERR_HOST, "folder %s is on another file system",
			       STR_ESC(name));
	}
	r = remove_content(fd, name, dev, depth, e);
	if (r < 0)
		return r;
	if (unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return err_sys(e, "remove folder %s", STR_ESC(name));
	return 0;
}

int fd_rmtree(int dirfd, const char *name, struct err *e)
{
	struct stat st;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : err_sys(e, "look at %s", STR_ESC(name));
	return remove_entry(dirfd, name, st.st_dev, 0, e);
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
		return err_sys(e, "open %s", STR_ESC(path));
	*ret_fd = (int)fd;
	return 0;
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

int fd_free_bytes(const char *path, uint64_t *ret, struct err *e)
{
	struct statvfs v;

	if (statvfs(path, &v) < 0)
		return err_sys(e, "look at the file system of %s", STR_ESC(path));
	*ret = (uint64_t)v.f_bavail * v.f_frsize;
	return 0;
}

/* SPDX-License-Identifier: MIT */
#include "messaging/dirfile.h"

#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/str.h"

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

struct names {
	char **list;
	size_t n, cap;
};

static int add_name(struct names *to, const char *name)
{
	if (to->n + 1 >= to->cap) {
		size_t cap = to->cap ? 2 * to->cap : 64;
		char **p = realloc(to->list, cap * sizeof(*p));

		if (!p)
			return -ENOMEM;
		to->list = p;
		to->cap = cap;
	}
	to->list[to->n] = strdup(name);
	if (!to->list[to->n])
		return -ENOMEM;
	to->list[++to->n] = NULL;
	return 0;
}

int dirfile_list(int dirfd, const char *suffix, char ***ret, struct err *e)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct names names = { 0 };
	struct dirent *de;

	if (!d) {
		r = err_sys(e, "read a folder of the channel");
		if (fd >= 0)
			close(fd);
		return r;
	}
	while (r == 0 && (errno = 0, de = readdir(d)))
		if (de->d_name[0] != '.' && str_ends(de->d_name, suffix))
			r = add_name(&names, de->d_name);
	if (r < 0)
		r = err_nomem(e);
	else if (errno)
		r = err_sys(e, "read a folder of the channel");
	closedir(d);
	if (r < 0) {
		strv_free(names.list);
		return r;
	}
	if (names.n)
		qsort(names.list, names.n, sizeof(char *), compare);
	*ret = names.list;
	return 0;
}

int dirfile_write(int dirfd, const char *name, const void *data, size_t n, struct err *e)
{
	auto_free char *temp = NULL;
	auto_close int fd = -1;
	int r;

	if (str_fmt(&temp, ".%s.tmp", name) < 0)
		return err_nomem(e);
	/* Left by a process that died, or put there by somebody, a FIFO perhaps. */
	(void)unlinkat(dirfd, temp, 0);
	fd = openat(dirfd, temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return err_sys(e, "create %s", STR_ESC(name));
	r = fd_write_all(fd, data, n);
	if (r < 0)
		r = err_errno(e, r, "write %s", STR_ESC(name));
	else if (fsync(fd) < 0)
		r = err_sys(e, "sync %s", STR_ESC(name));
	FAILPOINT("dirfile.written");
	if (r == 0 && renameat(dirfd, temp, dirfd, name) < 0)
		r = err_sys(e, "rename to %s", STR_ESC(name));
	if (r < 0)
		(void)unlinkat(dirfd, temp, 0);
	return r;
}

/* Where there are no links to be had, the look before the rename must do. */
static int move_without_links(int from_dirfd, const char *from, int to_dirfd, const char *to)
{
	struct stat st;

	if (fstatat(to_dirfd, to, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return -EEXIST;
	return renameat(from_dirfd, from, to_dirfd, to) < 0 ? -errno : 0;
}

int dirfile_move(int from_dirfd, const char *from, int to_dirfd, const char *to, struct err *e)
{
	int r = linkat(from_dirfd, from, to_dirfd, to, 0) < 0 ? -errno : 0;

	if (r == 0 && unlinkat(from_dirfd, from, 0) < 0 && errno != ENOENT)
		r = -errno;
	if (r == -EPERM || r == -EOPNOTSUPP || r == -ENOSYS || r == -EMLINK)
		r = move_without_links(from_dirfd, from, to_dirfd, to);
	return r < 0 ? err_errno(e, r, "move %s to %s", STR_ESC(from), STR_ESC(to)) : 0;
}

int dirfile_is_regular(int dirfd, const char *name, bool *ret, struct err *e)
{
	struct stat st;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys(e, "look at %s", STR_ESC(name));
	*ret = S_ISREG(st.st_mode);
	return 0;
}

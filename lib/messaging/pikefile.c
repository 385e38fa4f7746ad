/* SPDX-License-Identifier: MIT */
#include "messaging/pikefile.h"

#include <stdio.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/id.h"

#define NAME_SIZE 272 /* a stem, and an ending */

static const char *with(char out[NAME_SIZE], const char *stem, const char *ending)
{
	snprintf(out, NAME_SIZE, "%s%s", stem, ending);
	return out;
}

int pikefile_open_dir(const char *path, int *fd, struct err *e)
{
	int fresh = -1, r;

	if (*fd >= 0 && fd_is_at(*fd, AT_FDCWD, path, 0))
		return 0;
	r = fd_make_dir(path, 0775, &fresh, e);
	if (r < 0)
		return r;
	if (*fd >= 0)
		close(*fd);
	*fd = fresh;
	return 1;
}

int pikefile_read(int dirfd, const char *stem, struct buf *b, struct err *e)
{
	char name[NAME_SIZE];
	struct stat st;

	with(name, stem, ".json");
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys(e, "look at %s", STR_ESC(name));
	if (!S_ISREG(st.st_mode))
		return err_set(e, ENOENT, ERR_INPUT, "%s is not a regular file", STR_ESC(name));
	return fd_read_file(dirfd, name, PIKE_MESSAGE_MAX, b, e);
}

int pikefile_time(int dirfd, const char *stem, struct timespec *ret, struct err *e)
{
	char name[NAME_SIZE];
	struct stat st;

	if (fstatat(dirfd, with(name, stem, ".done"), &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys(e, "look at %s", STR_ESC(name));
	*ret = st.st_mtim;
	return 0;
}

int pikefile_remove(int dirfd, const char *stem, struct err *e)
{
	static const char *const endings[] = { ".json", ".done" };
	char name[NAME_SIZE];
	int r = 0;

	for (size_t i = 0; i < ARRAY_LEN(endings); i++)
		if (unlinkat(dirfd, with(name, stem, endings[i]), 0) < 0 && errno != ENOENT)
			r = err_sys(e, "%s cannot be removed", STR_ESC(name));
	return r;
}

static int put_aside(int dirfd, int rejected, const char *id, const char *stem, const char *ending,
		     struct err *e)
{
	char name[NAME_SIZE], to[NAME_SIZE];

	with(name, stem, ending);
	snprintf(to, sizeof(to), "%s-%.180s%s", id, stem, ending);
	if (renameat(dirfd, name, rejected, to) == 0 || errno == ENOENT)
		return 0;
	return err_sys(e, "move %s to rejected", STR_ESC(name));
}

int pikefile_reject(int dirfd, const char *stem, struct err *e)
{
	char id[UUID_LEN + 1];
	auto_close int rejected = -1;
	int r;

	if (mkdirat(dirfd, "rejected", 0775) < 0 && errno != EEXIST)
		return err_sys(e, "make a folder for what is rejected");
	r = fd_open_dir(dirfd, "rejected", &rejected, e);
	id_uuid7(id);
	if (r == 0)
		r = put_aside(dirfd, rejected, id, stem, ".json", e);
	return r < 0 ? r : put_aside(dirfd, rejected, id, stem, ".done", e);
}

int pikefile_write(int dirfd, const char *stem, const void *data, size_t n, struct err *e)
{
	char name[NAME_SIZE];

	return fd_write_file(dirfd, with(name, stem, ".json"), data, n, 0664, false, e);
}

int pikefile_say(int dirfd, const char *stem, struct err *e)
{
	const int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
	char name[NAME_SIZE];
	auto_close int fd = openat(dirfd, with(name, stem, ".done"), flags, 0664);
	struct stat st;

	if (fd < 0 && errno == EEXIST) {
		if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
		    st.st_size == 0)
			return 0;
		(void)unlinkat(dirfd, name, 0);
		fd = openat(dirfd, name, flags, 0664);
	}
	return fd < 0 ? err_sys(e, "create %s", STR_ESC(name)) : 0;
}

bool pikefile_is_said(int dirfd, const char *stem)
{
	char name[NAME_SIZE];

	return faccessat(dirfd, with(name, stem, ".done"), F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* SPDX-License-Identifier: MIT */
#include "exec/spare.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "exec/journal.h"
#include "exec/spec.h"

#define SPARES_DIR "../spare"

const char *const job_folders[3] = { "work", "tmp", "output" };

/* Each process begins elsewhere, so that they seldom want the same one. */
static void slot_name(unsigned i, char name[16])
{
	snprintf(name, 16, "%u", ((unsigned)getpid() + i) % SPARES_MAX);
}

/* --- taking ----------------------------------------------------------------------------------- */

/* Locked, and still what the name says: until we had the lock another may have used it. */
static bool own_spare(int spares, const char *slot, int *ret_dir, int *ret_owner)
{
	auto_close int dir = -1, owner = -1;
	struct stat a, b;

	if (fd_open_dir(spares, slot, &dir, NULL) < 0)
		return false;
	owner = openat(dir, SPEC_NEW, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (owner < 0 || flock(owner, LOCK_EX | LOCK_NB) < 0)
		return false;
	if (fstat(dir, &a) < 0 || fstatat(spares, slot, &b, AT_SYMLINK_NOFOLLOW) < 0 ||
	    a.st_ino != b.st_ino || faccessat(dir, SPEC_NEW, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		return false;
	*ret_dir = take_fd(dir);
	*ret_owner = take_fd(owner);
	return true;
}

bool spare_take(int boxes, const char *id, const char *text, size_t n, int *ret_dir, int *ret_owner)
{
	auto_close int spares = -1;

	if (fd_open_dir(boxes, SPARES_DIR, &spares, NULL) < 0)
		return false;
	for (unsigned i = 0; i < SPARES_MAX; i++) {
		auto_close int dir = -1, owner = -1;
		char slot[16];

		slot_name(i, slot);
		if (!own_spare(spares, slot, &dir, &owner))
			continue;
		if (ftruncate(owner, 0) == 0 && fd_write_all(owner, text, n) == 0 &&
		    renameat(dir, SPEC_NEW, dir, SPEC_FILE) == 0 &&
		    renameat2(spares, slot, boxes, id, RENAME_NOREPLACE) == 0) {
			*ret_dir = take_fd(dir);
			*ret_owner = take_fd(owner);
			return true;
		}
		(void)!fd_rmtree(spares, slot, NULL);
	}
	return false;
}

/* Its maker was killed on the way from a spare to a box. */
static bool is_stuck(int spares, const char *slot)
{
	auto_close int dir = -1, spec = -1;

	if (fd_open_dir(spares, slot, &dir, NULL) < 0)
		return false;
	spec = openat(dir, SPEC_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return spec >= 0 && flock(spec, LOCK_EX | LOCK_NB) == 0;
}

void spare_sweep(int boxes)
{
	auto_close int spares = -1;

	if (fd_open_dir(boxes, SPARES_DIR, &spares, NULL) < 0)
		return;
	for (unsigned i = 0; i < SPARES_MAX; i++) {
		char slot[16];

		slot_name(i, slot);
		if (is_stuck(spares, slot))
			(void)!fd_rmtree(spares, slot, NULL);
	}
}

/* --- keeping ---------------------------------------------------------------------------------- */

static bool is_empty(int fd)
{
	char room[1024] __attribute__((aligned(8)));
	ssize_t n = getdents64(fd, room, sizeof(room));
	const struct dirent64 *de;

	for (ssize_t at = 0; at < n; at += de->d_reclen) {
		de = (const struct dirent64 *)(room + at);
		if (!str_eq(de->d_name, ".") && !str_eq(de->d_name, ".."))
			return false;
	}
	return n >= 0 && (n == 0 || getdents64(fd, room, sizeof(room)) == 0);
}

bool spare_is_pristine(int dirfd, const char *name)
{
	auto_close int fd = -1;
	struct statx sx;
	const uint64_t flags = STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND | STATX_ATTR_ENCRYPTED |
			       STATX_ATTR_COMPRESSED | STATX_ATTR_NODUMP;

	return fd_open_dir(dirfd, name, &fd, NULL) == 0 &&
	       statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &sx) == 0 &&
	       sx.stx_uid == geteuid() && sx.stx_gid == getegid() &&
	       sx.stx_mode == (S_IFDIR | S_IRWXU) && !(sx.stx_attributes & flags) &&
	       flistxattr(fd, NULL, 0) <= 0 && is_empty(fd);
}

static bool is_job_folder(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(job_folders); i++)
		if (str_eq(name, job_folders[i]))
			return true;
	return false;
}

/* False: there is something that does not belong into a spare and cannot be taken out of it. */
static bool clear_entry(int dir, const char *name)
{
	if (str_eq(name, ".") || str_eq(name, "..") || str_eq(name, SPEC_FILE) ||
	    str_eq(name, JOURNAL_FILE))
		return true;
	if (is_job_folder(name))
		return spare_is_pristine(dir, name);
	return unlinkat(dir, name, 0) == 0;
}

/* Takes fd over. */
static bool clear(int fd)
{
	DIR *d = fdopendir(fd);
	bool ok = true;

	if (!d) {
		close(fd);
		return false;
	}
	for (struct dirent *de; ok && (de = readdir(d));)
		ok = clear_entry(dirfd(d), de->d_name);
	closedir(d);
	return ok;
}

/* Ours alone, and empty now. */
static bool truncate_file(int dir, const char *name)
{
	auto_close int fd = openat(dir, name, O_WRONLY | O_TRUNC | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && st.st_uid == geteuid() && st.st_nlink == 1 &&
	       st.st_mode == (S_IFREG | S_IRUSR | S_IWUSR);
}

static bool reset(int boxes, const char *name)
{
	auto_close int dir = -1;
	int again;

	/* A keeper that still cleans up there has it locked. */
	if (fd_open_dir(boxes, name, &dir, NULL) < 0 || flock(dir, LOCK_EX | LOCK_NB) < 0)
		return false;
	again = fcntl(dir, F_DUPFD_CLOEXEC, 3);
	return again >= 0 && clear(again) && truncate_file(dir, JOURNAL_FILE) &&
	       truncate_file(dir, SPEC_FILE) && renameat(dir, SPEC_FILE, dir, SPEC_NEW) == 0;
}

bool spare_keep(int boxes, const char *name)
{
	auto_close int spares = -1;

	if (mkdirat(boxes, SPARES_DIR, 0700) < 0 && errno != EEXIST)
		return false;
	if (fd_open_dir(boxes, SPARES_DIR, &spares, NULL) < 0 || !reset(boxes, name))
		return false;
	for (unsigned i = 0; i < SPARES_MAX; i++) {
		char slot[16];

		slot_name(i, slot);
		if (renameat2(boxes, name, spares, slot, RENAME_NOREPLACE) == 0)
			return true;
		if (errno != EEXIST)
			break;
	}
	return false;
}

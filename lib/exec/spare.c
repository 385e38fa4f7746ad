/* SPDX-License-Identifier: MIT */
#include "exec/spare.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/id.h"
#include "base/str.h"
#include "exec/journal.h"
#include "exec/spec.h"

#define SPARES_DIR "../spare"

const char *const job_folders[3] = { "work", "tmp", "output" };

/* Each begins elsewhere, so that two seldom want the same one. The end of an id is random. */
static void slot_name(const char *id, unsigned i, char name[16])
{
	unsigned long start = strtoul(id + UUID_LEN - 4, NULL, 16);

	snprintf(name, 16, "%lu", (start + i) % SPARES_MAX);
}

/* What else a box without output may have, as links and files of the keeper's. */
static bool clear(int dir)
{
	static const char *const names[] = { "control", OUT_LOG_FILE, ERR_LOG_FILE };
	auto_close int journal =
		openat(dir, JOURNAL_FILE, O_WRONLY | O_TRUNC | O_CLOEXEC | O_NOFOLLOW);
	bool ok = journal >= 0;

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		ok &= unlinkat(dir, names[i], 0) == 0 || errno == ENOENT;
	return ok;
}

/* Locked, and still what the name says: until we had the lock another may have used it. */
static bool own_spare(int spares, const char *slot, int *ret_dir, int *ret_owner)
{
	auto_close int dir = -1, owner = -1;

	if (fd_open_dir(spares, slot, &dir, NULL) < 0)
		return false;
	owner = openat(dir, SPEC_FILE, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (owner < 0 || flock(owner, LOCK_EX | LOCK_NB) < 0)
		return false;
	if (!fd_is_at(dir, spares, slot, AT_SYMLINK_NOFOLLOW))
		return false;
	*ret_dir = take_fd(dir);
	*ret_owner = take_fd(owner);
	return true;
}

/* The folder that it was may have been left by somebody who was killed. */
static bool use_spare(int dir, int owner, const char *text, size_t n)
{
	return (journal_is_empty(dir) || clear(dir)) && fd_write_all(owner, text, n) == 0 &&
	       ftruncate(owner, (off_t)n) == 0;
}

bool spare_take(int boxes, const char *id, const char *text, size_t n, int *ret_dir, int *ret_owner)
{
	auto_close int spares = -1;

	if (fd_open_dir(boxes, SPARES_DIR, &spares, NULL) < 0)
		return false;
	for (unsigned i = 0; i < SPARES_MAX; i++) {
		auto_close int dir = -1, owner = -1;
		char slot[16];

		slot_name(id, i, slot);
		if (!own_spare(spares, slot, &dir, &owner))
			continue;
		if (use_spare(dir, owner, text, n) &&
		    renameat2(spares, slot, boxes, id, RENAME_NOREPLACE) == 0) {
			*ret_dir = take_fd(dir);
			*ret_owner = take_fd(owner);
			return true;
		}
		(void)!fd_rmtree(spares, slot, NULL);
	}
	return false;
}

/* A box with an empty journal would be run: it is no box any more when that is emptied. */
bool spare_keep(int boxes, const char *id, int dir)
{
	auto_close int spares = -1;

	if (mkdirat(boxes, SPARES_DIR, 0700) < 0 && errno != EEXIST)
		return false;
	if (fd_open_dir(boxes, SPARES_DIR, &spares, NULL) < 0)
		return false;
	for (unsigned i = 0; i < SPARES_MAX; i++) {
		char slot[16];

		slot_name(id, i, slot);
		if (renameat2(boxes, id, spares, slot, RENAME_NOREPLACE) == 0) {
			if (!clear(dir))
				(void)!fd_rmtree(spares, slot, NULL);
			return true;
		}
		if (errno != EEXIST)
			break;
	}
	return false;
}

/* --- folders ---------------------------------------------------------------------------------- */

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

/* SPDX-License-Identifier: MIT */
#include "cache.h"

#include <dirent.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/hash.h"
#include "base/proc.h"
#include "base/str.h"

#define STAMP      "stamp"
#define STAMP_MAX  128
#define DEPTH_MAX  64 /* no submission is deeper */
#define READ_MODES 0444

struct walk {
	bool seal; /* take the right to write away on the way */
	uint64_t entries, entries_max;
	uint8_t sum[HASH_SIZE]; /* of all entries, whatever their order */
	struct err *e;
};

static int changed(struct err *e)
{
	return err_set(e, ESTALE, ERR_HOST, "it was changed after it had been fetched");
}

static int add_entry(struct walk *w, ino_t folder, const char *name, const struct stat *st)
{
	const uint64_t fields[] = {
		folder,
		st->st_ino,
		st->st_mode,
		st->st_uid,
		st->st_nlink,
		(uint64_t)st->st_size,
		(uint64_t)st->st_mtim.tv_sec,
		(uint64_t)st->st_mtim.tv_nsec,
		(uint64_t)st->st_ctim.tv_sec,
		(uint64_t)st->st_ctim.tv_nsec,
	};
	uint8_t sum[HASH_SIZE];
	struct hash h;

	if (++w->entries > w->entries_max)
		return changed(w->e);
	hash_init(&h);
	hash_add(&h, fields, sizeof(fields));
	hash_add(&h, name, strlen(name));
	hash_end(&h, sum);
	for (size_t i = 0; i < sizeof(sum); i++)
		w->sum[i] ^= sum[i];
	return 0;
}

static int walk_folder(struct walk *w, int dirfd, ino_t above, const char *name, unsigned depth);

static int walk_entry(struct walk *w, int dirfd, ino_t folder, const char *name, unsigned depth)
{
	struct stat st;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys(w->e, "look at %s", STR_ESC(name));
	if (S_ISDIR(st.st_mode))
		return walk_folder(w, dirfd, folder, name, depth + 1);
	if (w->seal && S_ISREG(st.st_mode) &&
	    (fchmodat(dirfd, name, READ_MODES | (st.st_mode & 0111), 0) < 0 ||
	     fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0))
		return err_sys(w->e, "make %s read-only", STR_ESC(name));
	return add_entry(w, folder, name, &st);
}

/* A folder counts after what is in it, when its own mode is final. */
static int walk_folder(struct walk *w, int dirfd, ino_t above, const char *name, unsigned depth)
{
	struct stat st = { 0 };
	struct dirent *de;
	DIR *d;
	int fd, r;

	if (depth > DEPTH_MAX)
		return changed(w->e);
	r = fd_open_dir(dirfd, name, &fd, w->e);
	if (r < 0)
		return r;
	d = fdopendir(fd);
	if (!d || fstat(fd, &st) < 0) {
		r = err_sys(w->e, "read folder %s", STR_ESC(name));
		close(fd);
		return r;
	}
	while (r == 0 && (errno = 0, de = readdir(d)))
		if (!str_eq(de->d_name, ".") && !str_eq(de->d_name, ".."))
			r = walk_entry(w, fd, st.st_ino, de->d_name, depth);
	if (r == 0 && errno)
		r = err_sys(w->e, "read folder %s", STR_ESC(name));
	if (r == 0 && w->seal && (fchmod(fd, READ_MODES | 0111) < 0 || fstat(fd, &st) < 0))
		r = err_sys(w->e, "make folder %s read-only", STR_ESC(name));
	closedir(d);
	return r == 0 ? add_entry(w, above, name, &st) : r;
}

int cache_seal(const char *copy, struct err *e)
{
	struct walk w = { .seal = true, .entries_max = UINT64_MAX, .e = e };
	char hex[65], text[STAMP_MAX];
	auto_close int dir = -1;
	int n, r = fd_open_dir(AT_FDCWD, copy, &dir, e);

	if (r == 0)
		r = walk_folder(&w, dir, 0, CACHE_FILES, 0);
	if (r < 0)
		return r;
	n = snprintf(text, sizeof(text), "%" PRIu64 " %s\n", w.entries, hash_hex(hex, w.sum));
	return fd_write_file(dir, STAMP, text, (size_t)n, 0440, false, e);
}

int cache_check(const char *copy, struct err *e)
{
	struct walk w = { .e = e };
	auto_buf struct buf stamp = { 0 };
	char hex[65], text[STAMP_MAX];
	auto_close int dir = -1;
	int r = fd_open_dir(AT_FDCWD, copy, &dir, e);

	if (r == 0 && fd_read_file(dir, STAMP, STAMP_MAX, &stamp, NULL) < 0)
		return changed(e);
	if (r == 0 && sscanf(stamp.data, "%" SCNu64, &w.entries_max) != 1)
		return changed(e);
	if (r == 0 && walk_folder(&w, dir, 0, CACHE_FILES, 0) < 0)
		return changed(e);
	if (r < 0)
		return r;
	snprintf(text, sizeof(text), "%" PRIu64 " %s\n", w.entries, hash_hex(hex, w.sum));
	return str_eq(text, stamp.data) ? 0 : changed(e);
}

int cache_drop(const char *copy, struct err *e)
{
	static unsigned count;
	const char *slash = strrchr(copy, '/');
	char self[PROC_NAME_MAX] = "";
	auto_free char *gone = NULL;

	(void)!proc_name(getpid(), self);
	if (str_fmt(&gone, "%.*s" CACHE_GONE "%s-%u", (int)(slash - copy + 1), copy, self,
		    count++) < 0)
		return err_nomem(e);
	if (rename(copy, gone) < 0)
		return errno == ENOENT ? 0 : err_sys(e, "rename %s", STR_ESC(copy));
	return fd_rmtree(AT_FDCWD, gone, e);
}

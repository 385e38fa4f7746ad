/* SPDX-License-Identifier: MIT */
#include "pack.h"

#include <dirent.h>
#include <limits.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "base/fd.h"
#include "base/id.h"
#include "base/str.h"
#include "store/submissions.h"

#define NEW_PREFIX  ".new-"
#define SEALED      "sealed"
#define ID_FILE     "id"
#define SETTLED_SEC 60

/* What cannot be removed now is found by a later sweep. */
static void remove_tree(int dirfd, const char *name)
{
	if (fd_rmtree(dirfd, name, NULL) < 0)
		return;
}

/* A fresh folder under lock. A sweeper may take it for abandoned between the two calls: then it has
 * no links left, and another one is made. */
static int make_folder(struct pack *p, struct err *e)
{
	char uuid[UUID_LEN + 1];
	struct stat st;

	for (;;) {
		auto_close int fd = -1;
		int r;

		snprintf(p->name, sizeof(p->name), NEW_PREFIX "%s", id_uuid7(uuid));
		if (mkdirat(p->parent_fd, p->name, 0700) < 0)
			return err_sys(e, "make a folder in submissions_dir");
		r = fd_open_dir(p->parent_fd, p->name, &fd, e);
		if (r == -ENOENT)
			continue;
		if (r < 0)
			return r;
		if (flock(fd, LOCK_EX | LOCK_NB) < 0 || fstat(fd, &st) < 0 || st.st_nlink == 0)
			continue;
		p->fd = take_fd(fd);
		return 0;
	}
}

/* The user named `path`: a symbolic link in that place is theirs. Inside it none is followed. */
static int resolve(const char *path, char **ret, bool *ret_dir, struct err *e)
{
	auto_free char *real = realpath(path, NULL);
	struct stat st;

	if (!real || stat(real, &st) < 0)
		return err_set(e, errno, ERR_INPUT, "%s: %s", STR_ESC(path), strerror(errno));
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
		return err_input(e, "%s is neither a file nor a folder", STR_ESC(path));
	*ret_dir = S_ISDIR(st.st_mode);
	*ret = take_ptr(real);
	return 0;
}

static int judge(const char *path, const struct seal_result *s, struct err *e)
{
	if (s->truncated[0])
		return err_input(e,
				 "%s is over the limit of a submission (%s): "
				 "at most 100000 entries and 64 GiB",
				 STR_ESC(path), s->truncated);
	if (s->files == 0)
		return err_input(e, "%s holds no regular file", STR_ESC(path));
	return 0;
}

static int seal(struct pack *p, const char *path, const struct pack_how *how, struct err *e)
{
	auto_free char *real = NULL;
	bool is_dir = false;
	int r = resolve(path, &real, &is_dir, e);
	struct seal_part part = { .dirfd = AT_FDCWD };
	const struct seal_spec spec = {
		.name = "submission",
		.parts = &part,
		.n_parts = 1,
		.out_dirfd = p->fd,
		.out_name = SEALED,
		.no_sync = how && how->no_sync,
		.stop = how ? how->stop : NULL,
	};

	if (r < 0)
		return r;
	part.source = real;
	part.as = is_dir ? "" : strrchr(real, '/') + 1;
	r = seal_tree(&spec, &p->sealed, e);
	return r < 0 ? r : judge(path, &p->sealed, e);
}

int pack_make(const char *submissions_dir, const char *path, const struct pack_how *how,
	      struct pack *ret, struct err *e)
{
	auto_done(pack) p = PACK_EMPTY;
	int r = fd_make_dir(submissions_dir, 0755, &p.parent_fd, e);

	if (r == 0)
		r = make_folder(&p, e);
	if (r == 0)
		r = seal(&p, path, how, e);
	if (r < 0)
		return r;
	*ret = p;
	p = (struct pack)PACK_EMPTY;
	return 0;
}

int pack_manifest(const struct pack *p, struct manifest *ret, struct err *e)
{
	auto_buf struct buf b = { 0 };
	int r = fd_read_file(p->fd, SEALED "/" MANIFEST_FILE, MANIFEST_BYTES_MAX, &b, e);

	return r < 0 ? r : manifest_parse(b.data, b.len, 0, ret, e);
}

int pack_publish(struct pack *p, int64_t id, struct err *e)
{
	char name[24];
	int r;

	snprintf(name, sizeof(name), "%lld", (long long)id);
	r = fd_write_file(p->fd, ID_FILE, name, strlen(name), 0600, true, e);
	if (r == 0)
		r = fd_rename_durable(p->fd, SEALED, p->parent_fd, name, true, e);
	if (r == -EEXIST)
		return err_set(e, EEXIST, ERR_HOST,
			       "submissions_dir holds '%s' already, of another database: "
			       "move it away",
			       name);
	if (r < 0)
		return err_wrap(e, "publish submission %s", name);
	p->published = id;
	return 0;
}

void pack_unpublish(struct pack *p)
{
	char name[24];

	if (p->published == 0)
		return;
	snprintf(name, sizeof(name), "%lld", (long long)p->published);
	remove_tree(p->parent_fd, name);
	p->published = 0;
}

void pack_done(struct pack *p)
{
	if (p->fd >= 0)
		remove_tree(p->parent_fd, p->name);
	pack_abandon(p);
}

void pack_abandon(struct pack *p)
{
	if (p->fd >= 0)
		close(p->fd);
	if (p->parent_fd >= 0)
		close(p->parent_fd);
	*p = (struct pack)PACK_EMPTY;
}

/* The number that a dead maker had noted; 0: it had not come so far. */
static int64_t noted_id(int fd)
{
	auto_buf struct buf b = { 0 };
	uint64_t id = 0;

	if (fd_read_file(fd, ID_FILE, 32, &b, NULL) < 0 || !b.data || str_u64(b.data, &id) < 0)
		return 0;
	return (int64_t)id;
}

static bool is_known(struct db *d, int64_t id)
{
	json_auto_t *row = NULL;

	return submissions_show(d, id, &row, NULL) != -ENOENT;
}

static void sweep_one(const struct pack *p, struct db *d, const char *name)
{
	auto_close int fd = -1;
	char orphan[24];
	struct stat st;
	int64_t id;

	if (fd_open_dir(p->parent_fd, name, &fd, NULL) < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
		return;
	/* The server may still be at the commit of the one who died. */
	if (fstat(fd, &st) < 0 || time(NULL) - st.st_mtime < SETTLED_SEC)
		return;
	id = noted_id(fd);
	/* The pack is where the note says only if it has left here. */
	if (id > 0 && faccessat(fd, SEALED, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && !is_known(d, id)) {
		snprintf(orphan, sizeof(orphan), "%lld", (long long)id);
		remove_tree(p->parent_fd, orphan);
	}
	remove_tree(p->parent_fd, name);
}

void pack_sweep(const struct pack *p, struct db *d)
{
	int fd = fcntl(p->parent_fd, F_DUPFD_CLOEXEC, 3);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	if (!dir) {
		if (fd >= 0)
			close(fd);
		return;
	}
	rewinddir(dir);
	while ((de = readdir(dir)))
		if (str_starts(de->d_name, NEW_PREFIX) && !str_eq(de->d_name, p->name))
			sweep_one(p, d, de->d_name);
	closedir(dir);
}

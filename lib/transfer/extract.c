/* SPDX-License-Identifier: MIT */
#include "transfer/extract.h"

#include <archive.h>
#include <archive_entry.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <zstd.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "transfer/path.h"

#define DEF_BYTES  ((uint64_t)64 << 30)
#define OUT_SIZE   ((size_t)256 << 10)
#define WINDOW_LOG 23 /* 8 MiB; our packs use 512 KiB */
/* Headers and padding of one entry, with its pax header, are smaller. */
#define ENTRY_OVERHEAD 8192
#define ENTRIES_EXTRA  1024 /* room for refused ones */
/* Write-out of a large file is started this often, so that little is left for the final sync. */
#define FLUSH_BYTES ((uint64_t)8 << 20)
/* With more files than this, one syncfs() is cheaper than an fsync() each. */
#define FSYNC_FILES 16

struct unpack {
	struct manifest *m;
	extract_read_fn read;
	void *user;
	bool *seen; /* one per manifest entry */
	/* decompression */
	ZSTD_DCtx *ctx;
	ZSTD_inBuffer in;
	bool frame_done, failed;
	uint64_t out_total, out_max;
	char *out;
	/* the folder that the last entry was created in */
	int root, parent;
	struct buf parent_path;
	struct err *e;
};

static void unpack_done(struct unpack *u)
{
	ZSTD_freeDCtx(u->ctx);
	free(u->seen);
	free(u->out);
	buf_done(&u->parent_path);
	if (u->parent >= 0)
		close(u->parent);
}

/* --- limits --------------------------------------------------------------------------------- */

static int over(struct err *e, const char *what, uint64_t value, uint64_t max)
{
	return err_set(e, E2BIG, ERR_INPUT, "over a limit: %" PRIu64 " %s, at most %" PRIu64, value,
		       what, max);
}

int extract_check_limits(const struct manifest *m, const struct extract_limits *l, struct err *e)
{
	uint64_t entries = l->entries ? l->entries : MANIFEST_ENTRIES;
	uint64_t bytes = l->bytes ? l->bytes : DEF_BYTES;
	uint64_t file = l->file_bytes ? l->file_bytes : DEF_BYTES;

	if (m->n_entries > entries)
		return over(e, "entries", m->n_entries, entries);
	if (m->bytes > bytes)
		return over(e, "bytes", m->bytes, bytes);
	for (size_t i = 0; i < m->n_entries; i++)
		if (m->entries[i].size > file)
			return over(e, "bytes in one file", m->entries[i].size, file);
	if (m->pack_size / 2 > m->bytes + ENTRY_OVERHEAD * (m->n_entries + ENTRIES_EXTRA))
		return err_input(e, "the pack is larger than its content explains");
	if (l->ratio && m->bytes / m->pack_size > l->ratio)
		return over(e, "times its packed size", m->bytes / m->pack_size, l->ratio);
	return 0;
}

/* --- decompression: the pack is one zstd frame ---------------------------------------------- */

static int next_input(struct unpack *u)
{
	const void *data = NULL;
	size_t n = 0;
	int r = u->read(u->user, &data, &n, u->e);

	if (r < 0)
		return r;
	u->in = (ZSTD_inBuffer){ .src = data, .size = n };
	if (n == 0 && !u->frame_done)
		return err_input(u->e, "the pack ends early");
	if (n && u->frame_done)
		return err_input(u->e, "bytes after the end of the pack");
	return 0;
}

/* Returns the bytes in u->out, 0 at the end. */
static ssize_t decompress(struct unpack *u)
{
	ZSTD_outBuffer out = { .dst = u->out, .size = OUT_SIZE };

	while (out.pos < out.size && !u->frame_done) {
		size_t left;
		int r = u->in.pos == u->in.size ? next_input(u) : 0;

		if (r < 0)
			return r;
		left = ZSTD_decompressStream(u->ctx, &out, &u->in);
		if (ZSTD_isError(left))
			return err_input(u->e, "the pack is not valid zstd: %s",
					 ZSTD_getErrorName(left));
		u->frame_done = left == 0;
	}
	u->out_total += out.pos;
	if (u->out_total > u->out_max)
		return err_input(u->e, "the archive is longer than its manifest explains");
	return (ssize_t)out.pos;
}

static la_ssize_t on_read(unused_arg struct archive *a, void *user, const void **ret)
{
	struct unpack *u = user;
	ssize_t n = decompress(u);

	*ret = u->out;
	u->failed = n < 0;
	return n < 0 ? ARCHIVE_FATAL : n;
}

/* --- creating ------------------------------------------------------------------------------- */

static int open_folder(struct unpack *u, const char *path, int *ret_fd)
{
	if (!*path)
		return fd_open_dir(u->root, ".", ret_fd, u->e);
	return fd_open_beneath(u->root, path, O_RDONLY | O_DIRECTORY, 0, ret_fd, u->e);
}

/* Opens the folder of `path` and finds its last component. Entries of one folder mostly come
 * together, so the last folder stays open. */
static int enter(struct unpack *u, const char *path, const char **ret_name)
{
	const char *slash = strrchr(path, '/');
	size_t n = slash ? (size_t)(slash - path) : 0;
	int r;

	*ret_name = slash ? slash + 1 : path;
	if (u->parent >= 0 && u->parent_path.len == n &&
	    (n == 0 || memcmp(u->parent_path.data, path, n) == 0))
		return 0;
	if (u->parent >= 0)
		close(take_fd(u->parent));
	u->parent_path.len = 0;
	if (buf_add(&u->parent_path, path, n) < 0)
		return err_nomem(u->e);
	r = open_folder(u, u->parent_path.data, &u->parent);
	return r < 0 ? r : 0;
}

static int make_folders(struct unpack *u)
{
	for (size_t i = 0; i < u->m->n_entries; i++) {
		const struct manifest_entry *en = &u->m->entries[i];
		const char *name;
		int r;

		if (en->type != MANIFEST_DIR)
			continue;
		r = enter(u, en->path, &name);
		if (r < 0)
			return r;
		if (mkdirat(u->parent, name, 0750) < 0)
			return err_sys(u->e, "make folder '%s'", STR_ESC(en->path));
	}
	return 0;
}

/* --- entries -------------------------------------------------------------------------------- */

static int archive_fail(struct unpack *u, struct archive *a)
{
	const char *why = archive_error_string(a);

	if (u->failed)
		return -u->e->code;
	return err_input(u->e, "the archive is malformed: %s", STR_ESC(why ? why : "no reason"));
}

static int differs(struct unpack *u, const struct manifest_entry *en, const char *how)
{
	return err_input(u->e, "file '%s' of the archive %s", STR_ESC(en->path), how);
}

static int write_block(struct unpack *u, const struct manifest_entry *en, int fd, const void *data,
		       size_t n, uint64_t at)
{
	int r = fd_write_all(fd, data, n);

	if (r < 0)
		return err_errno(u->e, r, "write '%s'", STR_ESC(en->path));
	if ((at + n) / FLUSH_BYTES > at / FLUSH_BYTES)
		(void)sync_file_range(fd, 0, (off_t)(at + n), SYNC_FILE_RANGE_WRITE);
	return 0;
}

static int copy_file(struct unpack *u, struct archive *a, const struct manifest_entry *en, int fd)
{
	uint8_t sum[HASH_SIZE];
	uint64_t at = 0;
	struct hash h;

	hash_init(&h);
	for (;;) {
		const void *data;
		size_t n;
		la_int64_t offset;
		int r = archive_read_data_block(a, &data, &n, &offset);

		if (r == ARCHIVE_EOF)
			break;
		if (r != ARCHIVE_OK)
			return archive_fail(u, a);
		if ((uint64_t)offset != at || n > en->size - at)
			return differs(u, en, "has not the announced size");
		hash_add(&h, data, n);
		r = write_block(u, en, fd, data, n, at);
		if (r < 0)
			return r;
		at += n;
	}
	hash_end(&h, sum);
	if (at != en->size)
		return differs(u, en, "has not the announced size");
	return memcmp(sum, en->sha256, HASH_SIZE) ? differs(u, en, "has not the announced hash")
						  : 0;
}

static int make_file(struct unpack *u, struct archive *a, const struct manifest_entry *en)
{
	auto_close int fd = -1;
	const char *name;
	int r = enter(u, en->path, &name);

	if (r < 0)
		return r;
	fd = openat(u->parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0640);
	if (fd < 0)
		return err_sys(u->e, "create '%s'", STR_ESC(en->path));
	return copy_file(u, a, en, fd);
}

static const char *entry_word(struct archive_entry *en)
{
	if (archive_entry_hardlink(en) || archive_entry_hardlink_utf8(en))
		return "hardlink";
	switch (archive_entry_filetype(en)) {
	case AE_IFREG:
		return "file";
	case AE_IFDIR:
		return "dir";
	case AE_IFLNK:
		return "symlink";
	case AE_IFIFO:
		return "fifo";
	case AE_IFSOCK:
		return "socket";
	case AE_IFCHR:
		return "char-device";
	case AE_IFBLK:
		return "block-device";
	default:
		return "other";
	}
}

/* A folder's name may end in one '/'. */
static int entry_path(struct unpack *u, struct archive_entry *en, bool dir, char **ret)
{
	const char *p = archive_entry_pathname_utf8(en);
	size_t n;

	if (!p)
		p = archive_entry_pathname(en);
	if (!p)
		return err_input(u->e, "an entry of the archive has no valid name");
	n = strlen(p);
	*ret = strndup(p, dir && n > 1 && p[n - 1] == '/' ? n - 1 : n);
	return *ret ? 0 : err_nomem(u->e);
}

static int take_entry(struct unpack *u, struct archive *a, struct archive_entry *en)
{
	const char *word = entry_word(en);
	bool dir = str_eq(word, "dir");
	const struct manifest_entry *want;
	auto_free char *path = NULL;
	int r = entry_path(u, en, dir, &path);

	if (r < 0)
		return r;
	if (!dir && !str_eq(word, "file")) {
		r = manifest_refuse(u->m, word, path, "only files and folders are extracted");
		return r < 0 ? err_nomem(u->e) : 0;
	}
	want = manifest_find(u->m, path);
	if (!want || (want->type == MANIFEST_DIR) != dir)
		return err_input(u->e, "the manifest has no %s '%s'", word, STR_ESC(path));
	if (u->seen[want - u->m->entries])
		return err_input(u->e, "'%s' is in the archive twice", STR_ESC(path));
	u->seen[want - u->m->entries] = true;
	if (dir)
		return 0;
	if (archive_entry_sparse_count(en) > 0)
		return differs(u, want, "is sparse");
	return make_file(u, a, want);
}

static int take_entries(struct unpack *u, struct archive *a)
{
	struct archive_entry *en;
	int r;

	while ((r = archive_read_next_header(a, &en)) == ARCHIVE_OK || r == ARCHIVE_WARN) {
		r = take_entry(u, a, en);
		if (r < 0)
			return r;
	}
	if (r != ARCHIVE_EOF)
		return archive_fail(u, a);
	for (size_t i = 0; i < u->m->n_entries; i++)
		if (!u->seen[i])
			return err_input(u->e, "'%s' of the manifest is not in the archive",
					 STR_ESC(u->m->entries[i].path));
	return 0;
}

/* What follows the archive's end is of no interest, but the frame and the pack must end too. */
static int take_rest(struct unpack *u)
{
	ssize_t n;

	while ((n = decompress(u)) > 0)
		continue;
	if (n < 0)
		return (int)n;
	return u->in.pos < u->in.size ? err_input(u->e, "bytes after the end of the pack")
				      : next_input(u);
}

static int parse(struct unpack *u)
{
	struct archive *a = archive_read_new();
	int r;

	if (!a)
		return err_nomem(u->e);
	if (archive_read_support_format_tar(a) != ARCHIVE_OK ||
	    archive_read_open(a, u, NULL, on_read, NULL) != ARCHIVE_OK)
		r = archive_fail(u, a);
	else
		r = take_entries(u, a);
	archive_read_free(a);
	return r < 0 ? r : take_rest(u);
}

int extract_tree(struct manifest *m, extract_read_fn read, void *user, int dirfd, struct err *e)
{
	struct err own;
	__attribute__((cleanup(unpack_done))) struct unpack u = {
		.m = m,
		.read = read,
		.user = user,
		.root = dirfd,
		.parent = -1,
		.out_max = m->bytes + ENTRY_OVERHEAD * (m->n_entries + ENTRIES_EXTRA),
		.e = e ? e : &own,
	};
	int r;

	u.ctx = ZSTD_createDCtx();
	u.seen = calloc(m->n_entries + 1, sizeof(*u.seen));
	u.out = malloc(OUT_SIZE);
	if (!u.ctx || !u.seen || !u.out)
		return err_nomem(e);
	if (ZSTD_isError(ZSTD_DCtx_setParameter(u.ctx, ZSTD_d_windowLogMax, WINDOW_LOG)))
		return err_set(e, EINVAL, ERR_HOST, "libzstd refuses a window of 8 MiB");
	r = make_folders(&u);
	return r < 0 ? r : parse(&u);
}

/* --- publishing ----------------------------------------------------------------------------- */

static int sync_path(int dirfd, const char *path, int flags, struct err *e)
{
	auto_close int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | flags);

	if (fd < 0 || fsync(fd) < 0)
		return err_sys(e, "sync '%s'", STR_ESC(path));
	return 0;
}

static int sync_content(const struct manifest *m, int dir, struct err *e)
{
	int r = 0;

	if (m->n_entries > FSYNC_FILES)
		return syncfs(dir) < 0 ? err_sys(e, "sync the staged files") : 0;
	for (size_t i = 0; i < m->n_entries && r == 0; i++)
		r = sync_path(dir, m->entries[i].path, 0, e);
	return r < 0 ? r : sync_path(dir, ".", O_DIRECTORY, e);
}

static int sync_parent(const char *path, struct err *e)
{
	const char *slash = strrchr(path, '/');
	auto_free char *parent =
		slash ? strndup(path, (size_t)(slash - path + (slash == path))) : strdup(".");

	return parent ? sync_path(AT_FDCWD, parent, O_DIRECTORY, e) : err_nomem(e);
}

/* mkdir -p of the folders above `path`, each durable. */
static int make_above(const char *path, struct err *e)
{
	const char *slash = strrchr(path, '/');
	auto_free char *parent =
		slash && slash > path ? strndup(path, (size_t)(slash - path)) : NULL;
	int r;

	if (!slash || slash == path)
		return 0;
	if (!parent)
		return err_nomem(e);
	if (mkdir(parent, 0750) == 0)
		return sync_parent(parent, e);
	if (errno == EEXIST)
		return 0;
	if (errno != ENOENT)
		return err_sys(e, "make folder '%s'", STR_ESC(parent));
	r = make_above(parent, e);
	if (r < 0)
		return r;
	if (mkdir(parent, 0750) < 0 && errno != EEXIST)
		return err_sys(e, "make folder '%s'", STR_ESC(parent));
	return sync_parent(parent, e);
}

int extract_publish(const struct manifest *m, int stage_dirfd, const char *stage_name,
		    const char *target, struct err *e)
{
	auto_close int dir = -1;
	int r;

	r = fd_open_dir(stage_dirfd, stage_name, &dir, e);
	r = r < 0 ? r : sync_content(m, dir, e);
	r = r < 0 ? r : make_above(target, e);
	if (r < 0)
		return r;
	if (FAILPOINT_FAILS("fetch.publish") ||
	    renameat2(stage_dirfd, stage_name, AT_FDCWD, target, RENAME_NOREPLACE) < 0)
		return err_sys(e, "publish '%s'", STR_ESC(target));
	FAILPOINT("fetch.published");
	return sync_parent(target, e);
}

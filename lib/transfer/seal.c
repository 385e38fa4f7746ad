/* SPDX-License-Identifier: MIT */
#include "transfer/seal.h"

#include <dirent.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "transfer/pack.h"
#include "transfer/path.h"
#include "transfer/pax.h"

#define IN_SIZE   ((size_t)256 << 10)
#define DEF_BYTES ((uint64_t)64 << 30)

/* The inodes with several names that are already packed under one: open addressing, grown by two. */
struct inode {
	dev_t dev;
	ino_t ino; /* 0: free */
};
struct inode_set {
	struct inode *slots;
	size_t n, cap;
};

struct seal {
	const struct seal_spec *spec;
	const struct seal_part *part; /* the one being walked */
	struct seal_limits limits;
	struct manifest m;
	struct pack *pack;
	struct inode_set links;
	struct buf path;   /* of the current entry, inside the object */
	struct buf header; /* scratch */
	char *in;
	dev_t dev; /* of the current part: nothing is packed from a mount inside */
	bool full;
	struct err *e;
};

static void seal_done(struct seal *s)
{
	pack_free(s->pack);
	manifest_done(&s->m);
	buf_done(&s->path);
	buf_done(&s->header);
	free(s->links.slots);
	free(s->in);
}

/* --- inodes --------------------------------------------------------------------------------- */

static struct inode *inode_slot(struct inode_set *t, dev_t dev, ino_t ino)
{
	size_t i = (size_t)((ino ^ dev) * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (t->cap - 1);

	while (t->slots[i].ino && (t->slots[i].ino != ino || t->slots[i].dev != dev))
		i = (i + 1) & (t->cap - 1);
	return &t->slots[i];
}

static int inode_grow(struct inode_set *t)
{
	struct inode_set more = { .n = t->n, .cap = t->cap ? t->cap * 2 : 64 };

	more.slots = calloc(more.cap, sizeof(*more.slots));
	if (!more.slots)
		return -ENOMEM;
	for (size_t i = 0; i < t->cap; i++)
		if (t->slots[i].ino)
			*inode_slot(&more, t->slots[i].dev, t->slots[i].ino) = t->slots[i];
	free(t->slots);
	*t = more;
	return 0;
}

/* 1: it was there. */
static int inode_seen(struct inode_set *t, const struct stat *st)
{
	struct inode *slot;

	if (2 * t->n >= t->cap && inode_grow(t) < 0)
		return -ENOMEM;
	slot = inode_slot(t, st->st_dev, st->st_ino);
	if (slot->ino)
		return 1;
	*slot = (struct inode){ .dev = st->st_dev, .ino = st->st_ino };
	t->n++;
	return 0;
}

/* --- what is left out ----------------------------------------------------------------------- */

static const char *type_word(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFLNK:
		return "symlink";
	case S_IFIFO:
		return "fifo";
	case S_IFSOCK:
		return "socket";
	case S_IFCHR:
		return "char-device";
	case S_IFBLK:
		return "block-device";
	case S_IFREG:
		return "file";
	case S_IFDIR:
		return "dir";
	default:
		return "other";
	}
}

static int refuse(struct seal *s, const char *type, const char *reason)
{
	if (manifest_refuse(&s->m, type, s->path.data, reason) < 0)
		return err_nomem(s->e);
	return 0;
}

static int refuse_limit(struct seal *s, const char *type, const char *limit, const char *reason)
{
	if (!*s->m.truncated)
		snprintf(s->m.truncated, sizeof(s->m.truncated), "%s", limit);
	return refuse(s, type, reason);
}

static int refuse_unreadable(struct seal *s, const char *type, int code)
{
	char reason[96];

	snprintf(reason, sizeof(reason), "cannot be read: %s", strerrordesc_np(code));
	return refuse(s, type, reason);
}

static int not_final(struct seal *s, const char *what)
{
	return err_set(s->e, EAGAIN, ERR_TRANSIENT, "not final: '%s' %s", STR_ESC(s->path.data),
		       what);
}

/* Whether one more entry may be added; if not, it is refused and the walk ends. */
static bool has_room(struct seal *s, const char *type, int *r)
{
	if (s->m.n_entries < s->limits.entries)
		return true;
	s->full = true;
	*r = refuse_limit(s, type, "entries",
			  "over the limit of entries; what follows is left out too");
	return false;
}

/* --- one file ------------------------------------------------------------------------------- */

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec && a->st_ctim.tv_sec == b->st_ctim.tv_sec &&
	       a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

static int copy_content(struct seal *s, int fd, uint64_t size, uint8_t sum[HASH_SIZE])
{
	uint64_t left = size;
	struct hash h;
	int r = 0;

	hash_init(&h);
	while (left && r == 0) {
		ssize_t n;

		if (s->spec->stop && *s->spec->stop)
			return err_set(s->e, ECANCELED, ERR_TRANSIENT, "given up by the caller");
		n = read(fd, s->in, left < IN_SIZE ? (size_t)left : IN_SIZE);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(s->e, "read '%s'", STR_ESC(s->path.data));
		if (n == 0)
			return not_final(s, "became shorter while it was packed");
		hash_add(&h, s->in, (size_t)n);
		r = pack_write(s->pack, s->in, (size_t)n, s->e);
		left -= (uint64_t)n;
	}
	hash_end(&h, sum);
	return r;
}

static int write_header(struct seal *s, bool dir, uint64_t size)
{
	s->header.len = 0;
	if (pax_header(&s->header, s->path.data, dir, size) < 0)
		return err_nomem(s->e);
	return pack_write(s->pack, s->header.data, s->header.len, s->e);
}

static int pack_content(struct seal *s, int fd, const struct stat *st)
{
	static const char zeros[PAX_BLOCK];
	uint64_t size = (uint64_t)st->st_size;
	uint8_t sum[HASH_SIZE];
	struct stat after;
	int r = write_header(s, false, size);

	r = r < 0 ? r : copy_content(s, fd, size, sum);
	r = r < 0 ? r : pack_write(s->pack, zeros, pax_padding(size), s->e);
	if (r < 0)
		return r;
	if (fstat(fd, &after) < 0)
		return err_sys(s->e, "look at '%s'", STR_ESC(s->path.data));
	if (!same_file(st, &after))
		return not_final(s, "changed while it was packed");
	if (manifest_add(&s->m, MANIFEST_REG, s->path.data, size, sum) < 0)
		return err_nomem(s->e);
	return 0;
}

static int pack_file(struct seal *s, int fd, const struct stat *st)
{
	uint64_t size = (uint64_t)st->st_size;
	int r = 0;

	if (!has_room(s, "file", &r))
		return r;
	if (size > s->limits.file_bytes)
		return refuse_limit(s, "file", "file", "over the limit of bytes in one file");
	if (size > s->limits.bytes - s->m.bytes)
		return refuse_limit(s, "file", "bytes", "over the limit of bytes in all");
	if (st->st_nlink > 1) {
		r = inode_seen(&s->links, st);
		if (r < 0)
			return err_nomem(s->e);
		if (r > 0)
			return refuse(s, "hardlink", "another name of a file that is packed");
	}
	return pack_content(s, fd, st);
}

/* --- folders -------------------------------------------------------------------------------- */

struct name {
	char *name;
	struct buf fold;
	unsigned char d_type;
	bool twin;
};
struct names {
	struct name *v;
	size_t n, cap;
};

static void names_done(struct names *l)
{
	for (size_t i = 0; i < l->n; i++) {
		free(l->v[i].name);
		buf_done(&l->v[i].fold);
	}
	free(l->v);
}

static int cmp_name(const void *a, const void *b)
{
	const struct name *x = a, *y = b;

	return strcmp(x->name, y->name);
}

static int cmp_fold(const void *a, const void *b)
{
	const struct name *x = a, *y = b;
	int d = strcmp(x->fold.data, y->fold.data);

	return d ? d : strcmp(x->name, y->name);
}

static int names_add(struct names *l, const struct dirent *de)
{
	struct name *v = l->v, *x;
	size_t n = strlen(de->d_name);

	if (l->n == l->cap) {
		v = reallocarray(v, l->cap ? l->cap * 2 : 16, sizeof(*v));
		if (!v)
			return -ENOMEM;
		l->cap = l->cap ? l->cap * 2 : 16;
		l->v = v;
	}
	x = &v[l->n];
	*x = (struct name){ .name = strdup(de->d_name), .d_type = de->d_type };
	if (!x->name)
		return -ENOMEM;
	l->n++;
	/* A name against the rule is refused later; it has no twins. */
	if (!path_check_name(x->name, n))
		return path_fold(&x->fold, x->name, n);
	return buf_fmt(&x->fold, "/%s", x->name);
}

/* All names, sorted by bytes: the order of the pack does not depend on the file system. A folder
 * with more names than entries may be packed is cut at that number. */
static int names_read(struct seal *s, DIR *d, struct names *l)
{
	struct dirent *de;

	while ((errno = 0, de = readdir(d)) && l->n <= s->limits.entries)
		if (!str_eq(de->d_name, ".") && !str_eq(de->d_name, "..") && names_add(l, de) < 0)
			return err_nomem(s->e);
	if (errno && !de)
		return err_sys(s->e, "read folder '%s'", STR_ESC(s->path.data));
	if (l->n == 0)
		return 0;
	qsort(l->v, l->n, sizeof(*l->v), cmp_fold);
	for (size_t i = 1; i < l->n; i++)
		l->v[i].twin = str_eq(l->v[i - 1].fold.data, l->v[i].fold.data);
	qsort(l->v, l->n, sizeof(*l->v), cmp_name);
	return 0;
}

static int walk_dir(struct seal *s, int fd, unsigned depth);

static int pack_dir(struct seal *s, int dirfd, const char *name, unsigned depth)
{
	auto_close int fd = -1;
	struct stat st;
	int r = 0;

	if (!has_room(s, "dir", &r))
		return r;
	if (depth > s->limits.depth)
		return refuse_limit(s, "dir", "depth", "nested too deep");
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP))
		return not_final(s, "is no longer the folder it was");
	if (fd < 0)
		return refuse_unreadable(s, "dir", errno);
	if (fstat(fd, &st) < 0)
		return err_sys(s->e, "look at '%s'", STR_ESC(s->path.data));
	if (st.st_dev != s->dev)
		return refuse(s, "dir", "on another file system");
	r = write_header(s, true, 0);
	if (r == 0 && manifest_add(&s->m, MANIFEST_DIR, s->path.data, 0, NULL) < 0)
		r = err_nomem(s->e);
	return r < 0 ? r : walk_dir(s, fd, depth);
}

static int open_file(struct seal *s, int dirfd, const char *name)
{
	auto_close int fd =
		openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	struct stat st;

	if (fd < 0 && (errno == ENOENT || errno == ELOOP || errno == ENXIO))
		return not_final(s, "is no longer the file it was");
	if (fd < 0)
		return refuse_unreadable(s, "file", errno);
	if (fstat(fd, &st) < 0)
		return err_sys(s->e, "look at '%s'", STR_ESC(s->path.data));
	if (!S_ISREG(st.st_mode))
		return not_final(s, "is no longer the file it was");
	if (st.st_dev != s->dev)
		return refuse(s, "file", "on another file system");
	return pack_file(s, fd, &st);
}

/* Whether a top-level name belongs to another part, which has its own source for it. */
static bool is_taken(const struct seal *s, const char *fold)
{
	for (size_t i = 0; i < s->spec->n_parts; i++) {
		const char *as = s->spec->parts[i].as;
		size_t n = strcspn(as, "/");
		auto_buf struct buf other = { 0 };

		if (&s->spec->parts[i] == s->part || n == 0)
			continue;
		if (path_fold(&other, as, n) < 0 || str_eq(other.data, fold))
			return true;
	}
	return false;
}

static const char *name_refused(struct seal *s, const struct name *x, enum manifest_type type)
{
	const char *why = path_check(s->path.data, s->path.len);

	if (why)
		return why;
	if (x->twin)
		return "differs from another name only by case or Unicode form";
	if (manifest_path_reserved(type, s->path.data))
		return "a reserved name";
	if (!strchr(s->path.data, '/') && is_taken(s, x->fold.data))
		return "a reserved name";
	return NULL;
}

static int pack_name(struct seal *s, int dirfd, const struct name *x, unsigned depth)
{
	mode_t mode = x->d_type == DT_REG ? S_IFREG : x->d_type == DT_DIR ? S_IFDIR : 0;
	const char *why;
	struct stat st;

	if (!mode) {
		if (fstatat(dirfd, x->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return not_final(s, "is no longer there");
		mode = st.st_mode & S_IFMT;
	}
	why = name_refused(s, x, mode == S_IFDIR ? MANIFEST_DIR : MANIFEST_REG);
	if (why)
		return refuse(s, type_word(mode), why);
	if (mode == S_IFDIR)
		return pack_dir(s, dirfd, x->name, depth + 1);
	if (mode == S_IFREG)
		return open_file(s, dirfd, x->name);
	return refuse(s, type_word(mode), "only files and folders are packed");
}

static int pack_names(struct seal *s, int dirfd, const struct names *l, unsigned depth)
{
	size_t start = s->path.len;
	int r = 0;

	for (size_t i = 0; i < l->n && r == 0 && !s->full; i++) {
		if (buf_fmt(&s->path, start ? "/%s" : "%s", l->v[i].name) < 0)
			return err_nomem(s->e);
		r = pack_name(s, dirfd, &l->v[i], depth);
		s->path.len = start;
		s->path.data[start] = '\0';
	}
	return r;
}

/* Takes the path in s->path for the folder's. */
static int walk_dir(struct seal *s, int fd, unsigned depth)
{
	__attribute__((cleanup(names_done))) struct names l = { 0 };
	struct stat before, after;
	DIR *d;
	int r;

	if (fstat(fd, &before) < 0)
		return err_sys(s->e, "look at '%s'", STR_ESC(s->path.data));
	fd = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		r = err_sys(s->e, "read folder '%s'", STR_ESC(s->path.data));
		if (fd >= 0)
			close(fd);
		return r;
	}
	r = names_read(s, d, &l);
	r = r < 0 ? r : pack_names(s, fd, &l, depth);
	if (r == 0 && fstat(fd, &after) < 0)
		r = err_sys(s->e, "look at '%s'", STR_ESC(s->path.data));
	closedir(d);
	if (r == 0 && !same_file(&before, &after))
		r = not_final(s, "changed while it was packed");
	return r;
}

/* --- parts ---------------------------------------------------------------------------------- */

static bool has_dir(const struct manifest *m, const char *path)
{
	for (size_t i = 0; i < m->n_entries; i++)
		if (m->entries[i].type == MANIFEST_DIR && str_eq(m->entries[i].path, path))
			return true;
	return false;
}

/* Adds the folders that `as` names, all of it or all but its last component, once. */
static int add_parents(struct seal *s, const char *as, bool whole)
{
	for (const char *p = as;; p++) {
		int r;

		if (*p && *p != '/')
			continue;
		if (p == as || (!*p && !whole))
			return 0;
		s->path.len = 0;
		if (buf_add(&s->path, as, (size_t)(p - as)) < 0)
			return err_nomem(s->e);
		if (!has_dir(&s->m, s->path.data)) {
			r = write_header(s, true, 0);
			if (r == 0 && manifest_add(&s->m, MANIFEST_DIR, s->path.data, 0, NULL) < 0)
				r = err_nomem(s->e);
			if (r < 0)
				return r;
		}
		if (!*p)
			return 0;
	}
}

static int check_part(const struct seal_spec *spec, const struct seal_part *p, struct err *e)
{
	const char *why = *p->as ? path_check(p->as, strlen(p->as)) : NULL;

	if (why)
		return err_input(e, "cannot seal as '%s': %s", STR_ESC(p->as), why);
	for (const struct seal_part *q = spec->parts; q < p; q++)
		if (str_eq(q->as, p->as))
			return err_input(e, "two parts are sealed as '%s'", STR_ESC(p->as));
	return 0;
}

static int pack_part(struct seal *s, const struct seal_part *p)
{
	auto_close int fd = openat(p->dirfd, p->source,
				   O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	int r;

	if (fd < 0 && errno == ENOENT && p->optional)
		return 0;
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(s->e, "open '%s'", STR_ESC(p->source));
	if (!S_ISDIR(st.st_mode) && (!S_ISREG(st.st_mode) || !*p->as))
		return err_input(s->e, "'%s' is not a %s", STR_ESC(p->source),
				 *p->as ? "file or folder" : "folder");
	s->part = p;
	s->dev = st.st_dev;
	r = add_parents(s, p->as, S_ISDIR(st.st_mode));
	s->path.len = 0;
	if (r == 0 && buf_str(&s->path, p->as) < 0)
		r = err_nomem(s->e);
	if (r < 0)
		return r;
	return S_ISDIR(st.st_mode) ? walk_dir(s, fd, 0) : pack_file(s, fd, &st);
}

static int pack_parts(struct seal *s)
{
	static const char zeros[PAX_END_BYTES];
	int r = 0;

	for (size_t i = 0; i < s->spec->n_parts && r == 0; i++) {
		r = check_part(s->spec, &s->spec->parts[i], s->e);
		r = r < 0 ? r : pack_part(s, &s->spec->parts[i]);
	}
	/* Without an entry nothing was written, and the pack is to be the one that stands for it. */
	if (r == 0 && s->m.n_entries)
		r = pack_write(s->pack, zeros, sizeof(zeros), s->e);
	return r < 0 ? r : pack_end(s->pack, &s->m, s->e);
}

/* --- the sealed folder ---------------------------------------------------------------------- */

struct output {
	char *temp, *pack_name;
	int dir, pack, manifest;
};

static void output_done(struct output *o)
{
	free(o->temp);
	free(o->pack_name);
	if (o->dir >= 0)
		close(o->dir);
	if (o->pack >= 0)
		close(o->pack);
	if (o->manifest >= 0)
		close(o->manifest);
}

static int create(struct output *o, const char *name, int *ret_fd, struct err *e)
{
	int fd = openat(o->dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0640);

	if (fd < 0)
		return err_sys(e, "create %s", name);
	*ret_fd = fd;
	return 0;
}

static int output_open(const struct seal_spec *spec, struct output *o, struct err *e)
{
	int r;

	if (str_fmt(&o->temp, ".%s.tmp", spec->out_name) < 0 ||
	    str_fmt(&o->pack_name, "%s.tar.zst", spec->name) < 0)
		return err_nomem(e);
	r = fd_rmtree(spec->out_dirfd, o->temp, e);
	if (r == 0 && mkdirat(spec->out_dirfd, o->temp, 0750) < 0)
		r = err_sys(e, "make folder %s", STR_ESC(o->temp));
	r = r < 0 ? r : fd_open_dir(spec->out_dirfd, o->temp, &o->dir, e);
	r = r < 0 ? r : create(o, o->pack_name, &o->pack, e);
	return r < 0 ? r : create(o, MANIFEST_FILE, &o->manifest, e);
}

static int write_manifest(struct output *o, struct manifest *m, struct seal_result *ret,
			  struct err *e)
{
	auto_buf struct buf b = { 0 };
	int r = manifest_encode(m, &b, ret->root, e);

	if (r < 0)
		return r;
	r = fd_write_all(o->manifest, b.data, b.len);
	return r < 0 ? err_errno(e, r, "write %s", MANIFEST_FILE) : 0;
}

static int sync_fd(int fd, const char *what, struct err *e)
{
	return FAILPOINT_FAILS("seal.sync") || fsync(fd) < 0 ? err_sys(e, "sync %s", what) : 0;
}

/* Both write-outs start, and with them the allocation of blocks, before the first wait: file
 * systems with a journal then need one commit for all of it. */
static int output_sync(struct output *o, int parent, struct err *e)
{
	int r;

	(void)sync_file_range(o->pack, 0, 0, SYNC_FILE_RANGE_WRITE);
	(void)sync_file_range(o->manifest, 0, 0, SYNC_FILE_RANGE_WRITE);
	r = sync_fd(o->pack, o->pack_name, e);
	r = r < 0 ? r : sync_fd(o->manifest, MANIFEST_FILE, e);
	r = r < 0 ? r : sync_fd(o->dir, "the sealed folder", e);
	/* The caller's descriptor may be O_PATH-like or AT_FDCWD: opened anew. */
	return r < 0 ? r : sync_fd(parent, "the folder of sealed objects", e);
}

static int output_publish(const struct seal_spec *spec, struct output *o, struct err *e)
{
	auto_close int parent = openat(spec->out_dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = parent < 0 ? err_sys(e, "open the folder of sealed objects") : 0;

	if (r == 0 && spec->replace)
		r = fd_rmtree(parent, spec->out_name, e);
	if (r == 0 && renameat2(parent, o->temp, parent, spec->out_name, RENAME_NOREPLACE) < 0)
		r = err_sys(e, "rename to %s", STR_ESC(spec->out_name));
	FAILPOINT("seal.renamed");
	if (r < 0 || spec->no_sync)
		return r;
	r = output_sync(o, parent, e);
	if (r < 0)
		(void)renameat2(parent, spec->out_name, parent, o->temp, RENAME_NOREPLACE);
	return r;
}

/* What cannot be removed now is removed by the next try under this name. */
static void output_discard(const struct seal_spec *spec, const struct output *o)
{
	if (o->temp && fd_rmtree(spec->out_dirfd, o->temp, NULL) < 0)
		return;
}

static uint64_t limit(uint64_t given, uint64_t def, uint64_t most)
{
	uint64_t v = given ? given : def;

	return v < most ? v : most;
}

static int seal_begin(struct seal *s, int pack_fd)
{
	const struct seal_limits *l = &s->spec->limits;

	s->limits = (struct seal_limits){
		.entries = limit(l->entries, MANIFEST_ENTRIES, MANIFEST_ENTRIES_MAX),
		.bytes = limit(l->bytes, DEF_BYTES, INT64_MAX),
		.file_bytes = limit(l->file_bytes, DEF_BYTES, INT64_MAX),
		.depth = (unsigned)limit(l->depth, PATH_DEPTH_MAX, PATH_DEPTH_MAX),
	};
	snprintf(s->m.name, sizeof(s->m.name), "%s", s->spec->name);
	s->in = malloc(IN_SIZE);
	if (!s->in || buf_reserve(&s->path, PATH_BYTES_MAX) < 0)
		return err_nomem(s->e);
	return pack_new(pack_fd, &s->pack, s->e);
}

static void fill_result(const struct manifest *m, struct seal_result *ret)
{
	hash_text(ret->root_text, ret->root);
	ret->files = m->files;
	ret->dirs = m->dirs;
	ret->bytes = m->bytes;
	ret->pack_bytes = m->pack_size;
	ret->refused = m->refused_total;
	memcpy(ret->truncated, m->truncated, sizeof(ret->truncated));
}

int seal_tree(const struct seal_spec *spec, struct seal_result *ret, struct err *e)
{
	__attribute__((cleanup(seal_done))) struct seal s = { .spec = spec, .e = e };
	__attribute__((
		cleanup(output_done))) struct output o = { .dir = -1, .pack = -1, .manifest = -1 };
	struct seal_result res = { 0 };
	int r = output_open(spec, &o, e);

	r = r < 0 ? r : seal_begin(&s, o.pack);
	r = r < 0 ? r : pack_parts(&s);
	r = r < 0 ? r : write_manifest(&o, &s.m, &res, e);
	r = r < 0 ? r : output_publish(spec, &o, e);
	if (r < 0) {
		output_discard(spec, &o);
		return r;
	}
	fill_result(&s.m, &res);
	*ret = res;
	return 0;
}

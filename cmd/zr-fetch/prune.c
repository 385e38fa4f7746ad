/* SPDX-License-Identifier: MIT */
/*
 * Keeps a folder of published objects under a size: those that were not used for the longest time go
 * first. The time of use is the folder's mtime, which its users set under the shared lock of
 * PRUNE_LOCK; a victim is looked at once more and renamed away under the exclusive one, so that
 * whoever has found an object there keeps it. What is removed lies in PRUNE_GONE meanwhile.
 */
#include <dirent.h>
#include <fts.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "fetcher.h"

#define PRUNE_LOCK ".lock"
#define PRUNE_TURN ".prune" /* held by the one that prunes */
#define PRUNE_GONE ".gone"
#define HEX_LEN    64

struct object {
	char name[HEX_LEN + 1];
	uint64_t bytes, used_usec;
};

struct pruning {
	const struct args *args;
	int dir;
	struct object *objects;
	size_t n, cap;
	uint64_t bytes;
	uint64_t n_removed, removed_bytes;
};
static void pruning_done(struct pruning *p)
{
	free(p->objects);
	if (p->dir >= 0)
		close(p->dir);
}
DEFINE_AUTO_DONE(pruning);

static bool is_object(const char *name)
{
	return strlen(name) == HEX_LEN && strspn(name, "0123456789abcdef") == HEX_LEN;
}

/* 0: it is not there. */
static uint64_t used_usec(const struct pruning *p, const char *name)
{
	struct stat st;

	if (fstatat(p->dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	return (uint64_t)st.st_mtim.tv_sec * USEC_PER_SEC + (uint64_t)st.st_mtim.tv_nsec / 1000;
}

/* What the object takes from the disk. */
static int measure(const struct pruning *p, const char *name, uint64_t *ret, struct err *e)
{
	auto_free char *path = NULL;
	char *roots[2] = { NULL, NULL };
	uint64_t blocks = 0;
	FTSENT *f;
	FTS *walk;

	if (str_fmt(&path, "%s/%s", p->args->prune, name) < 0)
		return err_nomem(e);
	roots[0] = path;
	walk = fts_open(roots, FTS_PHYSICAL | FTS_XDEV, NULL);
	if (!walk)
		return err_sys(e, "read %s", path);
	/* What cannot be read or goes away meanwhile is not counted. */
	while ((f = fts_read(walk)))
		if (f->fts_info != FTS_DP && f->fts_info != FTS_NS && f->fts_info != FTS_ERR &&
		    f->fts_info != FTS_DNR)
			blocks += (uint64_t)f->fts_statp->st_blocks;
	fts_close(walk);
	*ret = blocks * 512;
	return 0;
}

static int add(struct pruning *p, const char *name, struct err *e)
{
	struct object o = { .used_usec = used_usec(p, name) };
	int r = measure(p, name, &o.bytes, e);

	if (r < 0)
		return r;
	if (p->n == p->cap) {
		size_t cap = p->cap ? 2 * p->cap : 64;
		struct object *more = reallocarray(p->objects, cap, sizeof(*more));

		if (!more)
			return err_nomem(e);
		p->objects = more;
		p->cap = cap;
	}
	memcpy(o.name, name, sizeof(o.name)); /* is_object() */
	p->objects[p->n++] = o;
	p->bytes += o.bytes;
	return 0;
}

static int by_use(const void *x, const void *y)
{
	const struct object *a = x, *b = y;

	return a->used_usec < b->used_usec ? -1 : a->used_usec > b->used_usec;
}

static int look(struct pruning *p, struct err *e)
{
	struct dirent **names = NULL;
	int n = scandirat(p->dir, ".", &names, NULL, NULL), r = 0;

	if (n < 0)
		return err_sys(e, "read %s", p->args->prune);
	for (int i = 0; i < n; i++) {
		if (r == 0 && is_object(names[i]->d_name))
			r = add(p, names[i]->d_name, e);
		free(names[i]);
	}
	free(names);
	if (p->n)
		qsort(p->objects, p->n, sizeof(*p->objects), by_use);
	return r;
}

static bool is_kept(const struct pruning *p, const struct object *o)
{
	for (char *const *k = p->args->keep; k && *k; k++)
		if (str_eq(*k, o->name))
			return true;
	return o->used_usec >= p->args->used_before_usec;
}

/* 1: it is out of everybody's way, 0: somebody uses it again. */
static int take_away(const struct pruning *p, const struct object *o, struct err *e)
{
	auto_free char *to = NULL;
	auto_close int lock = -1;
	int r;

	if (str_fmt(&to, PRUNE_GONE "/%s", o->name) < 0)
		return err_nomem(e);
	r = fd_lock(p->dir, PRUNE_LOCK, true, &lock, e);
	if (r < 0)
		return r;
	if (used_usec(p, o->name) != o->used_usec)
		return 0;
	if (renameat(p->dir, o->name, p->dir, to) < 0)
		return err_sys(e, "move %s/%s away", p->args->prune, o->name);
	return 1;
}

static int make_room(struct pruning *p, struct err *e)
{
	for (size_t i = 0; i < p->n && p->bytes > p->args->limits.bytes; i++) {
		struct object *o = &p->objects[i];
		int r = is_kept(p, o) ? 0 : take_away(p, o, e);

		if (r < 0)
			return r;
		if (r == 0)
			continue;
		p->bytes -= o->bytes;
		p->removed_bytes += o->bytes;
		p->n_removed++;
		r = fd_rmtree(p->dir, PRUNE_GONE, e);
		if (r < 0)
			return r;
		if (mkdirat(p->dir, PRUNE_GONE, 0700) < 0)
			return err_sys(e, "make %s/" PRUNE_GONE, p->args->prune);
	}
	return 0;
}

static int work(struct pruning *p, struct err *e)
{
	auto_close int turn = -1;
	int r = fd_open_dir(AT_FDCWD, p->args->prune, &p->dir, e);

	if (r == 0)
		r = fd_lock(p->dir, PRUNE_TURN, false, &turn, e);
	/* Another one is at it. */
	if (r < 0)
		return r == -EWOULDBLOCK ? 0 : r;
	/* What one that was killed has left. */
	r = fd_rmtree(p->dir, PRUNE_GONE, e);
	if (r == 0 && mkdirat(p->dir, PRUNE_GONE, 0700) < 0)
		r = err_sys(e, "make %s/" PRUNE_GONE, p->args->prune);
	if (r == 0)
		r = look(p, e);
	return r < 0 ? r : make_room(p, e);
}

int prune(const struct args *a)
{
	auto_done(pruning) p = { .args = a, .dir = -1 };
	struct err e = { 0 };

	if (work(&p, &e) < 0) {
		fprintf(stderr, "zr-fetch: %s\n", e.msg);
		return EXIT_FAILED;
	}
	printf("{\"ok\": true, \"objects\": %zu, \"bytes\": %llu, \"removed\": %llu, "
	       "\"removed_bytes\": %llu}\n",
	       p.n - (size_t)p.n_removed, (unsigned long long)p.bytes,
	       (unsigned long long)p.n_removed, (unsigned long long)p.removed_bytes);
	return fflush(stdout) == 0 ? 0 : EXIT_FAILED;
}

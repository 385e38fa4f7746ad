/* SPDX-License-Identifier: MIT */
#include "empty.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "transfer/manifest.h"

bool empty_is(const struct result_due *d)
{
	return str_eq(d->root_hash, MANIFEST_EMPTY_RESULT) && *d->path;
}

/* --- folders --------------------------------------------------------------------------------- */

/* Made before the end of an earlier process; anything else of that name is not ours. */
static int check_empty(int results, const char *path, struct err *e)
{
	int fd = openat(results, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;
	bool empty = true;

	if (!d) {
		int r = err_sys(e, "open result '%s'", STR_ESC(path));

		if (fd >= 0)
			close(fd);
		return r;
	}
	while (empty && (de = readdir(d)))
		empty = str_eq(de->d_name, ".") || str_eq(de->d_name, "..");
	closedir(d);
	if (empty)
		return 0;
	return err_set(e, EEXIST, ERR_HOST, "result '%s' is there and is not empty: move it away",
		       STR_ESC(path));
}

/* "42" of "42/1". */
static int parent_of(const char *path, char **ret, struct err *e)
{
	*ret = path ? strndup(path, strcspn(path, "/")) : NULL;
	return *ret ? 0 : err_nomem(e);
}

static int make(int results, const char *path, struct err *e)
{
	auto_free char *parent = NULL;
	int r = parent_of(path, &parent, e);

	if (r < 0)
		return r;
	if (mkdirat(results, parent, 0755) < 0 && errno != EEXIST)
		return err_sys(e, "make the folder of result '%s'", STR_ESC(path));
	if (mkdirat(results, path, 0750) == 0)
		return 0;
	return errno == EEXIST ? check_empty(results, path, e)
			       : err_sys(e, "make result '%s'", STR_ESC(path));
}

static int sync_parent(int results, const char *path, struct err *e)
{
	auto_free char *parent = NULL;
	auto_close int fd = -1;
	int r = parent_of(path, &parent, e);

	r = r < 0 ? r : fd_open_dir(results, parent, &fd, e);
	if (r == 0 && fsync(fd) < 0)
		r = err_sys(e, "sync the folder of result '%s'", STR_ESC(path));
	return r;
}

/* --- a batch --------------------------------------------------------------------------------- */

struct batch {
	struct result_due *due; /* their texts are the rows' */
	int n;
	int results; /* the folder */
};

static void batch_done(struct batch *b)
{
	free(b->due);
	if (b->results >= 0)
		close(b->results);
}
DEFINE_AUTO_DONE(batch);

/* Fills the batch with those whose folder is there. */
static int make_all(struct batch *b, const struct db_rows *rows, struct err *e)
{
	b->due = calloc((size_t)db_rows_n(rows) + 1, sizeof(*b->due));
	if (!b->due)
		return err_nomem(e);
	for (int i = 0; i < db_rows_n(rows); i++) {
		struct result_due *d = &b->due[b->n];

		results_due_row(rows, i, d);
		if (empty_is(d) && make(b->results, d->path, e) == 0)
			b->n++;
	}
	return 0;
}

/* All are made before the first wait: file systems with a journal then need one commit for all. */
static int sync_all(const struct batch *b, struct err *e)
{
	int r = 0;

	for (int i = 0; i < b->n && r == 0; i++)
		r = sync_parent(b->results, b->due[i].path, e);
	if (r == 0 && b->n && fsync(b->results) < 0)
		r = err_sys(e, "sync the folder of results");
	return r;
}

/* The host has nothing to be released. */
static int record_all(const struct batch *b, struct update *u, db_done_fn done, void *user,
		      struct err *e)
{
	int r = 0;

	for (int i = 0; i < b->n && r == 0; i++) {
		struct db_args a = { 0 };

		results_done_args(&a, &b->due[i], NULL, NULL);
		r = db_pipe_add(u->work, &results_done_stmt, &a, e);
	}
	return r < 0 || !b->n ? r : db_pipe_sync(u->work, done, user, e);
}

int empty_publish(struct update *u, const struct db_rows *rows, db_done_fn done, void *user,
		  struct err *e)
{
	auto_done(batch) b = { .results = -1 };
	int r = fd_make_dir(u->settings->results_dir, 0755, &b.results, e);

	r = r < 0 ? r : make_all(&b, rows, e);
	r = r < 0 ? r : sync_all(&b, e);
	r = r < 0 ? r : record_all(&b, u, done, user, e);
	return r < 0 ? r : -e->code;
}

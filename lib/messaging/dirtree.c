/* SPDX-License-Identifier: MIT */
#include "messaging/dirtree.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/json.h"
#include "base/str.h"
#include "base/time.h"
#include "messaging/dirfile.h"

static int open_one(int root, const char *name, int *ret, struct err *e)
{
	if (mkdirat(root, name, 0775) < 0 && errno != EEXIST)
		return err_sys(e, "make %s", name);
	*ret = openat(root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return *ret < 0 ? err_sys(e, "open %s", name) : 0;
}

static int open_all(int root, struct dirtree *t, struct err *e)
{
	const struct {
		const char *name;
		int *fd;
	} folders[] = {
		{ "requests", &t->requests }, { "claimed", &t->claimed },
		{ "events", &t->events },     { "control", &t->control },
		{ "dead", &t->dead },         { "workers", &t->workers },
		{ "live", &t->live },
	};
	int r = 0;

	for (size_t i = 0; i < ARRAY_LEN(folders) && r == 0; i++)
		r = open_one(root, folders[i].name, folders[i].fd, e);
	return r == 0 ? open_one(t->claimed, t->worker, &t->mine, e) : r;
}

int dirtree_open(const char *path, const char *host, unsigned worker, struct dirtree *ret,
		 struct err *e)
{
	auto_done(dirtree) t = DIRTREE_NONE;
	auto_close int root = -1;
	int r;

	snprintf(t.host, sizeof(t.host), "%s", host);
	snprintf(t.worker, sizeof(t.worker), "%s.%u", host, worker);
	t.path = strdup(path);
	r = t.path ? fd_make_dir(path, 0775, &root, e) : err_nomem(e);
	if (r == 0)
		r = open_all(root, &t, e);
	if (r < 0)
		return err_wrap(e, "the channel %s", STR_ESC(path));
	*ret = t;
	t = DIRTREE_NONE;
	return 0;
}

void dirtree_done(struct dirtree *t)
{
	const int fds[] = { t->requests, t->claimed, t->mine,    t->events,
			    t->control,  t->dead,    t->workers, t->live };

	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	free(t->path);
}

bool dirtree_is_whole(const struct dirtree *t)
{
	const int fds[] = { t->requests, t->claimed, t->mine,    t->events,
			    t->control,  t->dead,    t->workers, t->live };
	auto_free char *requests = NULL;
	struct stat st;

	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		if (fstat(fds[i], &st) < 0 || st.st_nlink == 0)
			return false;
	return str_fmt(&requests, "%s/requests", t->path) < 0 ||
	       fd_is_at(t->requests, AT_FDCWD, requests, 0);
}

/* --- taking -------------------------------------------------------------------------------- */

static int move_to_mine(const struct dirtree *t, int from, const char *name, char *to, char **ret,
			struct err *e)
{
	auto_free char *file = to;

	if (renameat(from, name, t->mine, file) < 0)
		return err_sys(e, "take %s", STR_ESC(name));
	*ret = take_ptr(file);
	return 0;
}

int dirtree_take(const struct dirtree *t, const char *name, char **ret, struct err *e)
{
	char id[UUID_LEN + 1], *to = NULL;
	/* A name that is too long to be kept whole is cut. */
	int stem = (int)strnlen(name, DIRFILE_NAME_MAX) - (int)strlen(DIRTREE_REQUEST);

	if (str_fmt(&to, "%s-%.*s" DIRTREE_TAKEN, id_uuid7(id), stem, name) < 0)
		return err_nomem(e);
	return move_to_mine(t, t->requests, name, to, ret, e);
}

int dirtree_take_lost(const struct dirtree *t, const char *worker, const char *name, char **ret,
		      struct err *e)
{
	auto_free char *path = NULL;
	char id[UUID_LEN + 1], *to = NULL;

	if (str_fmt(&path, "%s/%s", worker, name) < 0 ||
	    str_fmt(&to, "%s" DIRTREE_LOST, id_uuid7(id)) < 0)
		return err_nomem(e);
	return move_to_mine(t, t->claimed, path, to, ret, e);
}

int dirtree_claim(const struct dirtree *t, const char *taken, const char *evaluation, int attempt,
		  char **ret, struct err *e)
{
	char id[UUID_LEN + 1], *to = NULL;

	if (str_fmt(&to, "%s.%d.%s" DIRTREE_CLAIM, evaluation, attempt, id_uuid7(id)) < 0)
		return err_nomem(e);
	return move_to_mine(t, t->mine, taken, to, ret, e);
}

/* The new file has a name of the old one's: whoever goes on after a crash in between makes the same. */
int dirtree_again(const struct dirtree *t, const char *lost, const char *evaluation, int attempt,
		  const void *data, size_t n, char **ret, struct err *e)
{
	auto_free char *to = NULL;
	int r;

	if (str_fmt(&to, "%s.%d.%.*s" DIRTREE_CLAIM, evaluation, attempt, UUID_LEN, lost) < 0)
		return err_nomem(e);
	r = dirfile_write(t->mine, to, data, n, e);
	if (r < 0)
		return r;
	FAILPOINT("dirtree.again");
	(void)unlinkat(t->mine, lost, 0);
	*ret = take_ptr(to);
	return 0;
}

/* --- settling ------------------------------------------------------------------------------ */

int dirtree_settle(const struct dirtree *t, const char *claim, struct err *e)
{
	auto_free char *to = NULL;

	if (str_fmt(&to, "%.*s" DIRTREE_RUN, (int)(strlen(claim) - strlen(DIRTREE_CLAIM)), claim) <
	    0)
		return err_nomem(e);
	if (renameat(t->mine, claim, t->mine, to) < 0)
		return err_sys(e, "settle %s", STR_ESC(claim));
	return 0;
}

int dirtree_give_back(const struct dirtree *t, const char *claim, const char *name, struct err *e)
{
	auto_free char *other = NULL;
	int r = name ? dirfile_move(t->mine, claim, t->requests, name, e) : -EEXIST;

	if (r != -EEXIST)
		return r;
	if (str_fmt(&other, "%.*s" DIRTREE_REQUEST, (int)(strrchr(claim, '.') - claim), claim) < 0)
		return err_nomem(e);
	return dirfile_move(t->mine, claim, t->requests, other, e);
}

static int reason_text(const char *name, const char *reason, const char *detail, char **ret)
{
	char at[TIME_TEXT_MAX];
	json_auto_t *o =
		json_pack("{s:s, s:o, s:o, s:s}", "reason", reason, "detail",
			  js_from_bytes(detail, strlen(detail)), "file",
			  js_from_bytes(name, strlen(name)), "at", time_text(at, time_wall_usec()));

	*ret = o ? js_pretty(o) : NULL;
	return *ret ? 0 : -ENOMEM;
}

/* The reason first: what lies in dead always has one. Whoever goes on after a crash in between writes the
 * same two names. */
int dirtree_bury(const struct dirtree *t, const char *file, const char *name, const char *reason,
		 const char *detail, struct err *e)
{
	auto_free char *beside = NULL, *text = NULL;
	int r;

	if (str_fmt(&beside, "%s.reason", file) < 0 ||
	    reason_text(name, reason, detail ? detail : "", &text) < 0)
		return err_nomem(e);
	r = dirfile_write(t->dead, beside, text, strlen(text), e);
	FAILPOINT("dirtree.bury");
	if (r == 0 && renameat(t->mine, file, t->dead, file) < 0)
		r = err_sys(e, "move %s to dead", STR_ESC(name));
	if (r == 0 && fsync(t->dead) < 0)
		r = err_sys(e, "sync dead");
	return r;
}

/* --- the end ------------------------------------------------------------------------------- */

/* "HOST.N" of this host, or "N". */
static bool is_ours(const struct dirtree *t, const char *worker)
{
	const char *dot = strrchr(worker, '.');

	return dot && (size_t)(dot - worker) == strlen(t->host) &&
	       memcmp(worker, t->host, strlen(t->host)) == 0;
}

static bool is_held(const char *name, const char *prefix)
{
	return str_starts(name, prefix) &&
	       strlen(name) == strlen(prefix) + UUID_LEN + strlen(DIRTREE_RUN) &&
	       (str_ends(name, DIRTREE_RUN) || str_ends(name, DIRTREE_CLAIM));
}

static bool is_replaced(const char *name, const char *prefix)
{
	return str_starts(name, prefix) &&
	       strlen(name) == strlen(prefix) + UUID_LEN + strlen(DIRTREE_OVER) &&
	       str_ends(name, DIRTREE_OVER);
}

static unsigned remove_of(int dirfd, const char *prefix)
{
	auto_strv char **names = NULL;
	unsigned n = 0;

	if (dirfile_list(dirfd, "", &names, NULL) < 0)
		return 0;
	for (char **p = names; p && *p; p++)
		n += is_held(*p, prefix) && unlinkat(dirfd, *p, 0) == 0;
	return n;
}

typedef bool (*name_test)(const char *name, const char *prefix);

static int find_in(int dirfd, name_test is, const char *prefix, char **ret, struct err *e)
{
	auto_strv char **names = NULL;
	int r = dirfile_list(dirfd, "", &names, e);

	for (char **p = names; p && *p && r == 0; p++) {
		if (!is(*p, prefix))
			continue;
		*ret = strdup(*p);
		return *ret ? 0 : err_nomem(e);
	}
	return r < 0 ? r : -ENOENT;
}

/* A box may have been adopted by another worker than the one that took its request. */
static int find_elsewhere(const struct dirtree *t, name_test is, const char *prefix, int *ret_dirfd,
			  char **ret, struct err *e)
{
	auto_strv char **workers = NULL;
	int r = dirfile_list(t->claimed, "", &workers, e);

	for (char **w = workers; w && *w && r == 0; w++) {
		auto_close int fd =
			is_ours(t, *w) ? openat(t->claimed, *w, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
				       : -1;

		if (fd >= 0 && find_in(fd, is, prefix, ret, NULL) == 0) {
			*ret_dirfd = take_fd(fd);
			return 0;
		}
	}
	return r < 0 ? r : err_set(e, ENOENT, ERR_INPUT, "no worker of this host holds it");
}

int dirtree_find(const struct dirtree *t, const char *evaluation, int attempt, int *ret_dirfd,
		 char **ret_name, struct err *e)
{
	auto_free char *prefix = NULL;
	int r;

	if (str_fmt(&prefix, "%s.%d.", evaluation, attempt) < 0)
		return err_nomem(e);
	r = find_in(t->mine, is_held, prefix, ret_name, e);
	if (r == -ENOENT)
		return find_elsewhere(t, is_held, prefix, ret_dirfd, ret_name, e);
	if (r < 0)
		return r;
	*ret_dirfd = fcntl(t->mine, F_DUPFD_CLOEXEC, 0);
	return *ret_dirfd < 0 ? err_sys(e, "duplicate a descriptor") : 0;
}

bool dirtree_is_replaced(const struct dirtree *t, const char *evaluation, int attempt)
{
	auto_free char *prefix = NULL, *name = NULL;
	auto_close int fd = -1;

	return str_fmt(&prefix, "%s.%d.", evaluation, attempt) >= 0 &&
	       (find_in(t->mine, is_replaced, prefix, &name, NULL) == 0 ||
		find_elsewhere(t, is_replaced, prefix, &fd, &name, NULL) == 0);
}

void dirtree_ended(const struct dirtree *t, const char *evaluation, int attempt)
{
	auto_free char *prefix = NULL, *name = NULL;
	auto_close int fd = -1;

	if (str_fmt(&prefix, "%s.%d.", evaluation, attempt) < 0 || remove_of(t->mine, prefix))
		return;
	if (find_elsewhere(t, is_held, prefix, &fd, &name, NULL) == 0)
		(void)remove_of(fd, prefix);
}

/* Named after what it replaces: whoever goes on after a crash in between makes the same. It is safe
 * before that goes, and that has gone before it may be taken. */
int dirtree_replace(const struct dirtree *t, int dirfd, const char *name, const char *evaluation,
		    int next_attempt, const void *data, size_t n, char **ret_again, char **ret_over,
		    struct err *e)
{
	const char *id = name + strlen(name) - strlen(DIRTREE_RUN) - UUID_LEN;
	auto_free char *to = NULL, *over = NULL;
	int r;

	if (str_fmt(&to, "%s.%d.%.*s" DIRTREE_AGAIN, evaluation, next_attempt, UUID_LEN, id) < 0 ||
	    str_fmt(&over, "%s.%d.%.*s" DIRTREE_OVER, evaluation, next_attempt - 1, UUID_LEN, id) <
		    0)
		return err_nomem(e);
	r = dirfile_write(t->mine, to, data, n, e);
	if (r == 0 && fsync(t->mine) < 0)
		r = err_sys(e, "sync %s", t->path);
	if (r < 0)
		return r;
	FAILPOINT("dirtree.replace");
	if (renameat(dirfd, name, t->mine, over) < 0 && errno != ENOENT)
		return err_sys(e, "put %s aside", STR_ESC(name));
	if (fsync(dirfd) < 0 || fsync(t->mine) < 0)
		return err_sys(e, "sync %s", t->path);
	FAILPOINT("dirtree.replaced");
	*ret_again = take_ptr(to);
	*ret_over = take_ptr(over);
	return 0;
}

int dirtree_let_go(const struct dirtree *t, const char *again, struct err *e)
{
	char id[UUID_LEN + 1], to[UUID_LEN + sizeof(DIRTREE_REQUEST)];

	snprintf(to, sizeof(to), "%s" DIRTREE_REQUEST, id_uuid7(id));
	if (str_ends(again, DIRTREE_OVER))
		return unlinkat(t->mine, again, 0) < 0 ? err_sys(e, "remove %s", STR_ESC(again))
						       : 0;
	if (renameat(t->mine, again, t->requests, to) < 0)
		return err_sys(e, "move %s to requests", STR_ESC(again));
	FAILPOINT("dirtree.freed");
	return 0;
}

int dirtree_take_again(const struct dirtree *t, const char *worker, const char *name, struct err *e)
{
	auto_free char *path = NULL;

	if (str_fmt(&path, "%s/%s", worker, name) < 0)
		return err_nomem(e);
	return renameat(t->claimed, path, t->mine, name) < 0 ? err_sys(e, "take %s", STR_ESC(name))
							     : 0;
}

int dirtree_inherit(const struct dirtree *t, const char *number, struct err *e)
{
	auto_free char *name = NULL, *beat = NULL;
	auto_strv char **files = NULL;
	auto_close int fd = -1;
	int r;

	if (str_fmt(&name, "%s.%s", t->host, number) < 0 || str_fmt(&beat, "%s.json", name) < 0)
		return err_nomem(e);
	fd = openat(t->claimed, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : err_sys(e, "open claimed/%s", name);
	r = dirfile_list(fd, "", &files, e);
	for (char **f = files; f && *f && r == 0; f++)
		if (renameat(fd, *f, t->mine, *f) < 0 && errno != ENOENT)
			r = err_sys(e, "take %s of %s over", STR_ESC(*f), name);
	if (r < 0)
		return r;
	(void)unlinkat(t->claimed, name, AT_REMOVEDIR);
	(void)unlinkat(t->workers, beat, 0);
	return 0;
}

int dirtree_sync(const struct dirtree *t, struct err *e)
{
	return fsync(t->mine) < 0 || fsync(t->requests) < 0 ? err_sys(e, "sync %s", t->path) : 0;
}

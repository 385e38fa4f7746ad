/* SPDX-License-Identifier: MIT */
#include "room.h"

#include <dirent.h>
#include <limits.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/id.h"
#include "base/str.h"
#include "base/time.h"
#include "commands.h"
#include "exec/box.h"
#include "exec/leftover.h"
#include "pack.h"
#include "transfer/fetch.h"

#define PREFIX      "zr-evaluate-"
#define SETTLED_SEC 60
/* A process of a job whose keeper was killed. */
#define KILL_ROUNDS     100
#define KILL_PAUSE_USEC (10 * USEC_PER_MSEC)

static const char *base_dir(void)
{
	const char *dir = getenv("TMPDIR");

	return dir && *dir == '/' ? dir : "/tmp";
}

/* --- what killed calls left --------------------------------------------------------------------- */

/* True: nothing of this box is alive any more. */
static bool box_is_over(const char *room, const char *attempt_id)
{
	auto_obj(box) b = NULL;
	bool gone = false;

	if (box_open(room, attempt_id, &b, NULL) < 0 || box_state(b) == BOX_RUNNING)
		return false;
	for (int i = 0; i < KILL_ROUNDS && !gone; i++) {
		gone = leftover_kill(&box_spec(b)->cgroup, attempt_id);
		if (!gone)
			usleep(KILL_PAUSE_USEC);
	}
	if (gone)
		leftover_remove(&box_spec(b)->cgroup, attempt_id);
	return gone;
}

static bool is_over(const char *room)
{
	auto_strv char **ids = NULL;

	if (box_list(room, &ids, NULL) < 0)
		return false;
	for (char **id = ids; id && *id; id++)
		if (!box_is_over(room, *id))
			return false;
	return true;
}

static void sweep_one(int base, const char *name)
{
	auto_close int fd = -1;
	auto_free char *path = NULL;
	struct stat st;

	if (fd_open_dir(base, name, &fd, NULL) < 0 || fstat(fd, &st) < 0 ||
	    st.st_uid != geteuid() || time(NULL) - st.st_mtime < SETTLED_SEC ||
	    flock(fd, LOCK_EX | LOCK_NB) < 0)
		return;
	if (str_fmt(&path, "%s/%s", base_dir(), name) < 0 || !is_over(path))
		return;
	/* What cannot be removed now is tried again by the next call. */
	(void)!fd_rmtree(base, name, NULL);
}

static void sweep(void)
{
	DIR *d = opendir(base_dir());
	struct dirent *de;

	while (d && (de = readdir(d)))
		if (str_starts(de->d_name, PREFIX))
			sweep_one(dirfd(d), de->d_name);
	if (d)
		closedir(d);
}

/* --- the room ----------------------------------------------------------------------------------- */

int room_make(struct room *ret, struct err *e)
{
	auto_free char *path = NULL;
	auto_close int fd = -1;
	int r;

	sweep();
	if (str_fmt(&path, "%s/" PREFIX "XXXXXX", base_dir()) < 0)
		return err_nomem(e);
	if (!mkdtemp(path))
		return err_sys(e, "make a folder in %s", STR_ESC(base_dir()));
	r = fd_open_dir(AT_FDCWD, path, &fd, e);
	if (r == 0 && flock(fd, LOCK_EX | LOCK_NB) < 0)
		r = err_sys(e, "lock %s", STR_ESC(path));
	if (r < 0)
		return r;
	ret->fd = take_fd(fd);
	ret->path = take_ptr(path);
	return 0;
}

void room_abandon(struct room *r)
{
	if (r->fd >= 0)
		close(r->fd);
	free(r->path);
	*r = (struct room)ROOM_NEW;
}

void room_done(struct room *r)
{
	struct err e = { 0 };

	if (r->path && fd_rmtree(AT_FDCWD, r->path, &e) < 0)
		cli_say("zr: %s cannot be removed: %s", r->path, e.msg);
	room_abandon(r);
}

/* --- into it ------------------------------------------------------------------------------------ */

int room_submission_dir(const struct room *r, char **ret)
{
	return str_fmt(ret, "%s/submission", r->path) < 0 ? -ENOMEM : 0;
}

static int unpack(const char *sealed, const char *name, const uint8_t *root, const char *staging,
		  const char *target, const volatile sig_atomic_t *stop, struct err *e)
{
	auto_done(fetch_result) done = { 0 };
	auto_close int fd = -1;
	int r = fd_make_dir(staging, 0700, &fd, e);

	if (r < 0)
		return r;
	return fetch_object(&(struct fetch_spec){ .dir = sealed,
						  .name = name,
						  .root = root,
						  .staging_dirfd = fd,
						  .target = target,
						  .keep_manifest = str_eq(name, "result"),
						  .abort_fd = -1,
						  .stop = stop },
			    &done, e);
}

int room_take(const struct cli *c, const struct room *r, const char *path,
	      const volatile sig_atomic_t *stop, char ret_digest[HASH_TEXT_MAX], struct err *e)
{
	auto_done(pack) p = PACK_EMPTY;
	auto_free char *packs = NULL, *sealed = NULL, *staging = NULL, *target = NULL;
	int n;

	if (str_fmt(&packs, "%s/packs", r->path) < 0 ||
	    str_fmt(&staging, "%s/staging", r->path) < 0 || room_submission_dir(r, &target) < 0)
		return err_nomem(e);
	n = pack_make(packs, path, &(struct pack_how){ .no_sync = true, .stop = stop }, &p, e);
	if (n == 0 && str_fmt(&sealed, "%s/%s/sealed", packs, p.name) < 0)
		n = err_nomem(e);
	if (n < 0)
		return n;
	submissions_tell_refused(c, &p);
	snprintf(ret_digest, HASH_TEXT_MAX, "%s", p.sealed.root_text);
	return unpack(sealed, "submission", p.sealed.root, staging, target, stop, e);
}

/* --- out of it ---------------------------------------------------------------------------------- */

static int is_free(const char *path, bool is_dir, struct err *e)
{
	struct dirent *de;
	bool found = false;
	DIR *d;

	if (!is_dir)
		return err_input(e, "%s is no folder", STR_ESC(path));
	d = opendir(path);
	if (!d)
		return err_sys(e, "open %s", STR_ESC(path));
	while (!found && (de = readdir(d)))
		found = !str_eq(de->d_name, ".") && !str_eq(de->d_name, "..");
	closedir(d);
	return found ? err_input(e, "%s is not empty", STR_ESC(path)) : 0;
}

static int absolute(const char *path, char **ret, struct err *e)
{
	auto_free char *cwd = NULL;
	size_t n = strlen(path);

	while (n > 1 && path[n - 1] == '/')
		n--;
	if (*path != '/' && !(cwd = get_current_dir_name()))
		return err_sys(e, "find the working directory");
	return str_fmt(ret, "%s%s%.*s", cwd ? cwd : "", cwd ? "/" : "", (int)n, path) < 0
		       ? err_nomem(e)
		       : 0;
}

int room_target(const char *path, char **ret, struct err *e)
{
	auto_free char *full = realpath(path, NULL);
	struct stat st;
	int r;

	if (!*path)
		return err_input(e, "the name of the folder is empty");
	if (!full)
		return absolute(path, ret, e);
	r = stat(full, &st) < 0 ? err_sys(e, "look at %s", STR_ESC(path))
				: is_free(full, S_ISDIR(st.st_mode), e);
	if (r == 0)
		*ret = take_ptr(full);
	return r;
}

int room_target_new(const char *attempt_id, char **ret, struct err *e)
{
	return str_fmt(ret, "%s/zr-result-%s", base_dir(), attempt_id) < 0 ? err_nomem(e) : 0;
}

/* Beside the target, because it is moved there. */
static int staging_for(const char *target, char **ret, struct err *e)
{
	const char *slash = strrchr(target, '/');
	auto_free char *parent = strndup(target, slash > target ? (size_t)(slash - target) : 1);
	int r = parent ? fd_mkdirs(parent, 0755, e) : err_nomem(e);

	if (r == 0 && str_fmt(ret, "%s/.zr-evaluate-XXXXXX", parent) < 0)
		r = err_nomem(e);
	if (r == 0 && !mkdtemp(*ret))
		r = err_sys(e, "make a folder in %s", STR_ESC(parent));
	return r;
}

int room_publish(const struct room *r, const char *attempt_id, const char *root_hash,
		 const char *target, struct err *e)
{
	auto_free char *sealed = NULL, *staging = NULL;
	uint8_t root[HASH_SIZE];
	int n;

	if (str_eq(root_hash, MANIFEST_EMPTY_RESULT))
		return fd_mkdirs(target, 0750, e);
	if (hash_parse_hex(root_hash + strlen("sha256:"), root) < 0)
		return err_set(e, EINVAL, ERR_HOST, "'%s' is no digest", STR_ESC(root_hash));
	if (str_fmt(&sealed, "%s/sealed/%s", r->path, attempt_id) < 0)
		return err_nomem(e);
	n = staging_for(target, &staging, e);
	if (n < 0)
		return n;
	/* An empty folder is what the result takes the place of. */
	(void)!rmdir(target);
	n = unpack(sealed, "result", root, staging, target, NULL, e);
	(void)!fd_rmtree(AT_FDCWD, staging, NULL);
	return n < 0 ? err_wrap(e, "put the result into %s", STR_ESC(target)) : 0;
}

/* SPDX-License-Identifier: MIT */
#include "ledger.h"

#include <dirent.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/id.h"
#include "base/log.h"
#include "base/str.h"

#define PRUNE_USEC (3600 * USEC_PER_SEC)

struct ledger {
	int dirfd;
	struct loop_src *timer;
};

static void prune(struct ledger *g)
{
	uint64_t now = time_wall_usec();
	struct dirent *de;
	auto_close int fd = openat(g->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d) {
		log_warning("old claims are not removed: %m");
		return;
	}
	(void)take_fd(fd);
	while ((de = readdir(d))) {
		struct stat st;

		if (!id_is_uuid(de->d_name) ||
		    fstatat(g->dirfd, de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if ((uint64_t)st.st_mtim.tv_sec * USEC_PER_SEC + LEDGER_KEEP_USEC < now)
			(void)unlinkat(g->dirfd, de->d_name, 0);
	}
	closedir(d);
}

static void on_timer(void *user)
{
	struct ledger *g = user;

	prune(g);
	loop_timer_set(g->timer, PRUNE_USEC);
}

int ledger_new(struct loop *l, const char *state_dir, struct ledger **ret, struct err *e)
{
	struct ledger *g = calloc(1, sizeof(*g));
	auto_free char *path = NULL;
	int r;

	if (!g)
		return err_nomem(e);
	g->dirfd = -1;
	r = str_fmt(&path, "%s/spool/claimed", state_dir) < 0
		    ? err_nomem(e)
		    : fd_make_dir(path, 0700, &g->dirfd, e);
	if (r == 0)
		r = loop_timer(l, 0, on_timer, g, &g->timer, e);
	if (r < 0) {
		ledger_free(g);
		return r;
	}
	*ret = g;
	return 0;
}

void ledger_free(struct ledger *g)
{
	if (!g)
		return;
	loop_src_free(g->timer);
	if (g->dirfd >= 0)
		close(g->dirfd);
	free(g);
}

int ledger_add(struct ledger *g, const char *id, struct err *e)
{
	auto_close int fd = openat(g->dirfd, id, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	return fd < 0 ? err_sys(e, "note the claim of request %s", id) : 0;
}

bool ledger_has(const struct ledger *g, const char *id)
{
	return faccessat(g->dirfd, id, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

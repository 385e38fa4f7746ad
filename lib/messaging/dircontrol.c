/* SPDX-License-Identifier: MIT */
#include "messaging/dircontrol.h"

#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "messaging/dirfile.h"

/* Cancels are kept for so long, as the broker's stream keeps them. */
#define KEEP_SEC (7 * 86400)

void dircontrol_done(struct dircontrol *c)
{
	tdestroy(c->known, free);
	c->known = NULL;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(a, b);
}

static bool is_old(int dirfd, const char *name)
{
	struct stat st;

	return fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       st.st_mtime < (time_t)(time_wall_usec() / USEC_PER_SEC) - KEEP_SEC;
}

static void read_one(int dirfd, const char *name, size_t message_max,
		     const struct dircontrol_ops *ops, void *user)
{
	auto_buf struct buf b = { 0 };
	auto_obj(message) m = NULL;
	enum message_bad bad = MESSAGE_MALFORMED;
	bool regular = false;
	struct err e = { 0 };
	int r;

	r = dirfile_is_regular(dirfd, name, &regular, &e);
	if (r == 0 && regular)
		r = fd_read_file(dirfd, name, message_max, &b, &e);
	if (r == -ENOENT)
		return;
	if (r == 0 && regular)
		bad = message_decode(b.data ? b.data : "", b.len, message_max, &m, &e);
	if (bad == MESSAGE_GOOD && m->type == MESSAGE_CONTROL)
		ops->on_control(user, m);
	else
		ops->on_bad(user, name, e.msg[0] ? e.msg : "it is no control message");
}

/* A clock tick may hide a second change from this, but not from the next scan. */
static bool has_changed(struct dircontrol *c, int dirfd)
{
	struct timespec before = c->mtime;
	struct stat st;

	if (fstat(dirfd, &st) < 0)
		return true;
	c->mtime = st.st_mtim;
	return before.tv_sec != st.st_mtim.tv_sec || before.tv_nsec != st.st_mtim.tv_nsec;
}

int dircontrol_read(struct dircontrol *c, int dirfd, size_t message_max, bool scan,
		    const struct dircontrol_ops *ops, void *user, struct err *e)
{
	auto_strv char **names = NULL;
	int r;

	if (!has_changed(c, dirfd) && !scan)
		return 0;
	r = dirfile_list(dirfd, ".json", &names, e);
	if (r < 0)
		return r;
	for (char **n = names; n && *n; n++) {
		char *key, **found;
		bool old;

		if (tfind(*n, &c->known, compare_names) || !(key = strdup(*n)))
			continue;
		found = tsearch(key, &c->known, compare_names);
		if (!found || *found != key) {
			free(key);
			continue;
		}
		old = is_old(dirfd, *n);
		read_one(dirfd, *n, message_max, ops, user);
		/* Read nevertheless: it may be the clock that is not right. */
		if (old)
			(void)unlinkat(dirfd, *n, 0);
	}
	return 0;
}

/* SPDX-License-Identifier: MIT */
#include "messaging/dirlost.h"

#include <stdio.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/str.h"
#include "base/time.h"
#include "messaging/dirfile.h"
#include "messaging/message.h"

/* What a beat is of a file: another one was put in its place. */
struct seen {
	ino_t ino;
	struct timespec mtime;
};

struct peer {
	TAILQ_ENTRY(peer) entry;
	char name[96];
	struct seen seen;
	uint64_t lease_usec, since_usec; /* unchanged since, CLOCK_BOOTTIME */
	bool listed, lost;
};

struct dirlost {
	uint64_t lease_usec, looked_usec;
	TAILQ_HEAD(, peer) peers;
};

int dirlost_new(uint64_t lease_usec, struct dirlost **ret, struct err *e)
{
	struct dirlost *l = calloc(1, sizeof(*l));

	if (!l)
		return err_nomem(e);
	l->lease_usec = lease_usec;
	TAILQ_INIT(&l->peers);
	*ret = l;
	return 0;
}

static void peer_free(struct dirlost *l, struct peer *p)
{
	TAILQ_REMOVE(&l->peers, p, entry);
	free(p);
}

void dirlost_free(struct dirlost *l)
{
	struct peer *p;

	while (l && (p = TAILQ_FIRST(&l->peers)))
		peer_free(l, p);
	free(l);
}

static struct peer *peer_of(struct dirlost *l, const char *name, uint64_t now)
{
	struct peer *p;

	TAILQ_FOREACH (p, &l->peers, entry)
		if (str_eq(p->name, name))
			return p;
	p = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	snprintf(p->name, sizeof(p->name), "%s", name);
	p->since_usec = now;
	p->lease_usec = l->lease_usec;
	TAILQ_INSERT_TAIL(&l->peers, p, entry);
	return p;
}

static uint64_t lease_of(const struct dirlost *l, int fd)
{
	auto_buf struct buf b = { 0 };
	json_auto_t *o = NULL;
	int64_t usec = 0;

	if (fd_read_all(fd, "a worker's file", MESSAGE_MAX, &b, NULL) < 0 ||
	    js_parse(b.data ? b.data : "", b.len, MESSAGE_DEPTH, &o, NULL) < 0 ||
	    js_opt_int(o, "lease_usec", 1, MESSAGE_LEASE_MAX_USEC, &usec, NULL) != 1)
		return l->lease_usec;
	return (uint64_t)usec;
}

/* Opening the file, not only looking at it, makes an NFS client ask its server. */
static void look_at(struct dirlost *l, struct peer *p, const struct dirtree *t, uint64_t now)
{
	char file[ARRAY_LEN(p->name) + 8];
	auto_close int fd = -1;
	struct seen seen = { 0 };
	struct stat st;

	snprintf(file, sizeof(file), "%s.json", p->name);
	fd = openat(t->workers, file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd >= 0 && fstat(fd, &st) == 0)
		seen = (struct seen){ .ino = st.st_ino, .mtime = st.st_mtim };
	if (seen.ino != p->seen.ino || seen.mtime.tv_sec != p->seen.mtime.tv_sec ||
	    seen.mtime.tv_nsec != p->seen.mtime.tv_nsec) {
		p->seen = seen;
		p->since_usec = now;
		p->lease_usec = fd >= 0 ? lease_of(l, fd) : l->lease_usec;
	}
	p->lost = now - p->since_usec > p->lease_usec + p->lease_usec / 2;
}

int dirlost_look(struct dirlost *l, const struct dirtree *t, struct err *e)
{
	auto_strv char **names = NULL;
	uint64_t now = time_boot_usec();
	struct peer *p, *next;
	int r = dirfile_list(t->claimed, "", &names, e);

	if (r < 0)
		return r;
	TAILQ_FOREACH (p, &l->peers, entry) {
		p->listed = false;
		if (now - l->looked_usec > p->lease_usec / 2)
			p->since_usec = now;
	}
	l->looked_usec = now;
	for (char **n = names; n && *n; n++) {
		p = str_eq(*n, t->worker) || strlen(*n) >= sizeof(p->name) ? NULL
									   : peer_of(l, *n, now);
		if (!p)
			continue;
		p->listed = true;
		look_at(l, p, t, now);
	}
	for (p = TAILQ_FIRST(&l->peers); p; p = next) {
		next = TAILQ_NEXT(p, entry);
		if (!p->listed)
			peer_free(l, p);
	}
	return 0;
}

const char *dirlost_next(const struct dirlost *l, const char *prev)
{
	struct peer *p = TAILQ_FIRST(&l->peers);

	for (; p && prev; p = TAILQ_NEXT(p, entry))
		if (p->name == prev)
			break;
	for (p = prev && p ? TAILQ_NEXT(p, entry) : p; p; p = TAILQ_NEXT(p, entry))
		if (p->lost)
			return p->name;
	return NULL;
}

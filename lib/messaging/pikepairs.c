/* SPDX-License-Identifier: MIT */
#include "messaging/pikepairs.h"

#include <search.h>
#include <string.h>

#include "base/str.h"
#include "base/time.h"
#include "messaging/dirfile.h"
#include "messaging/pikefile.h"

static int compare_stems(const void *a, const void *b)
{
	return strcmp(((const struct pair *)a)->stem, ((const struct pair *)b)->stem);
}

void pikepairs_drop(struct pikepairs *q, struct pair *a)
{
	tdelete(a, &q->known, compare_stems);
	TAILQ_REMOVE(a->queued ? &q->queue : &q->unread, a, entry);
	q->n_queued -= a->queued;
	free(a->stem);
	free(a);
}

static bool is_before(const struct pair *a, const struct pair *b)
{
	if (a->mtime.tv_sec != b->mtime.tv_sec)
		return a->mtime.tv_sec < b->mtime.tv_sec;
	if (a->mtime.tv_nsec != b->mtime.tv_nsec)
		return a->mtime.tv_nsec < b->mtime.tv_nsec;
	return strcmp(a->stem, b->stem) < 0;
}

static void insert(struct pair_list *list, struct pair *a)
{
	struct pair *b = TAILQ_LAST(list, pair_list);

	while (b && is_before(a, b))
		b = TAILQ_PREV(b, pair_list, entry);
	if (b)
		TAILQ_INSERT_AFTER(list, b, a, entry);
	else
		TAILQ_INSERT_HEAD(list, a, entry);
}

static void pair_new(struct pikepairs *q, int dirfd, const char *name)
{
	struct pair *a = calloc(1, sizeof(*a)), **found = NULL;

	if (!a)
		return;
	a->stem = strndup(name, strlen(name) - strlen(".done"));
	a->seen_usec = time_mono_usec();
	if (a->stem && pikefile_time(dirfd, a->stem, &a->mtime, NULL) == 0)
		found = tsearch(a, &q->known, compare_stems);
	if (!found || *found != a) {
		free(a->stem);
		free(a);
		return;
	}
	insert(&q->unread, a);
}

void pikepairs_init(struct pikepairs *q)
{
	*q = (struct pikepairs){ .known = NULL };
	TAILQ_INIT(&q->unread);
	TAILQ_INIT(&q->queue);
}

void pikepairs_done(struct pikepairs *q)
{
	struct pair *a;

	while ((a = TAILQ_FIRST(&q->queue)) || (a = TAILQ_FIRST(&q->unread)))
		pikepairs_drop(q, a);
}

int pikepairs_list(struct pikepairs *q, int dirfd, struct err *e)
{
	auto_strv char **names = NULL;
	int r = dirfile_list(dirfd, ".done", &names, e);

	q->listed_usec = time_mono_usec();
	for (char **n = names; n && *n && r == 0; n++) {
		auto_free char *stem = strndup(*n, strlen(*n) - strlen(".done"));
		const struct pair key = { .stem = stem };

		if (stem && !tfind(&key, &q->known, compare_stems))
			pair_new(q, dirfd, *n);
	}
	return r;
}

void pikepairs_enqueue(struct pikepairs *q, struct pair *a)
{
	TAILQ_REMOVE(&q->unread, a, entry);
	a->queued = true;
	q->n_queued++;
	insert(&q->queue, a);
}

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

static void leave_list(struct pikepairs *q, struct pair *a)
{
	TAILQ_REMOVE(a->list, a, entry);
	q->n_queued -= a->list == &q->queue;
}

void pikepairs_drop(struct pikepairs *q, struct pair *a)
{
	tdelete(a, &q->known, compare_stems);
	leave_list(q, a);
	free(a->stem);
	free(a);
}

void pikepairs_spend(struct pikepairs *q, struct pair *a)
{
	leave_list(q, a);
	a->list = &q->spent;
	TAILQ_INSERT_TAIL(&q->spent, a, entry);
}

static bool is_before(const struct pair *a, const struct pair *b)
{
	if (a->mtime.tv_sec != b->mtime.tv_sec)
		return a->mtime.tv_sec < b->mtime.tv_sec;
	if (a->mtime.tv_nsec != b->mtime.tv_nsec)
		return a->mtime.tv_nsec < b->mtime.tv_nsec;
	return strcmp(a->stem, b->stem) < 0;
}

static int compare_times(const void *a, const void *b)
{
	const struct pair *x = *(struct pair *const *)a, *y = *(struct pair *const *)b;

	return is_before(x, y) ? -1 : 1;
}

/* Behind the last one of `list` that is before it, up to `b`, where the search begins. */
static void insert(struct pair_list *list, struct pair *b, struct pair *a)
{
	while (b && is_before(a, b))
		b = TAILQ_PREV(b, pair_list, entry);
	a->list = list;
	if (b)
		TAILQ_INSERT_AFTER(list, b, a, entry);
	else
		TAILQ_INSERT_HEAD(list, a, entry);
}

/* NULL: it has gone, or there is no memory. */
static struct pair *pair_new(struct pikepairs *q, int dirfd, const char *name)
{
	struct pair *a = calloc(1, sizeof(*a)), **found = NULL;

	if (!a)
		return NULL;
	a->stem = strndup(name, strlen(name) - strlen(".done"));
	a->seen_usec = time_mono_usec();
	if (a->stem && pikefile_time(dirfd, a->stem, &a->mtime, NULL) == 0)
		found = tsearch(a, &q->known, compare_stems);
	if (found && *found == a)
		return a;
	free(a->stem);
	free(a);
	return NULL;
}

static bool is_known(const struct pikepairs *q, const char *name)
{
	auto_free char *stem = strndup(name, strlen(name) - strlen(".done"));
	const struct pair key = { .stem = stem };

	return !stem || tfind(&key, &q->known, compare_stems);
}

/* Both in the order of time, so that many that come at once cost no more than reading them. */
static void merge(struct pair_list *list, struct pair **fresh, size_t n)
{
	struct pair *b = TAILQ_LAST(list, pair_list);

	while (n--) {
		insert(list, b, fresh[n]);
		b = TAILQ_PREV(fresh[n], pair_list, entry);
	}
}

void pikepairs_init(struct pikepairs *q)
{
	*q = (struct pikepairs){ .known = NULL };
	TAILQ_INIT(&q->unread);
	TAILQ_INIT(&q->queue);
	TAILQ_INIT(&q->spent);
}

void pikepairs_done(struct pikepairs *q)
{
	struct pair *a;

	while ((a = TAILQ_FIRST(&q->queue)) || (a = TAILQ_FIRST(&q->unread)) ||
	       (a = TAILQ_FIRST(&q->spent)))
		pikepairs_drop(q, a);
}

int pikepairs_list(struct pikepairs *q, int dirfd, struct err *e)
{
	uint64_t since = time_mono_usec();
	auto_free struct pair **fresh = NULL;
	auto_strv char **names = NULL;
	size_t n_fresh = 0;
	int r = dirfile_list(dirfd, ".done", &names, e);

	if (r == 0)
		fresh = calloc(strv_len(names) + 1, sizeof(struct pair *));
	if (r == 0 && !fresh)
		r = err_nomem(e);
	for (char **n = names; n && *n && r == 0; n++)
		if (!is_known(q, *n) && (fresh[n_fresh] = pair_new(q, dirfd, *n)))
			n_fresh++;
	if (n_fresh) {
		qsort(fresh, n_fresh, sizeof(struct pair *), compare_times);
		merge(&q->unread, fresh, n_fresh);
	}
	dirpace_note(&q->pace, since, time_mono_usec());
	return r;
}

void pikepairs_enqueue(struct pikepairs *q, struct pair *a)
{
	TAILQ_REMOVE(&q->unread, a, entry);
	q->n_queued++;
	insert(&q->queue, TAILQ_LAST(&q->queue, pair_list), a);
}

uint64_t pikepairs_due(const struct pikepairs *q, bool scan)
{
	return dirpace_due(&q->pace, time_mono_usec(), scan, q->n_queued);
}

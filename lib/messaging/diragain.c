/* SPDX-License-Identifier: MIT */
#include "messaging/diragain.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/time.h"

struct again {
	TAILQ_ENTRY(again) entry;
	char *file;
	uint64_t due_usec;
};

void diragain_init(struct diragain *a)
{
	TAILQ_INIT(&a->list);
}

static void forget(struct diragain *a, struct again *one)
{
	TAILQ_REMOVE(&a->list, one, entry);
	free(one->file);
	free(one);
}

void diragain_done(struct diragain *a)
{
	struct again *one;

	while ((one = TAILQ_FIRST(&a->list)))
		forget(a, one);
}

int diragain_add(struct diragain *a, const char *file, uint64_t delay_usec, struct err *e)
{
	struct again *one;

	TAILQ_FOREACH (one, &a->list, entry)
		if (str_eq(one->file, file))
			return 0;
	one = calloc(1, sizeof(*one));
	if (!one)
		return err_nomem(e);
	one->file = strdup(file);
	one->due_usec = time_mono_usec() + delay_usec;
	TAILQ_INSERT_TAIL(&a->list, one, entry);
	if (one->file)
		return 0;
	forget(a, one);
	return err_nomem(e);
}

int diragain_release(struct diragain *a, const struct dirtree *t, bool all, struct err *e)
{
	uint64_t now = time_mono_usec();
	struct again *one, *next;
	int r;

	for (one = TAILQ_FIRST(&a->list); one; one = next) {
		next = TAILQ_NEXT(one, entry);
		if (!all && one->due_usec > now)
			continue;
		r = dirtree_let_go(t, one->file, e);
		/* Somebody has removed it, or others took it for that of a lost worker. */
		if (r < 0 && r != -ENOENT)
			return r;
		forget(a, one);
	}
	return 0;
}

/* SPDX-License-Identifier: MIT */
#include "messaging/tellings.h"

#include <stdlib.h>

struct telling {
	TAILQ_ENTRY(telling) entry;
	channel_told_fn told;
	void *user;
};

static void tell_all(struct tellings *t, bool arrived)
{
	struct telling *one;

	while ((one = TAILQ_FIRST(&t->list))) {
		TAILQ_REMOVE(&t->list, one, entry);
		one->told(one->user, arrived);
		free(one);
	}
}

static void on_soon(void *user)
{
	tell_all(user, true);
}

int tellings_init(struct tellings *t, struct loop *l, struct err *e)
{
	TAILQ_INIT(&t->list);
	return loop_defer(l, on_soon, t, &t->soon, e);
}

int tellings_add(struct tellings *t, channel_told_fn told, void *user, struct err *e)
{
	struct telling *one = malloc(sizeof(*one));

	if (!one)
		return err_nomem(e);
	*one = (struct telling){ .told = told, .user = user };
	TAILQ_INSERT_TAIL(&t->list, one, entry);
	loop_defer_arm(t->soon);
	return 0;
}

void tellings_done(struct tellings *t)
{
	tell_all(t, false);
	t->soon = loop_src_free(t->soon);
}

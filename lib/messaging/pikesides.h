/* SPDX-License-Identifier: MIT */
/*
 * All pairs of folders that a worker of the dialect pike serves (pikeside.h), first those it was told
 * to, then those of former workers that it only owes answers.
 */
#ifndef ZR_MESSAGING_PIKESIDES_H
#define ZR_MESSAGING_PIKESIDES_H

#include <stddef.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/str.h"
#include "messaging/channel.h"
#include "messaging/pikeside.h"

struct pikesides {
	struct pikeside **side;
	size_t n, turn; /* the next one to be served */
	struct loop *loop;
	const struct pikeside_ops *ops;
	void *user; /* of the ops and of on_drain, which gets the side */
	const struct pikelines *lines;
	void (*on_drain)(void *side);
};
void pikesides_done(struct pikesides *p);

/* Those of `conf`. -EEXIST, ERR_INPUT: one is named twice. */
int pikesides_open(struct pikesides *p, const struct pike_conf *conf, struct err *e) must_check;
/* The one whose answers go to `output` (NULL: the first), made if it is none of ours. It may be that
 * it cannot be opened now. */
int pikesides_of(struct pikesides *p, const char *output, struct pikeside **ret,
		 struct err *e) must_check;
/* In turn, so that a driver who asks for much does not keep the others waiting. NULL: nobody waits. */
struct pikeside *pikesides_next(struct pikesides *p);

/* The file `name` says which folders were closed, so that nobody comes for what lies there. */
int pikesides_write_mark(const struct pikesides *p, int dirfd, const char *name,
			 struct err *e) must_check;
/* What it said, and removes it. NULL data: there was none. */
void pikesides_take_mark(int dirfd, const char *name, struct buf *ret);
bool pikesides_is_marked(const struct buf *mark, const struct pikeside *s);

#endif

/* SPDX-License-Identifier: MIT */
/* Those who have told their state to a channel that is a folder, and wait to hear that it is there. */
#ifndef ZR_MESSAGING_TELLINGS_H
#define ZR_MESSAGING_TELLINGS_H

#include <sys/queue.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/loop.h"
#include "messaging/channel.h"

struct telling;

struct tellings {
	TAILQ_HEAD(, telling) list;
	struct loop_src *soon;
};

int tellings_init(struct tellings *t, struct loop *l, struct err *e) must_check;
/* `told` is called once, from the loop. Not called if this fails. */
int tellings_add(struct tellings *t, channel_told_fn told, void *user, struct err *e) must_check;
/* Who still waits hears that it is not known to be there. All zero is fine. */
void tellings_done(struct tellings *t);

#endif

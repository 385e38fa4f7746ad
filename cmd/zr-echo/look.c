/* SPDX-License-Identifier: MIT */
/* Looking at what waits in a queue: everything goes back. */
#include <stdio.h>

#include "base/log.h"
#include "echo.h"
#include "messaging/session.h"

#define TIMEOUT_USEC (30 * USEC_PER_SEC)

struct look {
	const struct echo_conf *conf;
	bool stopped;
};

static int show(void *user, const struct delivery *d)
{
	struct look *l = user;

	l->stopped = !echo_print(d, l->conf->json);
	return l->stopped;
}

/* What stays unsettled returns to its place when the connection closes. */
static int look(struct look *l, struct session *s, struct err *e)
{
	const struct broker_call count = { .type = BROKER_QUEUE_DECLARE,
					   .queue = l->conf->queue,
					   .passive = true };
	struct broker_reply reply = { 0 };
	uint64_t n;
	int r = session_call(s, &count, &reply, e);

	if (r == 0 && reply.code)
		r = err_input(e, "queue %s: %s", l->conf->queue, reply.text);
	if (r < 0)
		return r;
	n = reply.messages;
	if (l->conf->count && l->conf->count < n)
		n = l->conf->count;
	return n ? session_get(s, l->conf->queue, n, show, l, e) : 0;
}

int echo_look(const struct echo_conf *conf)
{
	struct look l = { .conf = conf };
	auto_obj(session) s = NULL;
	struct err e = { 0 };
	int r = session_new(conf->settings, "zr-echo", TIMEOUT_USEC, &s, &e);

	if (r == 0)
		r = look(&l, s, &e);
	if (r < 0) {
		log_err("%s", e.msg);
		return e.kind == ERR_INPUT ? ECHO_USAGE : ECHO_FAILED;
	}
	return l.stopped ? ECHO_FAILED : ECHO_DONE;
}

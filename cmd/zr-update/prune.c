/* SPDX-License-Identifier: MIT */
#include "prune.h"

#include <stdlib.h>

#include "base/log.h"
#include "leader.h"
#include "store/events.h"

#define EVERY_USEC  (3600 * USEC_PER_SEC)
#define PAUSE_USEC  (200 * USEC_PER_MSEC)
#define EVALUATIONS 50 /* looked at in a step */
#define EVENTS      1000

struct prune {
	struct update *update;
	struct loop_src *timer; /* the next step of a round */
	bool running;           /* a round is under way */
	uint64_t next_usec;     /* no round before */
	int64_t after;          /* evaluation */
	int64_t removed, parked;
};

static void round_over(struct prune *p)
{
	if (p->removed || p->parked)
		log_info("%lld events and %lld parked events were older than event_retention",
			 (long long)p->removed, (long long)p->parked);
	p->running = false;
	p->next_usec = time_mono_usec() + EVERY_USEC;
}

static void on_step(void *user, const struct db_outcome *o)
{
	struct prune *p = user;
	struct events_pruned done;

	if (o->class != DB_OK) {
		(void)update_failed(p->update, "remove old events", o);
		round_over(p);
		return;
	}
	events_pruned(o->rows[0], &done);
	p->removed += done.removed;
	p->parked += done.parked;
	if (done.more || done.parked == EVENTS) {
		/* Parked ones may be left when the others are done: from the end once more. */
		p->after = done.more ? done.reached : INT64_MAX;
		loop_timer_set(p->timer, PAUSE_USEC);
	} else {
		round_over(p);
	}
}

static void step(struct prune *p)
{
	struct update *u = p->update;
	struct db_args a = { 0 };

	events_prune_args(&a, u->settings->event_retention_usec, p->after, EVALUATIONS, EVENTS);
	if (u->draining || !leader_is_me(u->leader) ||
	    db_pipe_send(u->work, &events_prune_stmt, &a, on_step, p, NULL) < 0)
		round_over(p);
}

static void on_timer(void *user)
{
	step(user);
}

void prune_poke(struct prune *p)
{
	if (p->running || time_mono_usec() < p->next_usec)
		return;
	p->running = true;
	p->after = 0;
	p->removed = p->parked = 0;
	step(p);
}

int prune_new(struct update *u, struct prune **ret, struct err *e)
{
	auto_obj(prune) p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return err_nomem(e);
	p->update = u;
	r = loop_timer(u->loop, USEC_INFINITY, on_timer, p, &p->timer, e);
	if (r == 0)
		*ret = take_ptr(p);
	return r;
}

void prune_free(struct prune *p)
{
	if (!p)
		return;
	loop_src_free(p->timer);
	free(p);
}

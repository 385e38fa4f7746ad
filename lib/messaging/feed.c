/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * While there is work, places are filled by basic.get through the queues in their order; only when
 * all were empty consumers wait, one per queue with a prefetch of 1, until every place is taken.
 * What a consumer brings when the last place has just gone is given back; what was on its way when
 * places that are free were withdrawn, for a drain, is still taken.
 *
 *	CLOSED   no place is free, or not connected: nothing is asked for
 *	GETTING  queue by queue; a message starts again at the first. A queue that was empty a moment
 *	         ago is not asked again: under load it would be asked once per message of the others
 *	BATCH    from a queue that gives one message after the other a consumer takes as many as
 *	         there are places: of a quorum queue a get costs the broker four times a delivery.
 *	         The first acknowledgement ends it, or else each would bring one more
 *	ENDING   until the broker has said that the consumer brings no more
 *	WAITING  all queues were empty: consumers
 *
 * A queue that those before it have left behind often enough has one turn before them, or else it
 * would starve while they are never empty.
 *
 * When short jobs follow each other, a moment is spent on gathering free places for a batch.
 */
#include "messaging/feed.h"

#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "base/str.h"
#include "base/time.h"

/* What comes into an emptied queue of high priority waits at most so long behind others. */
#define EMPTY_USEC (100 * USEC_PER_MSEC)
/* So many messages of queues before it (and what a batch of them brings) overtake those of a queue. */
#define OVERTAKEN_MAX 16
/* Work that came within this time promises more of it. */
#define BUSY_USEC (50 * USEC_PER_MSEC)
/* From so many messages in a row and for so many places at least a batch is taken. */
#define BATCH_HITS 3
#define BATCH_MIN  3
/* A batch that has brought nothing for so long is over. */
#define BATCH_USEC (5 * USEC_PER_MSEC)
/* Free places are gathered for so long, if most of all are not free before: a batch costs the broker
 * about the same for one as for eight. */
#define GATHER_USEC (12 * USEC_PER_MSEC)

struct work_queue {
	char *name;
	struct broker_consumer *consumer; /* NULL: never needed yet */
	uint64_t empty_usec;              /* when it was last seen empty */
	unsigned hits;                    /* messages since then, without a pause */
	unsigned overtaken;               /* messages of queues before it, since it was asked */
};

enum state {
	CLOSED,
	GETTING,
	BATCH,
	ENDING,
	WAITING,
};

struct feed {
	struct broker *broker;
	const struct feed_ops *ops;
	void *user;
	struct work_queue *queues;
	size_t n_queues;

	unsigned want, places; /* free now; the most there ever were */
	unsigned promised;     /* free, but not for more than what is on its way */
	unsigned pausing;      /* consumers of which something may still be on its way */
	bool up;
	enum state state;
	size_t asked; /* the queue that is asked, one at a time */
	bool turn;    /* it is asked although those before it were not */
	bool get_sent, gathering;
	bool freed;        /* a place has become free since the last were filled */
	uint64_t hit_usec; /* the last message came then */

	unsigned batch;         /* messages still to come */
	bool cut_short;         /* it was ended before it was over */
	struct loop_src *timer; /* of the batch, or of the gathering */
};

static void open_feed(struct feed *f);

/* The next step after one that has brought what it could. */
static void go_on(struct feed *f)
{
	f->state = CLOSED;
	if (f->want == 0)
		f->ops->on_idle(f->user);
	open_feed(f);
}

/* --- consumers that wait ---------------------------------------------------------------------- */

static void consume(struct feed *f, struct work_queue *q, unsigned prefetch)
{
	const struct broker_consume spec = { .queue = q->name, .prefetch = (uint16_t)prefetch };
	struct err e = { 0 };
	char text[sizeof(e.msg) + 300];

	if (q->consumer) {
		broker_resume(q->consumer, spec.prefetch);
		return;
	}
	if (broker_consume(f->broker, &spec, &q->consumer, &e) == 0)
		return;
	snprintf(text, sizeof(text), "requests of %s cannot be taken: %s", q->name, e.msg);
	f->ops->on_report(f->user, LOG_ERR, text);
}

static void wait_all(struct feed *f)
{
	f->state = WAITING;
	for (size_t i = 0; i < f->n_queues; i++)
		consume(f, &f->queues[i], 1);
}

static void pause_all(struct feed *f)
{
	for (size_t i = 0; i < f->n_queues; i++)
		if (f->queues[i].consumer)
			broker_pause(f->queues[i].consumer, NULL, NULL);
	f->state = CLOSED;
}

static void on_paused(void *user)
{
	struct feed *f = user;

	if (!f->pausing || --f->pausing || f->want)
		return;
	f->ops->on_idle(f->user);
}

/* What they bring until then is still taken. */
static void pause_for_good(struct feed *f)
{
	f->state = CLOSED;
	for (size_t i = 0; i < f->n_queues; i++)
		f->pausing += f->queues[i].consumer != NULL;
	for (size_t i = 0; i < f->n_queues; i++)
		if (f->queues[i].consumer)
			broker_pause(f->queues[i].consumer, on_paused, f);
}

/* --- one by one, and in batches --------------------------------------------------------------- */

/* The first queue from `i` on that is worth asking; n_queues: none. */
static size_t next_queue(const struct feed *f, size_t i)
{
	uint64_t now = time_mono_usec();

	while (i < f->n_queues && f->queues[i].empty_usec &&
	       now - f->queues[i].empty_usec < EMPTY_USEC)
		i++;
	return i;
}

/* n_queues: none has to be asked before its time. */
static size_t overtaken_queue(const struct feed *f)
{
	size_t i = 0;

	while (i < f->n_queues && f->queues[i].overtaken < OVERTAKEN_MAX)
		i++;
	return i;
}

static void seen_empty(struct work_queue *q)
{
	q->overtaken = 0;
	q->empty_usec = time_mono_usec();
	q->hits = 0;
}

static void start_batch(struct feed *f)
{
	f->state = BATCH;
	f->cut_short = false;
	f->batch = f->want;
	loop_timer_set(f->timer, BATCH_USEC);
	consume(f, &f->queues[f->asked], f->batch);
}

static void on_got(void *user, const struct broker_reply *r);

static void ask(struct feed *f, size_t from)
{
	struct work_queue *q;
	struct broker_call call = { .type = BROKER_GET };

	f->asked = from == 0 ? overtaken_queue(f) : f->n_queues;
	f->turn = f->asked < f->n_queues;
	if (!f->turn)
		f->asked = next_queue(f, from);
	if (f->asked == f->n_queues) {
		wait_all(f);
		return;
	}
	f->state = GETTING;
	q = &f->queues[f->asked];
	call.queue = q->name;
	if (!f->turn && q->hits >= BATCH_HITS && f->want >= BATCH_MIN)
		start_batch(f);
	else if (broker_call(f->broker, &call, on_got, f, NULL) == 0)
		f->get_sent = true;
	else
		f->state = CLOSED;
}

static void on_got(void *user, const struct broker_reply *r)
{
	struct feed *f = user;

	f->get_sent = false;
	if (f->state != GETTING)
		return;
	if (r->code) {
		/* Not connected any more, or the queue is gone: the consumers watch for both. */
		f->state = CLOSED;
		if (f->up && f->want)
			wait_all(f);
		else if (f->want == 0)
			f->ops->on_idle(f->user);
		return;
	}
	if (r->empty)
		seen_empty(&f->queues[f->asked]);
	if (r->empty && f->want && f->up)
		ask(f, f->turn ? 0 : f->asked + 1);
	else
		go_on(f);
}

static void on_batch_over(void *user)
{
	struct feed *f = user;

	if (f->state != ENDING)
		return;
	/* Empty, or the broker is slow: a get will tell. */
	if (f->batch > 0 && !f->cut_short)
		f->queues[f->asked].hits = 0;
	go_on(f);
}

static void end_batch(struct feed *f)
{
	struct broker_consumer *c = f->queues[f->asked].consumer;

	f->state = ENDING;
	loop_timer_set(f->timer, USEC_INFINITY);
	if (c)
		broker_pause(c, on_batch_over, f);
	else
		on_batch_over(f);
}

static void fill(struct feed *f)
{
	f->gathering = f->freed = false;
	ask(f, 0);
}

/* Most of the places, or what there is after a moment. What is free since the start is filled first. */
static bool gathers(struct feed *f)
{
	if (!f->freed || f->want >= f->places - f->places / 4 ||
	    time_mono_usec() - f->hit_usec >= BUSY_USEC)
		return false;
	if (!f->gathering)
		loop_timer_set(f->timer, GATHER_USEC);
	f->gathering = true;
	return true;
}

static void open_feed(struct feed *f)
{
	if (!f->up || f->state != CLOSED || f->want == 0 || f->get_sent || gathers(f))
		return;
	loop_timer_set(f->timer, USEC_INFINITY);
	fill(f);
}

static void on_timer(void *user)
{
	struct feed *f = user;

	f->gathering = false;
	if (f->state == BATCH)
		end_batch(f);
	else if (f->state == CLOSED && f->up && f->want && !f->get_sent)
		fill(f);
}

/* --- the caller's side ------------------------------------------------------------------------ */

static struct work_queue *queue_of(struct feed *f, const struct broker_consumer *c)
{
	for (size_t i = 0; i < f->n_queues; i++)
		if (f->queues[i].consumer == c)
			return &f->queues[i];
	return NULL;
}

/* One after the other comes also from whoever waits for each: more than one at work is a queue. */
static bool is_filling(const struct feed *f, const struct work_queue *q)
{
	return q->hits >= BATCH_HITS && f->want >= BATCH_MIN && f->want + BATCH_HITS <= f->places;
}

/* With a prefetch of 1 a queue that has filled comes one by one. */
static void wake(struct feed *f)
{
	pause_all(f);
	ask(f, 0);
}

static void count(struct feed *f, struct work_queue *q)
{
	uint64_t now = time_mono_usec();

	q->overtaken = 0;
	for (struct work_queue *behind = q + 1; behind < f->queues + f->n_queues; behind++)
		behind->overtaken++;
	q->hits = now - f->hit_usec < BUSY_USEC ? q->hits + 1 : 1;
	f->hit_usec = now;
	if (f->state != BATCH && f->state != ENDING)
		return;
	f->batch -= f->batch > 0;
	if (f->state == BATCH)
		loop_timer_set(f->timer, BATCH_USEC);
}

void feed_delivery(struct feed *f, const struct delivery *d)
{
	struct work_queue *q = d->consumer ? queue_of(f, d->consumer) : &f->queues[f->asked];
	unsigned *place = f->want ? &f->want : &f->promised;

	if (!q || *place == 0) {
		(void)broker_reject(f->broker, d->ref, true);
		return;
	}
	count(f, q);
	--*place; /* before, for the call may say what is free now */
	if (!f->ops->on_request(f->user, d, q->name))
		++*place;
	if (f->state == BATCH && (f->want == 0 || f->batch == 0))
		end_batch(f);
	else if (f->state == WAITING && f->want == 0)
		pause_all(f);
	else if (f->state == WAITING && is_filling(f, q))
		wake(f);
}

int feed_ack(struct feed *f, struct delivery_ref ref)
{
	if (f->state == BATCH) {
		f->cut_short = true;
		end_batch(f);
	}
	return broker_ack_soon(f->broker, ref);
}

void feed_want(struct feed *f, unsigned n)
{
	bool withdrawn = n == 0 && f->want > 0;

	f->freed = f->freed || n > f->want;
	if (withdrawn)
		f->promised = f->want;
	else if (n > 0)
		f->promised = f->pausing = 0;
	f->want = n;
	if (n > f->places)
		f->places = n;
	if (withdrawn && f->state == WAITING)
		pause_for_good(f);
	else if (n == 0 && f->state == WAITING)
		pause_all(f);
	else if (n == 0 && f->state == BATCH)
		end_batch(f);
	open_feed(f);
}

void feed_up(struct feed *f, bool up)
{
	f->up = up;
	if (up)
		open_feed(f);
	else if (f->state == BATCH)
		end_batch(f);
}

bool feed_brings_more(const struct feed *f)
{
	return f->state == BATCH && f->up;
}

bool feed_is_idle(const struct feed *f)
{
	return (f->state == CLOSED || f->state == WAITING) && !f->pausing;
}

void feed_free(struct feed *f)
{
	if (!f)
		return;
	loop_src_free(f->timer);
	for (size_t i = 0; i < f->n_queues; i++)
		free(f->queues[i].name);
	free(f->queues);
	free(f);
}

static int name_queues(struct feed *f, char *const *queues, struct err *e)
{
	f->queues = calloc(strv_len(queues) + 1, sizeof(*f->queues));
	if (!f->queues)
		return err_nomem(e);
	for (char *const *n = queues; *n; n++) {
		f->queues[f->n_queues].name = strdup(*n);
		if (!f->queues[f->n_queues++].name)
			return err_nomem(e);
	}
	return 0;
}

int feed_new(struct loop *l, struct broker *b, char *const *queues, const struct feed_ops *ops,
	     void *user, struct feed **ret, struct err *e)
{
	struct feed *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return err_nomem(e);
	f->broker = b;
	f->ops = ops;
	f->user = user;
	r = name_queues(f, queues, e);
	if (r == 0)
		r = loop_timer(l, USEC_INFINITY, on_timer, f, &f->timer, e);
	if (r < 0) {
		feed_free(f);
		return r;
	}
	*ret = f;
	return 0;
}

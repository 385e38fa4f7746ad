/* SPDX-License-Identifier: MIT */
#include "messaging/publisher.h"

#include <string.h>
#include <sys/queue.h>

#include "base/str.h"
#include "messaging/stash.h"
#include "messaging/topology.h"

/* A publication that the broker refused is tried again after this. */
#define AGAIN_USEC USEC_PER_SEC
/* What no queue takes waits for an operator to make one; it is tried again after this. */
#define UNROUTED_USEC (10 * USEC_PER_SEC)

/* What a cookie means: the number of a record of the spool, or one of these. */
#define COOKIE_SEND ((uint64_t)1 << 62) /* | number of a struct send */
#define COOKIE_NONE ((uint64_t)1 << 63) /* an event that is not durable */

struct send {
	TAILQ_ENTRY(send) entry;
	uint64_t cookie;
	publisher_done_fn done;
	void *user;
};

struct publisher {
	const struct publisher_ops *ops;
	void *user;
	struct broker *broker;
	struct stash *stash;
	uint64_t cursor; /* the last record that was handed to the broker */
	TAILQ_HEAD(, send) sends;
	uint64_t last_send;
	struct loop_src *again;
	bool up;
	bool unrouted; /* said since the last try */
};

printf_like(2, 3) static void warn(const struct publisher *p, const char *fmt, ...)
{
	char text[640];
	va_list ap;

	if (!p->ops->on_warning)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	p->ops->on_warning(p->user, text);
}

/* --- sending ------------------------------------------------------------------------------- */

/* What can never be sent is kept where an operator finds it. */
static void park(struct publisher *p, uint64_t id, const char *routing_key, const char *why)
{
	auto_free char *key = strdup(routing_key ? routing_key : "?");
	struct err e = { 0 };

	if (!key || stash_park(p->stash, id, &e) < 0)
		/* It stays in the spool, and is tried again at the next start. */
		warn(p, "an event for '%s' cannot be parked: %s", STR_ESC(key), e.msg);
	else if (p->ops->on_parked)
		p->ops->on_parked(p->user, key, why);
}

static int publish_record(struct publisher *p, const struct stash_record *rec, uint64_t id,
			  struct err *e)
{
	const struct publication pub = { .exchange = TOPOLOGY_EXCHANGE,
					 .routing_key = rec->key,
					 .message_id = rec->id,
					 .body = rec->body,
					 .n = rec->n };

	return rec->key ? broker_publish(p->broker, &pub, id, e)
			: err_input(e, "it is not a record of this program");
}

/* Hands durable records to the broker until it has enough. */
static void pump(struct publisher *p)
{
	struct err e = { 0 };

	while (p->up) {
		struct stash_record rec;
		uint64_t id = p->cursor;
		int r = stash_next(p->stash, &id, &rec, &e);

		if (r == 0)
			return;
		if (r < 0) {
			warn(p, "%s", e.msg);
			return;
		}
		r = publish_record(p, &rec, id, &e);
		if (r == -EAGAIN)
			return;
		p->cursor = id;
		if (r < 0)
			park(p, id, rec.key, e.msg);
	}
}

static void on_durable(void *user, uint64_t id)
{
	struct publisher *p = user;

	if (p->ops->on_durable)
		p->ops->on_durable(p->user, id);
	pump(p);
}

static void on_stash_warning(void *user, const char *text)
{
	warn(user, "%s", text);
}

static bool on_note(void *user, uint64_t id, const char *name, const void *body, size_t n)
{
	struct publisher *p = user;

	return p->ops->on_note && p->ops->on_note(p->user, id, name, body, n);
}

static const struct stash_ops stash_calls = {
	.on_durable = on_durable,
	.on_warning = on_stash_warning,
	.on_note = on_note,
};

static void on_again(void *user)
{
	struct publisher *p = user;

	p->cursor = 0;
	p->unrouted = false;
	pump(p);
}

static void durable_outcome(struct publisher *p, uint64_t id, enum broker_outcome o,
			    const char *why)
{
	switch (o) {
	case BROKER_CONFIRMED:
		stash_drop(p->stash, id);
		if (p->ops->on_confirmed)
			p->ops->on_confirmed(p->user, id);
		break;
	case BROKER_RETURNED:
		/* An end of an evaluation that nobody can hear yet must not get lost. */
		if (!p->unrouted)
			warn(p, "%s; events wait on disk: run 'zr topology:apply'", why);
		p->unrouted = true;
		loop_timer_set(p->again, UNROUTED_USEC);
		break;
	case BROKER_REFUSED:
		loop_timer_set(p->again, AGAIN_USEC);
		break;
	case BROKER_LOST:
		break; /* on_ready() begins anew */
	}
}

static void send_outcome(struct publisher *p, uint64_t cookie, enum broker_outcome o,
			 const char *why)
{
	struct send *s;

	TAILQ_FOREACH (s, &p->sends, entry)
		if (s->cookie == cookie)
			break;
	if (!s)
		return;
	TAILQ_REMOVE(&p->sends, s, entry);
	s->done(s->user, o, why);
	free(s);
}

static void on_outcome(void *user, uint64_t cookie, enum broker_outcome o, const char *why)
{
	struct publisher *p = user;

	if (cookie & COOKIE_SEND)
		send_outcome(p, cookie, o, why);
	else if (!(cookie & COOKIE_NONE))
		durable_outcome(p, cookie, o, why);
}

static void on_ready(void *user)
{
	struct publisher *p = user;

	p->up = true;
	p->cursor = 0;
	if (p->ops->on_state)
		p->ops->on_state(p->user, true, NULL);
	pump(p);
}

static void on_down(void *user, const struct err *why)
{
	struct publisher *p = user;

	p->up = false;
	if (p->ops->on_state)
		p->ops->on_state(p->user, false, why);
}

static void on_room(void *user)
{
	pump(user);
}

static const struct broker_ops broker_calls = {
	.on_ready = on_ready,
	.on_down = on_down,
	.on_outcome = on_outcome,
	.on_room = on_room,
};

int publisher_event(struct publisher *p, const char *routing_key, const char *message_id,
		    const void *body, size_t n, bool durable, uint64_t *ret_id, struct err *e)
{
	const struct publication pub = { .exchange = TOPOLOGY_EXCHANGE,
					 .routing_key = routing_key,
					 .message_id = message_id,
					 .body = body,
					 .n = n,
					 .unrouted_ok = true };

	if (!durable) {
		/* Dropped when the broker is away or has enough to do. */
		if (p->up)
			(void)!broker_publish(p->broker, &pub, COOKIE_NONE, NULL);
		return 0;
	}
	return stash_event(p->stash, routing_key, message_id, body, n, ret_id, e);
}

int publisher_send(struct publisher *p, const struct publication *pub, publisher_done_fn done,
		   void *user, struct err *e)
{
	struct send *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_nomem(e);
	*s = (struct send){ .cookie = COOKIE_SEND | ++p->last_send, .done = done, .user = user };
	TAILQ_INSERT_TAIL(&p->sends, s, entry);
	r = broker_publish(p->broker, pub, s->cookie, e);
	if (r < 0) {
		TAILQ_REMOVE(&p->sends, s, entry);
		free(s);
	}
	return r;
}

int publisher_new(struct loop *l, const struct broker_conf *conf, const char *dir,
		  uint64_t bytes_max, const struct publisher_ops *ops, void *user,
		  struct publisher **ret, struct err *e)
{
	auto_obj(publisher) p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return err_nomem(e);
	p->ops = ops;
	p->user = user;
	TAILQ_INIT(&p->sends);
	r = loop_timer(l, USEC_INFINITY, on_again, p, &p->again, e);
	if (r == 0)
		r = stash_open(l, dir, bytes_max, &stash_calls, p, &p->stash, e);
	if (r == 0)
		r = broker_new(l, conf, &broker_calls, p, &p->broker, e);
	if (r < 0)
		return r;
	*ret = take_ptr(p);
	return 0;
}

void publisher_free(struct publisher *p)
{
	struct send *s;

	if (!p)
		return;
	broker_free(p->broker);
	stash_free(p->stash);
	while ((s = TAILQ_FIRST(&p->sends))) {
		TAILQ_REMOVE(&p->sends, s, entry);
		s->done(s->user, BROKER_LOST, "the publisher was closed");
		free(s);
	}
	loop_src_free(p->again);
	free(p);
}

bool publisher_is_up(const struct publisher *p)
{
	return p->up;
}

struct stash *publisher_stash(const struct publisher *p)
{
	return p->stash;
}

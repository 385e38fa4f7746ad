/* SPDX-License-Identifier: MIT */
/* Consumers: each on a channel of its own, set up again after every loss. */
#include <inttypes.h>
#include <string.h>

#include "messaging/broker_int.h"

#define RETRY_USEC (3 * USEC_PER_SEC)

static void send_consume(struct broker *b, struct broker_consumer *c)
{
	struct broker_header args[2];
	amqp_table_entry_t entries[ARRAY_LEN(args)];
	size_t n = 0;
	uint64_t offset;
	amqp_basic_consume_t consume = {
		.queue = amqp_cstring_bytes(c->spec.queue),
		.no_ack = c->spec.no_ack,
		.exclusive = c->spec.exclusive,
	};

	if (c->spec.priority)
		args[n++] = (struct broker_header){ .name = "x-priority",
						    .type = BROKER_HEADER_INT,
						    .number = c->spec.priority };
	if (c->spec.stream_offset) {
		const char *from = *c->offset ? c->offset : c->spec.stream_offset;

		args[n] = (struct broker_header){ .name = "x-stream-offset", .text = from };
		if (str_u64(from, &offset) == 0) {
			args[n].type = BROKER_HEADER_INT;
			args[n].number = (int64_t)offset;
		}
		n++;
	}
	/* A new name each time: to a quorum queue a cancelled consumer is the same one until all it
	 * was given is settled, with what is left of its credit. */
	snprintf(c->tag, sizeof(c->tag), "zr-%u", ++b->tags);
	consume.consumer_tag = amqp_cstring_bytes(c->tag);
	consume.arguments = wire_table(args, n, entries);
	c->state = CONSUMER_STARTING;
	broker_send(b, c->chan->id, AMQP_BASIC_CONSUME_METHOD, &consume);
}

static struct chan *free_channel(struct broker *b)
{
	for (unsigned id = CHANNEL_FIRST_CONSUMER; id <= CHANNEL_MAX; id++)
		if (!b->chans[id] || !b->chans[id]->open)
			return chan_open(b, (uint16_t)id);
	broker_lost_protocol(b, "more consumers than channels");
	return NULL;
}

static void start(struct broker *b, struct broker_consumer *c)
{
	amqp_basic_qos_t qos = { .prefetch_count = c->spec.prefetch ? c->spec.prefetch : 1 };

	if (c->state != CONSUMER_PAUSED || !c->chan) {
		c->qos = 0;
		c->chan = free_channel(b);
		if (!c->chan)
			return;
		c->chan->consumer = c;
	}
	if (c->qos != qos.prefetch_count)
		broker_send(b, c->chan->id, AMQP_BASIC_QOS_METHOD, &qos);
	c->qos = qos.prefetch_count;
	if (c->chan)
		send_consume(b, c);
}

static bool is_off(const struct broker_consumer *c)
{
	return c->state == CONSUMER_IDLE || c->state == CONSUMER_PAUSED ||
	       c->state == CONSUMER_LOST;
}

void consumers_start(struct broker *b)
{
	for (struct broker_consumer *c = b->consumers; c; c = c->next) {
		if (b->state != BROKER_READY)
			return;
		if (c->wanted && is_off(c))
			start(b, c);
		/* Losing the connection may have freed consumers. */
		if (b->state != BROKER_READY)
			return;
	}
}

/* A pause that was waited for is one now. */
static void say_paused(struct broker_consumer *c)
{
	void (*done)(void *) = c->done;

	c->done = NULL;
	if (done)
		done(c->done_user);
}

void consumers_drop_all(struct broker *b)
{
	for (struct broker_consumer *c = b->consumers; c; c = c->next) {
		c->chan = NULL;
		c->state = CONSUMER_IDLE;
	}
	/* A callback may free consumers: from the start after each. */
	for (struct broker_consumer *c = b->consumers; c;) {
		if (c->done) {
			say_paused(c);
			c = b->consumers;
		} else {
			c = c->next;
		}
	}
}

void consumer_deliver(struct broker *b, struct chan *ch, const struct delivery *d)
{
	if (d->stream_offset != UINT64_MAX)
		snprintf(ch->consumer->offset, sizeof(ch->consumer->offset), "%" PRIu64,
			 d->stream_offset + 1);
	BROKER_CALL(b, on_delivery, d);
}

static void send_cancel(struct broker_consumer *c)
{
	amqp_basic_cancel_t cancel = { .consumer_tag = amqp_cstring_bytes(c->tag) };

	c->state = CONSUMER_PAUSING;
	broker_send(c->b, c->chan->id, AMQP_BASIC_CANCEL_METHOD, &cancel);
}

/* RabbitMQ 3.10 closes the connection if a consumer is cancelled before it has said this. */
void consumer_started(struct chan *ch)
{
	struct broker_consumer *c = ch->consumer;

	if (!c || c->state != CONSUMER_STARTING)
		return;
	c->state = CONSUMER_ACTIVE;
	if (!c->wanted)
		send_cancel(c);
}

void consumer_cancelled(struct broker *b, struct chan *ch)
{
	struct broker_consumer *c = ch->consumer;

	if (!c || c->state != CONSUMER_PAUSING)
		return;
	c->state = CONSUMER_PAUSED;
	if (c->wanted)
		start(b, c);
	say_paused(c);
}

void consumer_lost(struct broker_consumer *c, const char *why)
{
	struct broker *b = c->b;

	c->state = CONSUMER_LOST;
	loop_timer_set(b->consumers_retry, RETRY_USEC);
	if (c->done)
		say_paused(c);
	else
		BROKER_CALL(b, on_consumer_lost, c, why);
}

/* --- for the owner --- */

static void consumer_release(struct broker_consumer *c)
{
	free((void *)(uintptr_t)c->spec.queue);
	free((void *)(uintptr_t)c->spec.stream_offset);
	free(c);
}

int broker_consume(struct broker *b, const struct broker_consume *spec,
		   struct broker_consumer **ret, struct err *e)
{
	struct broker_consumer *c = calloc(1, sizeof(*c));

	if (!c)
		return err_nomem(e);
	c->b = b;
	c->spec = *spec;
	c->spec.queue = strdup(spec->queue);
	c->spec.stream_offset = spec->stream_offset ? strdup(spec->stream_offset) : NULL;
	if (!c->spec.queue || (spec->stream_offset && !c->spec.stream_offset)) {
		consumer_release(c);
		return err_nomem(e);
	}
	c->wanted = true;
	c->next = b->consumers;
	b->consumers = c;
	*ret = c;
	broker_enter(b);
	if (b->state == BROKER_READY)
		start(b, c);
	broker_leave(b);
	return 0;
}

void broker_pause(struct broker_consumer *c, void (*done)(void *user), void *user)
{
	struct broker *b = c->b;

	c->wanted = false;
	c->done = done;
	c->done_user = user;
	broker_enter(b);
	if (c->state == CONSUMER_ACTIVE)
		send_cancel(c);
	else if (is_off(c))
		say_paused(c);
	broker_leave(b);
}

void broker_resume(struct broker_consumer *c, uint16_t prefetch)
{
	struct broker *b = c->b;

	if (prefetch)
		c->spec.prefetch = prefetch;
	c->wanted = true;
	broker_enter(b);
	if (b->state == BROKER_READY && is_off(c) && c->state != CONSUMER_LOST)
		start(b, c);
	broker_leave(b);
}

void broker_consumer_free(struct broker_consumer *c)
{
	struct broker *b;

	if (!c)
		return;
	b = c->b;
	for (struct broker_consumer **p = &b->consumers; *p; p = &(*p)->next) {
		if (*p == c) {
			*p = c->next;
			break;
		}
	}
	broker_enter(b);
	if (c->chan)
		chan_close(b, c->chan);
	consumer_release(c);
	broker_leave(b);
}

const char *broker_consumer_queue(const struct broker_consumer *c)
{
	return c->spec.queue;
}

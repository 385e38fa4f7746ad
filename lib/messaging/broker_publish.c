/* SPDX-License-Identifier: MIT */
/* The window of publications that have no confirm yet. */
#include <string.h>

#include "messaging/broker_int.h"

static struct in_flight *slot(struct broker *b, uint64_t tag)
{
	return &b->flight[tag % BROKER_WINDOW];
}

/* FNV-1a: enough to tell some thousand publications of our own apart. */
static uint64_t flight_key(const char *message_id, const char *routing_key)
{
	uint64_t h = 0xcbf29ce484222325u;
	const char *texts[] = { message_id, routing_key };

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		for (const char *p = texts[i]; p && *p; p++)
			h = (h ^ (unsigned char)*p) * 0x100000001b3u;
	return h;
}

void publish_start(struct broker *b)
{
	amqp_confirm_select_t select = { 0 };

	b->next_tag = b->base_tag = 1;
	b->flight_bytes = 0;
	if (chan_open(b, CHANNEL_PUBLISH))
		broker_send(b, CHANNEL_PUBLISH, AMQP_CONFIRM_SELECT_METHOD, &select);
}

void publish_room(struct broker *b)
{
	if (!b->wants_room || b->blocked || b->state != BROKER_READY ||
	    b->next_tag - b->base_tag >= BROKER_WINDOW / 2)
		return;
	b->wants_room = false;
	BROKER_CALL(b, on_room);
}

static void settle_one(struct broker *b, uint64_t tag, enum broker_outcome o, const char *why)
{
	struct in_flight *f = slot(b, tag);

	if (f->settled)
		return;
	f->settled = true;
	b->flight_bytes -= f->bytes;
	if (f->returned) {
		o = BROKER_RETURNED;
		why = f->why;
	}
	BROKER_CALL(b, on_outcome, f->cookie, o, why);
}

void publish_settle(struct broker *b, uint64_t tag, bool multiple, bool ack)
{
	enum broker_outcome o = ack ? BROKER_CONFIRMED : BROKER_REFUSED;
	const char *why = ack ? "" : "the broker did not take the message";
	uint64_t last = multiple && tag == 0 ? b->next_tag - 1 : tag;

	if (last >= b->next_tag) {
		broker_lost_protocol(b, "a confirm for what was not published");
		return;
	}
	for (uint64_t t = multiple ? b->base_tag : last; t >= b->base_tag && t <= last; t++) {
		settle_one(b, t, o, why);
		/* A callback that ended the connection has emptied the window. */
		if (b->state != BROKER_READY)
			return;
	}
	while (b->base_tag < b->next_tag && slot(b, b->base_tag)->settled)
		b->base_tag++;
	publish_room(b);
}

/* A return names no number; its acknowledgement comes later and does. */
void publish_returned(struct broker *b, const struct content *c)
{
	uint64_t key = flight_key(c->props.message_id, c->routing_key);

	for (uint64_t t = b->base_tag; t < b->next_tag; t++) {
		struct in_flight *f = slot(b, t);

		if (f->settled || f->returned || f->key != key)
			continue;
		f->returned = true;
		snprintf(f->why, sizeof(f->why), "no queue takes routing key '%.80s'",
			 c->routing_key);
		return;
	}
}

void publish_drop_all(struct broker *b, const char *why)
{
	uint64_t end = b->next_tag;

	if (b->role != BROKER_PUBLISH)
		return;
	for (uint64_t t = b->base_tag; t < end; t++)
		settle_one(b, t, BROKER_LOST, why);
	b->base_tag = b->next_tag;
	b->wants_room = false;
}

/* 0, or why it must wait. */
static int may_publish(struct broker *b, size_t n, struct err *e)
{
	if (b->state != BROKER_READY)
		return err_set(e, EAGAIN, ERR_TRANSIENT, "%s: not connected", b->where);
	if (n > b->message_max)
		return err_set(e, EMSGSIZE, ERR_INPUT,
			       "a message of %zu bytes, more than the %llu "
			       "allowed (message_max)",
			       n, (unsigned long long)b->message_max);
	b->wants_room = true;
	if (b->blocked)
		return err_set(e, EAGAIN, ERR_TRANSIENT,
			       "%s: the broker has an alarm and takes no messages", b->where);
	if (b->next_tag - b->base_tag >= BROKER_WINDOW ||
	    (b->flight_bytes && b->flight_bytes + n > BROKER_WINDOW_BYTES))
		return err_set(e, EAGAIN, ERR_TRANSIENT, "%s: too many messages without confirm",
			       b->where);
	b->wants_room = false;
	return 0;
}

int broker_publish(struct broker *b, const struct publication *p, uint64_t cookie, struct err *e)
{
	int r = may_publish(b, p->n, e);
	struct in_flight *f;

	if (r < 0)
		return r;
	r = wire_put_content(transport_out(b->transport), CHANNEL_PUBLISH, p, b->frame_max);
	if (r == -EMSGSIZE)
		return err_set(e, EMSGSIZE, ERR_INPUT,
			       "the message's routing key or headers are too long");
	if (r < 0)
		return err_nomem(e);
	f = slot(b, b->next_tag++);
	*f = (struct in_flight){ .cookie = cookie,
				 .key = flight_key(p->message_id, p->routing_key),
				 .bytes = (uint32_t)p->n };
	b->flight_bytes += p->n;
	transport_kick(b->transport);
	return 0;
}

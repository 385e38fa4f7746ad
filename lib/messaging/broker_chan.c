/* SPDX-License-Identifier: MIT */
/* AMQP channels: opening and closing, and the messages that arrive on them frame by frame. */
#include <inttypes.h>
#include <string.h>

#include "messaging/broker_int.h"

/* --- opening and closing --- */

struct chan *chan_open(struct broker *b, uint16_t id)
{
	struct chan *ch = b->chans[id];
	amqp_channel_open_t open = { 0 };

	if (ch && ch->open)
		return ch;
	if (!ch) {
		ch = calloc(1, sizeof(*ch));
		if (!ch) {
			broker_lost_nomem(b);
			return NULL;
		}
		ch->id = id;
		ch->calls_end = &ch->calls;
		b->chans[id] = ch;
	}
	ch->life = ++b->lives;
	ch->acks = (struct acks){ 0 };
	ch->open = true;
	/* The broker handles what follows in order: nobody waits for open-ok. */
	broker_send(b, id, AMQP_CHANNEL_OPEN_METHOD, &open);
	return b->chans[id];
}

static void content_done(struct content *c)
{
	wire_properties_done(&c->props);
	buf_done(&c->body);
	*c = (struct content){ 0 };
}

/* The calls stay: they are answered by whoever drops them. */
static void chan_reset(struct chan *ch)
{
	content_done(&ch->content);
	ch->open = ch->closing = false;
	if (ch->consumer)
		ch->consumer->chan = NULL;
	ch->consumer = NULL;
}

void chan_close(struct broker *b, struct chan *ch)
{
	amqp_channel_close_t c = { .reply_code = AMQP_REPLY_SUCCESS,
				   .reply_text = amqp_cstring_bytes("done") };

	chan_send_acks(b);
	if (ch->consumer)
		ch->consumer->chan = NULL;
	ch->consumer = NULL;
	ch->closing = true;
	broker_send(b, ch->id, AMQP_CHANNEL_CLOSE_METHOD, &c);
}

void chan_drop_all(struct broker *b)
{
	for (size_t i = 0; i <= CHANNEL_MAX; i++) {
		struct chan *ch = b->chans[i];

		if (!ch)
			continue;
		chan_reset(ch);
		/* Calls wait for their answer, which calls_drop_all() gives. */
		if (!ch->calls) {
			free(ch);
			b->chans[i] = NULL;
		}
	}
}

struct chan *chan_of(const struct broker *b, struct delivery_ref ref)
{
	struct chan *ch = ref.channel <= CHANNEL_MAX ? b->chans[ref.channel] : NULL;

	return ch && ch->open && !ch->closing && ch->life == ref.life ? ch : NULL;
}

static const char *refused_cure(unsigned code, const char *text)
{
	if (code == AMQP_PRECONDITION_FAILED && strstr(text, "timed out"))
		return "; the broker's consumer_timeout is shorter than a delivery was held: raise "
		       "it in rabbitmq.conf";
	return "";
}

/* The broker closed one channel: everything else goes on. */
static void chan_refused(struct broker *b, struct chan *ch, const amqp_channel_close_t *c)
{
	struct broker_consumer *consumer;
	amqp_channel_close_ok_t ok = { 0 };
	struct err e = { 0 };
	char text[256], why[512];

	wire_text(text, sizeof(text), c->reply_text);
	snprintf(why, sizeof(why), "%u %s%s", c->reply_code, STR_ESC(text),
		 refused_cure(c->reply_code, text));
	broker_send(b, ch->id, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok);
	if (ch->closing) {
		chan_reset(ch);
	} else if (ch->id == CHANNEL_PUBLISH) {
		/* What was in flight has no answer any more: begin anew. */
		err_set(&e, EPROTO, ERR_TRANSIENT, "%s%s", why,
			c->reply_code == AMQP_NOT_FOUND ? "; run 'zr topology:apply'" : "");
		broker_lost(b, &e);
	} else if (ch->consumer) {
		consumer = ch->consumer;
		chan_reset(ch);
		consumer_lost(consumer, why);
	} else {
		chan_reset(ch);
		calls_refused(b, ch, c->reply_code, text);
	}
}

/* --- messages --- */

static bool content_begin(struct broker *b, struct content *c, int type, amqp_bytes_t exchange,
			  amqp_bytes_t routing_key)
{
	if (c->type != CONTENT_NONE) {
		broker_lost_protocol(b, "a message begins before the last one ended");
		return false;
	}
	c->type = (__typeof__(c->type))type;
	wire_text(c->exchange, sizeof(c->exchange), exchange);
	wire_text(c->routing_key, sizeof(c->routing_key), routing_key);
	return true;
}

static void on_deliver(struct broker *b, struct chan *ch, const amqp_basic_deliver_t *m)
{
	if (!content_begin(b, &ch->content, CONTENT_DELIVER, m->exchange, m->routing_key))
		return;
	ch->content.tag = m->delivery_tag;
	ch->content.redelivered = m->redelivered;
}

static void on_get_ok(struct broker *b, struct chan *ch, const amqp_basic_get_ok_t *m)
{
	if (!content_begin(b, &ch->content, CONTENT_GET, m->exchange, m->routing_key))
		return;
	ch->content.tag = m->delivery_tag;
	ch->content.redelivered = m->redelivered;
}

const char *delivery_header(const struct delivery *d, const char *name)
{
	for (size_t i = 0; i < d->n_headers; i++)
		if (d->headers[i].type == BROKER_HEADER_TEXT && str_eq(d->headers[i].name, name))
			return d->headers[i].text;
	return NULL;
}

static uint64_t header_number(const struct delivery *d, const char *name, uint64_t absent)
{
	for (size_t i = 0; i < d->n_headers; i++)
		if (d->headers[i].type == BROKER_HEADER_INT && d->headers[i].number >= 0 &&
		    str_eq(d->headers[i].name, name))
			return (uint64_t)d->headers[i].number;
	return absent;
}

static void hand_over(struct broker *b, struct chan *ch, const struct content *c)
{
	struct delivery d = {
		.ref = { ch->life, ch->id, c->tag },
		.consumer = ch->consumer,
		.exchange = c->exchange,
		.routing_key = c->routing_key,
		.redelivered = c->redelivered,
		.content_type = c->props.content_type,
		.message_id = c->props.message_id,
		.app_id = c->props.app_id,
		.headers = c->props.headers,
		.n_headers = c->props.n_headers,
		.bad_headers = c->props.bad,
		.body = c->drop_body   ? NULL
			: c->body.data ? c->body.data
				       : "",
		.size = (size_t)c->props.body_size,
		.too_large = c->drop_body,
	};

	d.delivery_count = header_number(&d, "x-delivery-count", 0);
	d.stream_offset = header_number(&d, "x-stream-offset", UINT64_MAX);
	d.death_sec = c->props.death_sec;
	d.death_reason = delivery_header(&d, "x-first-death-reason");
	d.death_queue = delivery_header(&d, "x-first-death-queue");
	if (ch->consumer)
		consumer_deliver(b, ch, &d);
	else
		BROKER_CALL(b, on_delivery, &d);
}

/* The callback may end the connection, and the channel with it: the message is taken out before. */
static void content_complete(struct broker *b, struct chan *ch)
{
	struct content c = ch->content;
	struct broker_reply got = { .text = "", .queue = "" };
	uint32_t life = ch->life;
	uint16_t id = ch->id;

	ch->content = (struct content){ 0 };
	if (c.type == CONTENT_RETURN)
		publish_returned(b, &c);
	else if (!ch->closing)
		hand_over(b, ch, &c);
	if (c.type == CONTENT_GET && b->chans[id] == ch && ch->life == life)
		calls_reply(b, ch, &got);
	content_done(&c);
}

void chan_header(struct broker *b, const struct wire_frame *f)
{
	struct chan *ch = f->channel <= CHANNEL_MAX ? b->chans[f->channel] : NULL;
	struct content *c = ch ? &ch->content : NULL;
	struct err e = { 0 };

	if (!c || c->type == CONTENT_NONE || c->has_header) {
		if (c && !ch->closing)
			broker_lost_protocol(b, "a message's header without a message");
		return;
	}
	if (wire_properties(f, &c->props, &e) < 0) {
		broker_lost(b, &e);
		return;
	}
	c->has_header = true;
	c->drop_body = c->type == CONTENT_RETURN || c->props.body_size > b->message_max;
	if (!c->drop_body && buf_reserve(&c->body, (size_t)c->props.body_size) < 0)
		broker_lost_nomem(b);
	else if (c->props.body_size == 0)
		content_complete(b, ch);
}

void chan_body(struct broker *b, const struct wire_frame *f)
{
	struct chan *ch = f->channel <= CHANNEL_MAX ? b->chans[f->channel] : NULL;
	struct content *c = ch ? &ch->content : NULL;

	if (!c || !c->has_header || f->size > c->props.body_size - c->received) {
		if (c && !ch->closing)
			broker_lost_protocol(b, "more of a message than was announced");
		return;
	}
	c->received += f->size;
	if (!c->drop_body && buf_add(&c->body, f->payload, f->size) < 0)
		broker_lost_nomem(b);
	else if (c->received == c->props.body_size)
		content_complete(b, ch);
}

/* --- methods --- */

static void on_declared(struct broker *b, struct chan *ch, const amqp_queue_declare_ok_t *ok)
{
	char name[256];
	struct broker_reply r = {
		.text = "",
		.queue = wire_text(name, sizeof(name), ok->queue),
		.messages = ok->message_count,
		.consumers = ok->consumer_count,
	};

	calls_reply(b, ch, &r);
}

/* Answers to declarations and gets. False: it is none. */
static bool reply_method(struct broker *b, struct chan *ch, const amqp_method_t *m)
{
	struct broker_reply r = { .text = "", .queue = "" };

	switch (m->id) {
	case AMQP_QUEUE_DECLARE_OK_METHOD:
		on_declared(b, ch, m->decoded);
		return true;
	case AMQP_QUEUE_DELETE_OK_METHOD:
	case AMQP_QUEUE_BIND_OK_METHOD:
	case AMQP_EXCHANGE_DECLARE_OK_METHOD:
		calls_reply(b, ch, &r);
		return true;
	case AMQP_BASIC_GET_EMPTY_METHOD:
		r.empty = true;
		calls_reply(b, ch, &r);
		return true;
	case AMQP_BASIC_GET_OK_METHOD:
		on_get_ok(b, ch, m->decoded);
		return true;
	default:
		return false;
	}
}

static bool publish_method(struct broker *b, struct chan *ch, const amqp_method_t *m)
{
	const amqp_basic_ack_t *ack = m->decoded;
	const amqp_basic_nack_t *nack = m->decoded;
	const amqp_basic_return_t *returned = m->decoded;

	switch (m->id) {
	case AMQP_BASIC_ACK_METHOD:
		publish_settle(b, ack->delivery_tag, ack->multiple, true);
		return true;
	case AMQP_BASIC_NACK_METHOD:
		publish_settle(b, nack->delivery_tag, nack->multiple, false);
		return true;
	case AMQP_BASIC_RETURN_METHOD:
		content_begin(b, &ch->content, CONTENT_RETURN, returned->exchange,
			      returned->routing_key);
		return true;
	case AMQP_CONFIRM_SELECT_OK_METHOD:
		return true;
	default:
		return false;
	}
}

static bool consumer_method(struct broker *b, struct chan *ch, const amqp_method_t *m)
{
	struct broker_consumer *consumer = ch->consumer;

	if (!consumer)
		return false;
	switch (m->id) {
	case AMQP_BASIC_DELIVER_METHOD:
		on_deliver(b, ch, m->decoded);
		return true;
	case AMQP_BASIC_CANCEL_METHOD:
		chan_close(b, ch);
		consumer_lost(consumer,
			      "the broker cancelled the consumer: its queue was deleted, or a "
			      "delivery was held longer than its consumer_timeout");
		return true;
	case AMQP_BASIC_CANCEL_OK_METHOD:
		consumer_cancelled(b, ch);
		return true;
	case AMQP_BASIC_CONSUME_OK_METHOD:
		consumer_started(ch);
		return true;
	case AMQP_BASIC_QOS_OK_METHOD:
		return true;
	default:
		return false;
	}
}

void chan_method(struct broker *b, uint16_t id, const amqp_method_t *m)
{
	struct chan *ch = id <= CHANNEL_MAX ? b->chans[id] : NULL;

	/* Late frames of a channel that is gone. */
	if (!ch || !ch->open)
		return;
	if (m->id == AMQP_CHANNEL_CLOSE_METHOD) {
		chan_refused(b, ch, m->decoded);
		return;
	}
	if (m->id == AMQP_CHANNEL_CLOSE_OK_METHOD && ch->closing) {
		chan_reset(ch);
		return;
	}
	if (m->id == AMQP_CHANNEL_OPEN_OK_METHOD)
		return;
	/* Messages on their way must still be taken apart. */
	if (ch->closing) {
		if (m->id == AMQP_BASIC_DELIVER_METHOD)
			on_deliver(b, ch, m->decoded);
		return;
	}
	if (!(ch->id == CHANNEL_PUBLISH         ? publish_method(b, ch, m)
	      : ch->id < CHANNEL_FIRST_CONSUMER ? reply_method(b, ch, m)
						: consumer_method(b, ch, m)))
		broker_lost_protocol(b, "a method came on a channel where it has no meaning");
}

/* --- settling --- */

bool broker_holds(const struct broker *b, struct delivery_ref ref)
{
	return chan_of(b, ref) != NULL;
}

int broker_ack(struct broker *b, struct delivery_ref ref, bool and_all_before)
{
	amqp_basic_ack_t ack = { .delivery_tag = ref.tag, .multiple = and_all_before };

	if (!chan_of(b, ref))
		return -ESTALE;
	acks_settled(&b->chans[ref.channel]->acks, ref.tag, and_all_before);
	broker_send(b, ref.channel, AMQP_BASIC_ACK_METHOD, &ack);
	return 0;
}

int broker_ack_soon(struct broker *b, struct delivery_ref ref)
{
	struct chan *ch = chan_of(b, ref);

	if (!ch || !acks_want(&ch->acks, ref.tag))
		return broker_ack(b, ref, false);
	loop_timer_set(b->acks, 0);
	return 0;
}

void chan_send_acks(struct broker *b)
{
	for (size_t id = 1; id <= CHANNEL_MAX; id++) {
		struct chan *ch = b->chans[id];
		amqp_basic_ack_t ack = { 0 };
		bool multiple;

		while (ch && ch->open && !ch->closing &&
		       acks_next(&ch->acks, &ack.delivery_tag, &multiple)) {
			ack.multiple = multiple;
			broker_send(b, (uint16_t)id, AMQP_BASIC_ACK_METHOD, &ack);
			ch = b->chans[id];
		}
	}
}

int broker_reject(struct broker *b, struct delivery_ref ref, bool requeue)
{
	amqp_basic_nack_t nack = { .delivery_tag = ref.tag, .requeue = requeue };

	if (!chan_of(b, ref))
		return -ESTALE;
	acks_settled(&b->chans[ref.channel]->acks, ref.tag, false);
	broker_send(b, ref.channel, AMQP_BASIC_NACK_METHOD, &nack);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * Declarations and gets: asked in order, answered in order. Gets are sent without waiting for each
 * other; a declaration waits for the one before, because a refusal closes the channel under all that
 * follow.
 */
#include <string.h>

#include "messaging/broker_int.h"

#define CONNECTION_GONE 320 /* AMQP: connection-forced */

static void call_free(struct call *c)
{
	const char **texts[] = { &c->spec.queue, &c->spec.exchange, &c->spec.exchange_type,
				 &c->spec.routing_key };

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		free((void *)(uintptr_t)*texts[i]);
	for (size_t i = 0; c->args && i < c->spec.n_args; i++) {
		free((void *)(uintptr_t)c->args[i].name);
		free((void *)(uintptr_t)c->args[i].text);
	}
	free(c->args);
	free(c);
}

static int copy(const char **text)
{
	if (!*text)
		*text = "";
	*text = strdup(*text);
	return *text ? 0 : -ENOMEM;
}

static int copy_args(struct call *c)
{
	c->args = calloc(c->spec.n_args + 1, sizeof(*c->args));
	if (!c->args)
		return -ENOMEM;
	for (size_t i = 0; i < c->spec.n_args; i++) {
		c->args[i] = c->spec.args[i];
		if (copy(&c->args[i].name) < 0 || copy(&c->args[i].text) < 0) {
			c->spec.n_args = i;
			return -ENOMEM;
		}
	}
	return 0;
}

static struct call *call_new(const struct broker_call *spec, broker_reply_fn fn, void *user)
{
	struct call *c = calloc(1, sizeof(*c));
	const char **texts[4];
	int r = 0;

	if (!c)
		return NULL;
	c->spec = *spec;
	c->fn = fn;
	c->user = user;
	texts[0] = &c->spec.queue;
	texts[1] = &c->spec.exchange;
	texts[2] = &c->spec.exchange_type;
	texts[3] = &c->spec.routing_key;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		r |= copy(texts[i]);
	if (r < 0)
		c->spec.n_args = 0;
	if (r < 0 || copy_args(c) < 0) {
		call_free(c);
		return NULL;
	}
	return c;
}

static void send_queue_declare(struct broker *b, struct chan *ch, const struct call *c)
{
	amqp_table_entry_t entries[WIRE_HEADERS_MAX];
	amqp_queue_declare_t m = {
		.queue = amqp_cstring_bytes(c->spec.queue),
		.passive = c->spec.passive,
		.durable = c->spec.durable,
		.exclusive = c->spec.exclusive,
		.auto_delete = c->spec.auto_delete,
		.arguments = wire_table(c->args, c->spec.n_args, entries),
	};

	broker_send(b, ch->id, AMQP_QUEUE_DECLARE_METHOD, &m);
}

static void send_exchange_declare(struct broker *b, struct chan *ch, const struct call *c)
{
	amqp_table_entry_t entries[WIRE_HEADERS_MAX];
	amqp_exchange_declare_t m = {
		.exchange = amqp_cstring_bytes(c->spec.exchange),
		.type = amqp_cstring_bytes(c->spec.exchange_type),
		.passive = c->spec.passive,
		.durable = c->spec.durable,
		.auto_delete = c->spec.auto_delete,
		.arguments = wire_table(c->args, c->spec.n_args, entries),
	};

	broker_send(b, ch->id, AMQP_EXCHANGE_DECLARE_METHOD, &m);
}

static void send_call(struct broker *b, struct chan *ch, struct call *c)
{
	amqp_queue_bind_t bind = { .queue = amqp_cstring_bytes(c->spec.queue),
				   .exchange = amqp_cstring_bytes(c->spec.exchange),
				   .routing_key = amqp_cstring_bytes(c->spec.routing_key) };
	amqp_queue_delete_t del = { .queue = amqp_cstring_bytes(c->spec.queue) };
	amqp_basic_get_t get = { .queue = amqp_cstring_bytes(c->spec.queue) };

	c->sent = true;
	switch (c->spec.type) {
	case BROKER_QUEUE_DECLARE:
		send_queue_declare(b, ch, c);
		return;
	case BROKER_QUEUE_BIND:
		broker_send(b, ch->id, AMQP_QUEUE_BIND_METHOD, &bind);
		return;
	case BROKER_QUEUE_DELETE:
		broker_send(b, ch->id, AMQP_QUEUE_DELETE_METHOD, &del);
		return;
	case BROKER_EXCHANGE_DECLARE:
		send_exchange_declare(b, ch, c);
		return;
	case BROKER_GET:
		broker_send(b, ch->id, AMQP_BASIC_GET_METHOD, &get);
		return;
	}
}

void calls_pump(struct broker *b, struct chan *ch)
{
	bool waiting = false;

	if (b->state != BROKER_READY || !ch->calls || !chan_open(b, ch->id))
		return;
	for (struct call *c = ch->calls; c && b->state == BROKER_READY; c = c->next) {
		if (!c->sent && waiting && c->spec.type != BROKER_GET)
			return;
		if (!c->sent)
			send_call(b, ch, c);
		waiting = true;
	}
}

void calls_reply(struct broker *b, struct chan *ch, const struct broker_reply *r)
{
	struct call *c = ch->calls;

	if (!c || !c->sent) {
		broker_lost_protocol(b, "the broker answered what nobody asked");
		return;
	}
	ch->calls = c->next;
	if (!ch->calls)
		ch->calls_end = &ch->calls;
	if (c->fn && !b->freed)
		c->fn(c->user, r);
	call_free(c);
	/* Still there? The callback may have ended the connection. */
	if (b->chans[CHANNEL_CALLS] == ch || b->chans[CHANNEL_GETS] == ch)
		calls_pump(b, ch);
}

void calls_refused(struct broker *b, struct chan *ch, int code, const char *text)
{
	struct broker_reply r = { .code = code, .text = text, .queue = "" };

	/* Those behind the refused one were not looked at. */
	for (struct call *c = ch->calls; c; c = c->next)
		c->sent = c == ch->calls;
	if (ch->calls)
		calls_reply(b, ch, &r);
}

static void drop_calls(struct broker *b, uint16_t id)
{
	static const struct broker_reply gone = { .code = CONNECTION_GONE,
						  .text = "the connection was lost",
						  .queue = "" };
	struct chan *ch = b->chans[id];

	/* A new call cannot come in between: the connection is not ready. */
	b->chans[id] = NULL;
	while (ch && ch->calls) {
		struct call *c = ch->calls;

		ch->calls = c->next;
		if (c->fn && !b->freed)
			c->fn(c->user, &gone);
		call_free(c);
	}
	free(ch);
}

void calls_drop_all(struct broker *b)
{
	drop_calls(b, CHANNEL_CALLS);
	drop_calls(b, CHANNEL_GETS);
}

int broker_call(struct broker *b, const struct broker_call *call, broker_reply_fn fn, void *user,
		struct err *e)
{
	struct call *c;
	struct chan *ch;

	if (b->state != BROKER_READY)
		return err_set(e, ENOTCONN, ERR_TRANSIENT, "%s: not connected", b->where);
	if (call->n_args > WIRE_HEADERS_MAX)
		return err_input(e, "more than %u arguments", WIRE_HEADERS_MAX);
	broker_enter(b);
	c = call_new(call, fn, user);
	ch = c ? chan_open(b, call->type == BROKER_GET ? CHANNEL_GETS : CHANNEL_CALLS) : NULL;
	if (ch) {
		*ch->calls_end = c;
		ch->calls_end = &c->next;
		calls_pump(b, ch);
	} else if (c) {
		call_free(c);
	}
	broker_leave(b);
	return ch ? 0 : err_nomem(e);
}

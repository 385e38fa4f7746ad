/* SPDX-License-Identifier: MIT */
#include "messaging/channel.h"

#include "base/id.h"
#include "messaging/stash.h"

void channel_free(struct channel *c)
{
	if (c)
		c->type->free(c);
}

void channel_close(struct channel *c, void (*done)(void *user), void *user)
{
	c->type->close(c, done, user);
}

void channel_want(struct channel *c, unsigned n)
{
	c->type->want(c, n);
}

bool channel_is_idle(const struct channel *c)
{
	return c->type->is_idle(c);
}

bool channel_brings_more(const struct channel *c)
{
	return c->type->brings_more && c->type->brings_more(c);
}

bool channel_holds(const struct channel *c, const struct channel_request *t)
{
	return c->type->holds(c, t);
}

int channel_ack(struct channel *c, struct channel_request *t)
{
	return c->type->ack(c, t);
}

int channel_dead(struct channel *c, struct channel_request *t, const char *reason,
		 const char *detail)
{
	return c->type->dead(c, t, reason, detail);
}

int channel_return(struct channel *c, struct channel_request *t)
{
	return c->type->give_back(c, t);
}

int channel_event(struct channel *c, const struct message_event *ev, bool durable, uint64_t *ret_id,
		  struct err *e)
{
	struct message m = { .type = MESSAGE_EVENT, .event = *ev };
	char id[UUID_LEN + 1], key[MESSAGE_KEY_MAX];
	auto_free char *body = NULL;
	size_t n = 0;
	int r;

	if (!m.event.id)
		m.event.id = id_uuid7(id);
	r = message_encode(&m, &body, &n, e);
	if (r < 0)
		return r;
	return c->type->event(c, message_key(key, &m), m.event.id, body, n, durable, ret_id, e);
}

int channel_worker(struct channel *c, const struct message_worker *w, channel_told_fn told,
		   void *user, struct err *e)
{
	const struct message m = { .type = MESSAGE_WORKER, .worker = *w };
	char id[UUID_LEN + 1], key[MESSAGE_KEY_MAX];
	auto_free char *body = NULL;
	size_t n = 0;
	int r = message_encode(&m, &body, &n, e);

	if (r < 0)
		return r;
	message_key(key, &m);
	id_uuid7(id);
	return told ? c->type->tell(c, key, id, body, n, told, user, e)
		    : c->type->event(c, key, id, body, n, false, NULL, e);
}

int channel_keep(struct channel *c, const char *name, const void *data, size_t n, uint64_t *ret_id,
		 struct err *e)
{
	return stash_note(c->stash, name, data, n, ret_id, e);
}

void channel_forget(struct channel *c, uint64_t id)
{
	stash_forget(c->stash, id);
}

int channel_sync(struct channel *c, struct err *e)
{
	return stash_sync(c->stash, e);
}

uint64_t channel_waiting(const struct channel *c)
{
	return stash_waiting(c->stash);
}

/* SPDX-License-Identifier: MIT */
#include "item.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"
#include "store/workers.h"

void item_free(struct item *it)
{
	if (!it)
		return;
	message_free(it->message);
	free(it->routing_key);
	free(it->message_id);
	free(it->body);
	free(it->json);
	free(it);
}
DEFINE_AUTO(item);

static void park(struct item *it, const char *reason, const char *detail)
{
	it->park = reason;
	snprintf(it->detail, sizeof(it->detail), "%s", detail);
}

static int fill_event(struct item *it, const struct message_event *ev)
{
	struct err e = { 0 };

	it->event = (struct store_event){
		.evaluation = ev->evaluation,
		.attempt = ev->attempt,
		.attempt_id = ev->attempt_id,
		.seq = ev->seq,
		.kind = message_kind_name(ev->kind),
		.at = time_text(it->at, ev->at_wall_usec),
		.host = ev->host,
		.worker = ev->worker,
	};
	it->json = js_text(ev->body);
	it->event.body = it->json;
	if (!it->json)
		return -ENOMEM;
	if (str_i64(ev->evaluation, &it->evaluation) < 0)
		park(it, "unknown-evaluation", "its name is not a number of this database");
	else if (events_check(&it->event, &e) < 0)
		park(it, "data", e.msg);
	return 0;
}

static int fill(struct item *it, enum message_bad *ret_bad, struct err *why)
{
	const struct message *m = it->message;

	if (m->type == MESSAGE_EVENT)
		return fill_event(it, &m->event);
	if (m->type == MESSAGE_WORKER) {
		(void)time_text(it->at, m->worker.at_wall_usec);
		it->json = js_text(m->json);
		return it->json ? 0 : -ENOMEM;
	}
	*ret_bad = MESSAGE_UNKNOWN_TYPE;
	(void)err_input(why, "a message of type '%s' in the queue of events",
			message_type_name(m->type));
	return 0;
}

/* Names come from strangers too, and the database takes only text. */
static char *copy_name(const char *name)
{
	char text[800];

	if (str_utf8_valid(name, strlen(name)))
		return strdup(name);
	return strdup(str_escape(text, sizeof(text), name, strlen(name)));
}

static int copy(struct item *it, const struct delivery *d)
{
	it->ref = d->ref;
	it->size = d->too_large ? 0 : d->size;
	it->routing_key = copy_name(d->routing_key);
	it->message_id = copy_name(d->message_id);
	it->body = malloc(it->size + 1);
	if (!it->routing_key || !it->message_id || !it->body)
		return -ENOMEM;
	if (it->size)
		memcpy(it->body, d->body, it->size);
	return 0;
}

struct item *item_new(const struct delivery *d, size_t max, enum message_bad *ret_bad,
		      struct err *why)
{
	auto_obj(item) it = calloc(1, sizeof(*it));

	*ret_bad = MESSAGE_GOOD;
	if (!it || copy(it, d) < 0)
		return NULL;
	*ret_bad = message_decode(it->body, it->size, max, &it->message, why);
	if (*ret_bad == MESSAGE_NO_MEMORY ||
	    (*ret_bad == MESSAGE_GOOD && fill(it, ret_bad, why) < 0))
		return NULL;
	return take_ptr(it);
}

bool item_is_event(const struct item *it)
{
	return !it->park && it->message->type == MESSAGE_EVENT;
}

/* Pieces of logs are for listeners. Who is neither an eval nor an update worker is of a later version. */
bool item_is_moot(const struct item *it)
{
	const struct message *m = it->message;

	if (m->type == MESSAGE_EVENT)
		return m->event.kind == MESSAGE_LOG;
	return m->type == MESSAGE_WORKER && m->worker.role &&
	       !str_eq(m->worker.role, MESSAGE_ROLE_UPDATE);
}

const struct db_stmt *item_statement(struct item *it, struct db_args *a)
{
	const struct message_worker *w;

	if (it->park) {
		events_park_args(a, it->message_id, it->routing_key, it->park, it->detail, it->body,
				 it->size);
		return &events_park_stmt;
	}
	w = &it->message->worker;
	if (w->role) {
		db_arg_text(a, it->at);
		return &workers_tick_stmt;
	}
	workers_beat_args(a, w->worker, w->host, it->at, it->json);
	return &workers_beat_stmt;
}

/* SPDX-License-Identifier: MIT */
#include "messaging/topology.h"

#include <string.h>

#include "base/id.h"
#include "base/str.h"

/* An explicit limit, because brokers differ in theirs (none before 4.0, then 20) and what exceeds
 * it should land in the dead queue and not vanish. High, because looking at a queue and every broken
 * connection count too: poison is counted by the worker. */
#define DELIVERY_LIMIT 1000
/* Looking at the dead queue hands its messages out and back: it must never wear them out. */
#define DEAD_DELIVERY_LIMIT 1000000000

#define MAX_ARGS 6

/* --- the table --- */

struct list {
	struct topology_item *items;
	size_t n;
};

static struct topology_item *add_item(struct list *l, enum topology_kind kind, const char *name)
{
	struct topology_item *p = reallocarray(l->items, l->n + 1, sizeof(*p));

	if (!p)
		return NULL;
	l->items = p;
	p += l->n;
	*p = (struct topology_item){ .kind = kind, .name = strdup(name) };
	if (!p->name)
		return NULL;
	l->n++;
	return p;
}

static int add_exchange(struct list *l, const char *name, const char *type)
{
	struct topology_item *p = add_item(l, TOPOLOGY_EXCHANGE_KIND, name);

	if (!p)
		return -ENOMEM;
	p->exchange_type = type;
	return 0;
}

/* A queue with its routing keys, NULL at their end. */
static int add_queue(struct list *l, enum topology_kind kind, const char *name, bool work,
		     const char *const *keys)
{
	struct topology_item *p = add_item(l, kind, name);

	if (!p)
		return -ENOMEM;
	p->work = work;
	for (size_t i = 0; keys[i]; i++) {
		p->bindings[i] = strdup(keys[i]);
		if (!p->bindings[i])
			return -ENOMEM;
	}
	return 0;
}

static int add_work_queue(struct list *l, const char *prefix, const char *key_prefix,
			  const char *name, const char *suffix)
{
	auto_free char *queue = NULL, *key = NULL;

	if (str_fmt(&queue, "%s%s%s", prefix, name, suffix) < 0 ||
	    str_fmt(&key, "%s%s%s", key_prefix, name, suffix) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < l->n; i++)
		if (str_eq(l->items[i].name, queue))
			return 0;
	return add_queue(l, TOPOLOGY_QUORUM, queue, true, (const char *const[]){ key, NULL });
}

static int add_host(struct list *l, const char *host)
{
	return add_work_queue(l, "zr.host.", "eval.host.", host, "");
}

static int add_pool(struct list *l, const char *pool)
{
	int r = add_work_queue(l, "zr.eval.", "eval.pool.", pool, ".high");

	return r < 0 ? r : add_work_queue(l, "zr.eval.", "eval.pool.", pool, "");
}

int topology_request_queue(const char *routing_key, char **ret)
{
	static const char *const prefixes[][2] = { { "eval.pool.", "zr.eval." },
						   { "eval.host.", "zr.host." } };

	for (size_t i = 0; i < ARRAY_LEN(prefixes); i++)
		if (str_starts(routing_key, prefixes[i][0]))
			return str_fmt(ret, "%s%s", prefixes[i][1],
				       routing_key + strlen(prefixes[i][0])) < 0
				       ? -ENOMEM
				       : 0;
	return -EINVAL;
}

static int add_fixed(struct list *l)
{
	static const char *const update[] = { "event.started.#",
					      "event.progress.#",
					      "event.completed.#",
					      "event.failed.#",
					      "event.canceled.#",
					      "event.worker.#",
					      NULL };
	static const char *const events[] = { "event.#", NULL };
	static const char *const control[] = { "control.#", NULL };
	static const char *const dead[] = { "", NULL };
	int r = add_exchange(l, TOPOLOGY_DEAD, "fanout");

	if (r == 0)
		r = add_queue(l, TOPOLOGY_QUORUM, TOPOLOGY_DEAD, false, dead);
	if (r < 0)
		return r;
	l->items[l->n - 1].binding_source = TOPOLOGY_DEAD;
	r = add_exchange(l, TOPOLOGY_EXCHANGE, "topic");
	if (r == 0)
		r = add_queue(l, TOPOLOGY_QUORUM, TOPOLOGY_UPDATE, true, update);
	if (r == 0)
		r = add_queue(l, TOPOLOGY_STREAM, TOPOLOGY_EVENTS, false, events);
	if (r == 0)
		r = add_queue(l, TOPOLOGY_STREAM, TOPOLOGY_CONTROL, false, control);
	return r;
}

/* The queue of pool "x.high" would be the one of pool "x" at high priority. */
static int check_pool(const char *pool, struct err *e)
{
	if (!id_valid(pool) || str_ends(pool, ".high"))
		return err_set(e, EINVAL, ERR_HOST,
			       "pool '%s': want a name of letters, digits, '.', '_' and '-' that "
			       "does not end in .high",
			       STR_ESC(pool));
	return 0;
}

int topology_list(const struct settings *s, struct topology_item **ret, size_t *ret_n,
		  struct err *e)
{
	struct list l = { 0 };
	int r = add_fixed(&l), bad = 0;

	for (size_t i = 0; r == 0 && s->pools && s->pools[i]; i++) {
		bad = check_pool(s->pools[i], e);
		r = bad < 0 ? bad : add_pool(&l, s->pools[i]);
	}
	if (r == 0)
		r = add_host(&l, s->host);
	for (size_t i = 0; r == 0 && i < s->n_hosts; i++)
		r = add_host(&l, s->hosts[i].name);
	if (r < 0) {
		topology_list_free(l.items, l.n);
		return bad < 0 ? bad : err_nomem(e);
	}
	*ret = l.items;
	*ret_n = l.n;
	return 0;
}

void topology_list_free(struct topology_item *items, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(items[i].name);
		for (size_t k = 0; k < ARRAY_LEN(items[i].bindings); k++)
			free(items[i].bindings[k]);
	}
	free(items);
}

int topology_work_queues(char *const *pools, const char *host, char ***ret, struct err *e)
{
	auto_strv char **v = NULL;
	int r = 0;

	for (size_t i = 0; r == 0 && pools && pools[i]; i++)
		r = strv_addf(&v, "zr.eval.%s.high", pools[i]);
	if (r == 0)
		r = strv_addf(&v, "zr.host.%s", host);
	for (size_t i = 0; r == 0 && pools && pools[i]; i++)
		r = strv_addf(&v, "zr.eval.%s", pools[i]);
	if (r < 0)
		return err_nomem(e);
	*ret = take_ptr(v);
	return 0;
}

/* --- asking the broker --- */

static struct broker_header text_arg(const char *name, const char *value)
{
	return (struct broker_header){ .name = name, .type = BROKER_HEADER_TEXT, .text = value };
}

static struct broker_header number_arg(const char *name, int64_t value)
{
	return (struct broker_header){ .name = name, .type = BROKER_HEADER_INT, .number = value };
}

static size_t item_args(const struct topology_item *it, struct broker_header *args)
{
	size_t n = 0;

	if (it->kind == TOPOLOGY_EXCHANGE_KIND) {
		return 0;
	} else if (it->kind == TOPOLOGY_STREAM) {
		args[n++] = text_arg("x-queue-type", "stream");
		args[n++] = text_arg("x-max-age", "7D");
		args[n++] = number_arg("x-max-length-bytes", (int64_t)2 << 30);
		args[n++] = number_arg("x-stream-max-segment-size-bytes", (int64_t)64 << 20);
		return n;
	}
	args[n++] = text_arg("x-queue-type", "quorum");
	args[n++] = number_arg("x-delivery-limit", it->work ? DELIVERY_LIMIT : DEAD_DELIVERY_LIMIT);
	if (it->work) {
		args[n++] = text_arg("x-dead-letter-exchange", TOPOLOGY_DEAD);
		args[n++] = text_arg("x-dead-letter-strategy", "at-least-once");
		args[n++] = text_arg("x-overflow", "reject-publish");
	}
	return n;
}

static const char *kind_name(const struct topology_item *it)
{
	return it->kind == TOPOLOGY_EXCHANGE_KIND ? "exchange" : "queue";
}

static int declare(struct session *s, const struct topology_item *it, bool passive,
		   struct broker_reply *ret, struct err *e)
{
	struct broker_header args[MAX_ARGS];
	struct broker_call call = {
		.type = it->kind == TOPOLOGY_EXCHANGE_KIND ? BROKER_EXCHANGE_DECLARE
							   : BROKER_QUEUE_DECLARE,
		.queue = it->name,
		.exchange = it->name,
		.exchange_type = it->exchange_type,
		.passive = passive,
		.durable = true,
		.args = args,
		.n_args = passive ? 0 : item_args(it, args),
	};

	return session_call(s, &call, ret, e);
}

static int bind(struct session *s, const struct topology_item *it, struct err *e)
{
	for (size_t i = 0; i < ARRAY_LEN(it->bindings) && it->bindings[i]; i++) {
		const struct broker_call call = {
			.type = BROKER_QUEUE_BIND,
			.queue = it->name,
			.exchange = it->binding_source ? it->binding_source : TOPOLOGY_EXCHANGE,
			.routing_key = it->bindings[i],
		};
		struct broker_reply reply = { 0 };
		int r = session_call(s, &call, &reply, e);

		if (r < 0)
			return r;
		if (reply.code)
			return err_set(e, EIO, ERR_INPUT, "bind queue %s to '%s': %d %s", it->name,
				       it->bindings[i], reply.code, reply.text);
	}
	return 0;
}

/* What the broker said to a declaration, as a sentence with the cure. */
static int refused(const struct topology_item *it, const struct broker_reply *r, struct err *e)
{
	const char *kind = kind_name(it);

	if (r->code == 406)
		return err_set(e, EEXIST, ERR_INPUT,
			       "%s %s exists with other properties than zr needs: empty it, delete "
			       "it (rabbitmqctl delete_queue, or the management page) and run 'zr "
			       "topology:apply' again (%s)",
			       kind, it->name, r->text);
	if (r->code == 403)
		return err_set(e, EACCES, ERR_INPUT,
			       "%s %s: the user of amqp_url may not declare it; it needs the "
			       "permissions configure, write and read on 'zr.*' (%s)",
			       kind, it->name, r->text);
	return err_set(e, EIO, ERR_INPUT, "%s %s: %d %s", kind, it->name, r->code, r->text);
}

static void report(topology_fn fn, void *user, const struct topology_item *it,
		   const struct broker_reply *r, const char *problem)
{
	const struct topology_state st = {
		.item = it,
		.present = r->code == 0 || r->code == 406,
		.ready = !problem,
		.problem = problem,
		.messages = r->messages,
		.consumers = r->consumers,
	};

	if (fn)
		fn(user, &st);
}

int topology_apply(struct session *s, const struct topology_item *items, size_t n, topology_fn fn,
		   void *user, struct err *e)
{
	for (size_t i = 0; i < n; i++) {
		struct broker_reply reply = { 0 };
		int r = declare(s, &items[i], false, &reply, e);

		if (r == 0 && reply.code)
			r = refused(&items[i], &reply, e);
		if (r == 0)
			r = bind(s, &items[i], e);
		if (r < 0) {
			if (e && reply.code)
				report(fn, user, &items[i], &reply, e->msg);
			return r;
		}
		report(fn, user, &items[i], &reply, NULL);
	}
	return 0;
}

/* Looks without making anything: a queue that is there can be declared again, and the broker says
 * 406 if its properties are others. Who may not declare has seen that it is there. */
static int look(struct session *s, const struct topology_item *it, struct broker_reply *ret,
		struct err *e)
{
	struct broker_reply again = { 0 };
	int r = declare(s, it, true, ret, e);

	if (r < 0 || ret->code)
		return r;
	r = declare(s, it, false, &again, e);
	if (r == 0 && again.code == 406)
		*ret = again;
	return r;
}

int topology_check(struct session *s, const struct topology_item *items, size_t n, topology_fn fn,
		   void *user, struct err *e)
{
	int bad = 0;

	for (size_t i = 0; i < n; i++) {
		struct broker_reply reply = { 0 };
		struct err why = { 0 };
		int r = look(s, &items[i], &reply, e);

		if (r < 0)
			return r;
		if (reply.code == 404)
			err_input(&why, "%s %s is missing: run 'zr topology:apply'",
				  kind_name(&items[i]), items[i].name);
		else if (reply.code)
			refused(&items[i], &reply, &why);
		bad += reply.code != 0;
		report(fn, user, &items[i], &reply, reply.code ? why.msg : NULL);
	}
	return bad;
}

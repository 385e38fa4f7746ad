/* SPDX-License-Identifier: MIT */
#include "outlet.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/failpoint.h"
#include "base/log.h"
#include "base/str.h"
#include "messaging/broker.h"
#include "messaging/topology.h"
#include "store/outbox.h"

/* Younger rows are their writer's: the command that wrote one publishes it itself. */
#define SWEEP_AGE_USEC (5 * USEC_PER_SEC)
#define SWEEP_ROWS     200
#define LETTERS_MAX    4096 /* beyond that the database keeps them */
#define PAUSE_USEC     USEC_PER_SEC
#define TICK_COOKIE    UINT64_MAX

struct letter {
	TAILQ_ENTRY(letter) link;
	uint64_t cookie;
	int64_t outbox_id; /* 0: not a row */
	bool sent;
	char *exchange, *routing_key, *message_id, *queue, *reason, *detail, *was_key;
	struct buf body;
	letter_fn done; /* NULL: nobody waits */
	void *user;
};
TAILQ_HEAD(letters, letter);

struct outlet {
	struct update *update;
	struct broker *broker;
	struct letters letters;
	size_t n;
	uint64_t cookies;
	struct loop_src *again; /* after a refusal */
	bool sweeping, down_said, ticking;
};

static void letter_free(struct letter *l)
{
	if (!l)
		return;
	free(l->exchange);
	free(l->routing_key);
	free(l->message_id);
	free(l->queue);
	free(l->reason);
	free(l->detail);
	free(l->was_key);
	buf_done(&l->body);
	free(l);
}
DEFINE_AUTO(letter);

void letter_forget(struct letter *l)
{
	l->done = NULL;
}

bool outlet_is_idle(const struct outlet *o)
{
	return TAILQ_EMPTY(&o->letters);
}

/* --- sending --------------------------------------------------------------------------------- */

static size_t letter_headers(const struct letter *l, struct broker_header h[4])
{
	const struct {
		const char *name, *text;
	} all[] = {
		{ "zr-reason", l->reason },
		{ "zr-detail", l->detail },
		{ "zr-queue", l->queue },
		{ "zr-routing-key", l->was_key },
	};
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		if (all[i].text)
			h[n++] = (struct broker_header){ .name = all[i].name,
							 .type = BROKER_HEADER_TEXT,
							 .text = all[i].text };
	return n;
}

static int send_letter(struct outlet *o, struct letter *l)
{
	struct broker_header headers[5];
	size_t n = letter_headers(l, headers);
	char now[TIME_TEXT_MAX];
	struct publication p = {
		.exchange = l->exchange ? l->exchange : "", /* to a queue by its name */
		.routing_key = l->routing_key,
		.body = l->body.data,
		.n = l->body.len,
		.message_id = l->message_id,
		.headers = headers,
		/* Nobody may hold a release or a cancel any more. */
		.unrouted_ok = false,
	};
	struct err e = { 0 };
	int r;

	if (n)
		headers[n++] = (struct broker_header){ .name = "zr-at",
						       .type = BROKER_HEADER_TEXT,
						       .text = time_text(now, time_wall_usec()) };
	p.n_headers = n;
	FAILPOINT("outbox.publish");
	r = broker_publish(o->broker, &p, l->cookie, &e);
	if (r < 0 && r != -EAGAIN)
		log_err("publish to %s: %s, trying again", STR_ESC(l->routing_key), e.msg);
	l->sent = r == 0;
	return r;
}

static void send_waiting(struct outlet *o)
{
	struct letter *l;

	TAILQ_FOREACH (l, &o->letters, link)
		if (!l->sent && send_letter(o, l) == -EAGAIN)
			return;
}

static void on_again(void *user)
{
	send_waiting(user);
}

static int add_letter(struct outlet *o, struct letter *l, struct err *e)
{
	if (o->n >= LETTERS_MAX)
		return err_set(e, EAGAIN, ERR_TRANSIENT, "too many messages wait for the broker");
	l->cookie = ++o->cookies;
	TAILQ_INSERT_TAIL(&o->letters, l, link);
	o->n++;
	(void)send_letter(o, l);
	return 0;
}

static int copy_text(char **to, const char *from)
{
	if (from && *from)
		*to = strdup(from);
	return from && *from && !*to ? -ENOMEM : 0;
}

static struct letter *new_letter(const char *exchange, const char *routing_key,
				 const char *message_id, const void *body, size_t n)
{
	auto_obj(letter) l = calloc(1, sizeof(*l));

	if (!l || copy_text(&l->exchange, exchange) < 0 ||
	    !(l->routing_key = strdup(routing_key)) || copy_text(&l->message_id, message_id) < 0 ||
	    buf_add(&l->body, body, n) < 0)
		return NULL;
	return take_ptr(l);
}

/* Headers are text; what was received may not be. */
static int copy_escaped(char **to, const char *from)
{
	char text[600];

	return copy_text(to, str_escape(text, sizeof(text), from, strlen(from)));
}

int outlet_dead(struct outlet *o, const char *queue, const char *routing_key,
		const char *message_id, const char *reason, const char *detail, const void *body,
		size_t n, letter_fn done, void *user, struct letter **ret, struct err *e)
{
	auto_obj(letter) l = new_letter(TOPOLOGY_DEAD, "", message_id, body, n);
	int r;

	if (!l || copy_text(&l->queue, queue) < 0 || copy_escaped(&l->was_key, routing_key) < 0 ||
	    copy_text(&l->reason, reason) < 0 || copy_escaped(&l->detail, detail) < 0)
		return err_nomem(e);
	l->done = done;
	l->user = user;
	r = add_letter(o, l, e);
	if (r < 0)
		return r;
	*ret = take_ptr(l);
	return 0;
}

int outlet_copy(struct outlet *o, const char *queue, const char *message_id, const void *body,
		size_t n, letter_fn done, void *user, struct err *e)
{
	auto_obj(letter) l = new_letter(NULL, queue, message_id, body, n);
	int r;

	if (!l)
		return err_nomem(e);
	l->done = done;
	l->user = user;
	r = add_letter(o, l, e);
	if (r == 0)
		(void)take_ptr(l);
	return r;
}

/* One at a time: those that a broker in alarm lets wait would tell of a time in which nobody was heard. */
bool outlet_tick(struct outlet *o, const char *routing_key, const char *body, size_t n)
{
	const struct publication p = {
		.exchange = TOPOLOGY_EXCHANGE,
		.routing_key = routing_key,
		.body = body,
		.n = n,
	};

	if (o->ticking)
		return false;
	o->ticking = broker_publish(o->broker, &p, TICK_COOKIE, NULL) == 0;
	return o->ticking;
}

int outlet_count(struct outlet *o, const char *queue, broker_reply_fn fn, void *user, struct err *e)
{
	const struct broker_call call = {
		.type = BROKER_QUEUE_DECLARE,
		.queue = queue,
		.passive = true,
	};

	return broker_call(o->broker, &call, fn, user, e);
}

/* --- rows of the outbox ---------------------------------------------------------------------- */

static bool has_row(const struct outlet *o, int64_t outbox_id)
{
	const struct letter *l;

	TAILQ_FOREACH (l, &o->letters, link)
		if (l->outbox_id == outbox_id)
			return true;
	return false;
}

void outlet_row(struct outlet *o, int64_t outbox_id, const char *exchange, const char *routing_key,
		const char *message_id, const char *body)
{
	struct letter *l;

	if (has_row(o, outbox_id))
		return;
	l = new_letter(exchange, routing_key, message_id, body, strlen(body));
	if (!l)
		return;
	l->outbox_id = outbox_id;
	/* The row stays where it is: the next sweep finds it. */
	if (add_letter(o, l, NULL) < 0)
		letter_free(l);
}

static void on_rows(void *user, const struct db_outcome *r)
{
	struct outlet *o = user;

	if (r->class != DB_OK) {
		(void)update_failed(o->update, "read the outbox", r);
		return;
	}
	for (int i = 0; i < db_rows_n(r->rows[0]); i++)
		outlet_row(o, db_int(r->rows[0], i, 0), db_text(r->rows[0], i, 1),
			   db_text(r->rows[0], i, 2), db_text(r->rows[0], i, 3),
			   db_text(r->rows[0], i, 4));
}

static void on_sweep(void *user, const struct db_outcome *r)
{
	struct outlet *o = user;

	o->sweeping = false;
	on_rows(o, r);
	if (r->class == DB_OK && db_rows_n(r->rows[0]))
		log_info("publishing %d messages that were left in the outbox",
			 db_rows_n(r->rows[0]));
}

void outlet_sweep(struct outlet *o)
{
	struct db_args a = { 0 };

	if (o->sweeping || !broker_is_ready(o->broker) || !TAILQ_EMPTY(&o->letters))
		return;
	db_arg_int(&a, SWEEP_AGE_USEC);
	db_arg_int(&a, SWEEP_ROWS);
	o->sweeping = db_pipe_send(o->update->work, &outbox_due_stmt, &a, on_sweep, o, NULL) == 0;
}

void outlet_again(struct outlet *o, const char *evaluations)
{
	struct db_args a = { 0 };

	db_arg_text(&a, evaluations);
	/* If this is lost, the next sweep finds them. */
	if (broker_is_ready(o->broker))
		(void)!db_pipe_send(o->update->work, &outbox_again_stmt, &a, on_rows, o, NULL);
}

static void on_row_done(void *user, const struct db_outcome *r)
{
	struct outlet *o = user;

	FAILPOINT("outbox.noted");
	if (r->class != DB_OK)
		(void)update_failed(o->update, "note in the outbox", r);
}

/* If this is lost the row is swept and published again, which is harmless. */
static void row_done(struct outlet *o, int64_t outbox_id, const char *why)
{
	struct db_args a = { 0 };

	db_arg_int(&a, outbox_id);
	if (why)
		db_arg_text(&a, why);
	(void)!db_pipe_send(o->update->work, why ? &outbox_failed_stmt : &outbox_sent_stmt, &a,
			    on_row_done, o, NULL);
}

/* --- the broker ------------------------------------------------------------------------------ */

static struct letter *find_letter(struct outlet *o, uint64_t cookie)
{
	struct letter *l;

	TAILQ_FOREACH (l, &o->letters, link)
		if (l->cookie == cookie)
			return l;
	return NULL;
}

static void finish(struct outlet *o, struct letter *l, bool confirmed, const char *why)
{
	FAILPOINT("outbox.confirmed");
	TAILQ_REMOVE(&o->letters, l, link);
	o->n--;
	if (l->outbox_id)
		row_done(o, l->outbox_id, confirmed ? NULL : why);
	if (l->done)
		l->done(l->user, confirmed, why);
	letter_free(l);
}

static void on_outcome(void *user, uint64_t cookie, enum broker_outcome outcome, const char *why)
{
	struct outlet *o = user;
	struct letter *l = find_letter(o, cookie);

	if (cookie == TICK_COOKIE)
		o->ticking = false;
	if (!l)
		return;
	switch (outcome) {
	case BROKER_CONFIRMED:
		finish(o, l, true, NULL);
		break;
	case BROKER_RETURNED:
		log_err("nothing takes %s (%s): run 'zr topology:apply'", STR_ESC(l->routing_key),
			why ? why : "unroutable");
		finish(o, l, false, why ? why : "unroutable");
		break;
	case BROKER_REFUSED:
	case BROKER_LOST:
		l->sent = false;
		loop_timer_set(o->again, PAUSE_USEC);
		break;
	}
}

static void on_ready(void *user)
{
	struct outlet *o = user;

	o->down_said = false;
	send_waiting(o);
	update_ready(o->update);
}

static void on_room(void *user)
{
	send_waiting(user);
}

static void on_down(void *user, const struct err *why)
{
	struct outlet *o = user;

	/* What is wrong with the settings the intake says. */
	if (!o->down_said && why->kind != ERR_INPUT)
		log_warning("publishing: %s; trying again", why->msg);
	o->down_said = true;
}

static int open_broker(struct outlet *o, struct err *e)
{
	static const struct broker_ops ops = {
		.on_ready = on_ready,
		.on_down = on_down,
		.on_outcome = on_outcome,
		.on_room = on_room,
	};
	struct broker_conf conf;
	auto_free char *name = NULL;

	if (str_fmt(&name, "zr-update %s publish", o->update->name) < 0)
		return err_nomem(e);
	broker_conf_init(&conf, o->update->settings, BROKER_PUBLISH, name);
	return broker_new(o->update->loop, &conf, &ops, o, &o->broker, e);
}

int outlet_new(struct update *u, struct outlet **ret, struct err *e)
{
	auto_obj(outlet) o = calloc(1, sizeof(*o));
	int r;

	if (!o)
		return err_nomem(e);
	o->update = u;
	TAILQ_INIT(&o->letters);
	r = loop_timer(u->loop, USEC_INFINITY, on_again, o, &o->again, e);
	if (r == 0)
		r = open_broker(o, e);
	if (r == 0)
		*ret = take_ptr(o);
	return r;
}

void outlet_free(struct outlet *o)
{
	struct letter *l;

	if (!o)
		return;
	broker_free(o->broker);
	while ((l = TAILQ_FIRST(&o->letters))) {
		TAILQ_REMOVE(&o->letters, l, link);
		letter_free(l);
	}
	loop_src_free(o->again);
	free(o);
}

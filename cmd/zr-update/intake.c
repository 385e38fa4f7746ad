/* SPDX-License-Identifier: MIT */
#include "intake.h"

#include <stdlib.h>
#include <string.h>

#include "base/failpoint.h"
#include "base/log.h"
#include "base/str.h"
#include "item.h"
#include "messaging/topology.h"
#include "outlet.h"
#include "store/schema.h"

#define BATCH_MAX   256 /* events of a transaction */
#define BATCH_BYTES (4u << 20)
#define BATCHES_MAX 2  /* at the database at a time: one is written while one waits */
#define ALONE_MAX   16 /* the same for transactions of one event */
#define LOCKED_MAX  16 /* evaluations that are known to be locked */
#define UNKNOWN_MAX 5  /* failures that nobody understands, in a row */
#define PATIENCE    (30 * USEC_PER_SEC) /* without the database, until the deliveries go back */

#define LOCKED_PAUSE  USEC_PER_SEC       /* between two tries of an event whose row is locked */
#define LOCKED_FORGET (5 * USEC_PER_SEC) /* after the last try that failed */

TAILQ_HEAD(items, item);

/* One whose row somebody holds. Its events go one by one, so that they hold up no others. */
struct locked {
	int64_t evaluation;
	uint64_t until;
};

struct intake {
	struct update *update;
	struct broker *broker;
	struct broker_consumer *consumer; /* NULL: not yet */
	bool paused;                      /* what still comes goes back */
	struct db_pipe *db;
	bool schema_ok;
	struct items arrivals; /* all */
	struct items turns;    /* those that wait */
	unsigned batches;      /* at the database */
	unsigned unknown;
	struct locked locked[LOCKED_MAX];
	uint64_t held_until;     /* no batch before */
	struct loop_src *pump;   /* after what has arrived in this turn of the loop */
	struct loop_src *resume; /* end of held_until */
	struct loop_src *patience;
	uint64_t limbo_until; /* the broker may still count a lost connection as alive */
	bool broker_seen, broker_down_said, db_down_said;
};

struct batch {
	struct intake *intake;
	struct item *items[BATCH_MAX]; /* those with events first */
	size_t n, n_events;
};

/* --- items ----------------------------------------------------------------------------------- */

static void forget(struct intake *in, struct item *it)
{
	TAILQ_REMOVE(&in->arrivals, it, arrival);
	if (it->state == ITEM_WAITING)
		TAILQ_REMOVE(&in->turns, it, turn);
	if (it->letter)
		letter_forget(it->letter);
	item_free(it);
}

static void wait_turn(struct intake *in, struct item *it)
{
	it->state = ITEM_WAITING;
	TAILQ_INSERT_TAIL(&in->turns, it, turn);
}

static bool same_channel(const struct item *a, const struct item *b)
{
	return a->ref.life == b->ref.life && a->ref.channel == b->ref.channel;
}

/* Others need not wait for what is locked; or no more would be delivered when the window is full. */
static void acknowledge_behind(struct intake *in, struct item *it)
{
	struct item *next;

	for (; it; it = next) {
		next = TAILQ_NEXT(it, arrival);
		if (it->state != ITEM_DONE)
			continue;
		(void)broker_ack(in->broker, it->ref, false);
		forget(in, it);
	}
}

/* Whatever is done at the head of the window is acknowledged by one frame. -ESTALE is as good: the
 * broker brings those again, and they will be duplicates. */
static void acknowledge(struct intake *in)
{
	struct item *it, *next;

	while ((it = TAILQ_FIRST(&in->arrivals)) && it->state == ITEM_DONE) {
		next = TAILQ_NEXT(it, arrival);
		if (!next || next->state != ITEM_DONE || !same_channel(it, next))
			(void)broker_ack(in->broker, it->ref, true);
		forget(in, it);
	}
	if (it && it->not_before)
		acknowledge_behind(in, it);
}

/* The deliveries of a lost connection come again; keeping them too would grow with every loss. */
static void forget_waiting(struct intake *in)
{
	struct item *it, *next;

	for (it = TAILQ_FIRST(&in->arrivals); it; it = next) {
		next = TAILQ_NEXT(it, arrival);
		if (it->state != ITEM_SENT)
			forget(in, it);
	}
}

/* --- answers of the database ----------------------------------------------------------------- */

static const char *end_reason(const struct item *it)
{
	struct message_end end;

	message_end(it->message->event.body, &end);
	return end.reason ? end.reason : it->event.kind;
}

static void tell(const struct item *it, const struct event_result *r)
{
	const struct log_ctx ctx = { .evaluation = it->event.evaluation,
				     .attempt_id = it->event.attempt_id };

	if (r->again)
		log_ctx(&ctx, LOG_NOTICE,
			"evaluation %s: attempt %d ended on %s (%s), attempt %d will follow",
			it->event.evaluation, it->event.attempt, it->event.host, end_reason(it),
			r->again);
	else if (r->ended)
		log_ctx(&ctx, LOG_INFO, "evaluation %s %s on %s, attempt %d", it->event.evaluation,
			it->event.kind, it->event.host, it->event.attempt);
	else if (r->answer == EVENT_STALE && it->message->event.kind >= MESSAGE_COMPLETED)
		log_ctx(&ctx, LOG_NOTICE,
			"evaluation %s: attempt %d says %s, another outcome stands; recorded",
			it->event.evaluation, it->event.attempt, it->event.kind);
}

static void event_answered(struct intake *in, struct item *it, const struct event_result *r,
			   struct event_result *all)
{
	if (r->answer == EVENT_UNKNOWN) {
		it->park = "unknown-evaluation";
		snprintf(it->detail, sizeof(it->detail), "no evaluation %s in this database",
			 it->event.evaluation);
		wait_turn(in, it);
		return;
	}
	tell(it, r);
	all->ended |= r->ended;
	all->collect |= r->collect;
	it->state = ITEM_DONE;
}

static void batch_committed(struct intake *in, struct batch *b, const struct db_outcome *o)
{
	struct event_result all = { 0 }, one;

	in->unknown = 0;
	for (size_t i = 0; i < b->n; i++) {
		if (i >= b->n_events) {
			if (b->items[i]->park)
				log_warning("event parked (%s): %s", b->items[i]->park,
					    b->items[i]->detail);
			b->items[i]->state = ITEM_DONE;
			continue;
		}
		events_result(o->rows[b->items[0]->locked], (int)i, &one);
		event_answered(in, b->items[i], &one, &all);
	}
	if (all.ended || all.collect)
		update_changed(in->update, all.ended, all.collect);
}

static void hold(struct intake *in, uint64_t usec)
{
	in->held_until = time_mono_usec() + usec;
	loop_timer_set(in->resume, usec);
}

/* One event of the batch is at fault: each gets a transaction of its own; the one that is refused
 * again is parked. */
static void batch_refused(struct batch *b, const struct db_outcome *o)
{
	for (size_t i = 0; i < b->n; i++) {
		struct item *it = b->items[i];

		if (it->alone && it->park)
			it->state = ITEM_DEAD; /* not even that */
		else if (it->alone) {
			it->park = "data";
			snprintf(it->detail, sizeof(it->detail), "%s", o->err.msg);
		}
		it->alone = true;
	}
}

static struct locked *find_locked(struct intake *in, int64_t evaluation, uint64_t now)
{
	for (size_t i = 0; evaluation && i < LOCKED_MAX; i++)
		if (in->locked[i].evaluation == evaluation && in->locked[i].until > now)
			return &in->locked[i];
	return NULL;
}

static void remember_locked(struct intake *in, const struct item *it, uint64_t now)
{
	struct locked *l = find_locked(in, it->evaluation, now), *oldest = in->locked;

	for (size_t i = 1; !l && i < LOCKED_MAX; i++)
		if (in->locked[i].until < oldest->until)
			oldest = &in->locked[i];
	if (!l)
		log_warning("somebody holds a lock on evaluation %s: its events wait, others go on",
			    it->event.evaluation ? it->event.evaluation : "?");
	*(l ? l : oldest) = (struct locked){ it->evaluation, now + LOCKED_FORGET };
}

/* The database does not say whose row it was: each event gets a transaction of its own, and what is
 * refused again is tried once a second. */
static void batch_locked(struct intake *in, struct batch *b)
{
	uint64_t now = time_mono_usec();

	for (size_t i = 0; i < b->n; i++) {
		struct item *it = b->items[i];

		if (it->locked) {
			it->not_before = now + LOCKED_PAUSE;
			remember_locked(in, it, now);
		}
		it->alone = it->locked = true;
	}
	loop_timer_set(in->resume, LOCKED_PAUSE);
}

static void give_up(struct intake *in, struct item *it, const struct err *why)
{
	log_err("message %s cannot even be parked, to the dead queue with it: %s",
		STR_ESC(it->routing_key), why->msg);
	(void)broker_reject(in->broker, it->ref, false);
	forget(in, it);
}

/* Nothing was committed, or nobody knows: everything is applied again. */
static void batch_failed(struct intake *in, struct batch *b, const struct db_outcome *o)
{
	switch (o->class) {
	case DB_DATA:
		batch_refused(b, o);
		break;
	case DB_SETUP:
		log_err("the database refuses the program itself: %s", o->err.msg);
		update_stop(in->update, 2);
		break;
	case DB_CONFLICT:
		break;
	case DB_LOCKED:
		batch_locked(in, b);
		break;
	case DB_RESOURCES:
		log_err("the database is short of something: %s; trying again in 10 s", o->err.msg);
		hold(in, 10 * USEC_PER_SEC);
		break;
	case DB_TIMEOUT:
		log_warning("the database is slow: %s; trying again", o->err.msg);
		hold(in, USEC_PER_SEC);
		break;
	case DB_UNKNOWN:
		log_err("%s", o->err.msg);
		hold(in, USEC_PER_SEC);
		if (++in->unknown >= UNKNOWN_MAX)
			update_stop(in->update, 1);
		break;
	case DB_CONNECTION:
	case DB_READ_ONLY:
	case DB_OK:
	case DB_CLASS_N:
		break;
	}
	for (size_t i = 0; i < b->n; i++)
		if (b->items[i]->state == ITEM_DEAD)
			give_up(in, b->items[i], &o->err);
		else
			wait_turn(in, b->items[i]);
}

static void on_batch(void *user, const struct db_outcome *o)
{
	struct batch *b = user;
	struct intake *in = b->intake;

	in->batches--;
	FAILPOINT("update.committed");
	if (o->class == DB_OK)
		batch_committed(in, b, o);
	else
		batch_failed(in, b, o);
	free(b);
	acknowledge(in);
	FAILPOINT("update.acked");
	loop_defer_arm(in->pump);
}

/* --- batches --------------------------------------------------------------------------------- */

static int by_evaluation(const void *x, const void *y)
{
	const struct item *a = *(struct item *const *)x, *b = *(struct item *const *)y;

	if (item_is_event(a) != item_is_event(b))
		return item_is_event(a) ? -1 : 1;
	if (a->evaluation != b->evaluation)
		return a->evaluation < b->evaluation ? -1 : 1;
	return 0;
}

/* The first from `it` on whose time has come. */
static struct item *next_due(struct intake *in, struct item *it, uint64_t now)
{
	while (it && it->not_before > now)
		it = TAILQ_NEXT(it, turn);
	if (it && find_locked(in, it->evaluation, now))
		it->alone = it->locked = true;
	return it;
}

static void gather(struct intake *in, struct batch *b, uint64_t now)
{
	size_t bytes = 0;
	struct item *it = next_due(in, TAILQ_FIRST(&in->turns), now), *next;

	for (; it && b->n < BATCH_MAX && bytes < BATCH_BYTES; it = next_due(in, next, now)) {
		next = TAILQ_NEXT(it, turn);
		if (b->n && (it->alone || b->items[0]->alone))
			break;
		TAILQ_REMOVE(&in->turns, it, turn);
		it->state = ITEM_SENT;
		b->items[b->n++] = it;
		b->n_events += item_is_event(it);
		bytes += it->size;
	}
	qsort(b->items, b->n, sizeof(struct item *), by_evaluation);
}

static int send_events(struct intake *in, struct batch *b, struct err *e)
{
	const struct settings *s = in->update->settings;
	const struct event_policy policy = {
		.infrastructure_retries = s->infrastructure_retries,
		.retry_delay_usec = s->retry_delay_usec,
	};
	auto_buf struct buf text = { 0 };
	struct db_args a = { 0 };
	int r = 0;

	for (size_t i = 0; r == 0 && i < b->n_events; i++)
		r = events_add(&text, &b->items[i]->event, e);
	if (r == 0)
		r = events_args(&text, &policy, &a, e);
	return r < 0 ? r : db_pipe_add(in->db, &events_apply_stmt, &a, e);
}

static int send_batch(struct intake *in, struct batch *b, struct err *e)
{
	static const struct db_stmt briefly = { "",
						"select set_config('lock_timeout', '100', true)" };
	int r = b->items[0]->locked ? db_pipe_add(in->db, &briefly, NULL, e) : 0;

	if (r == 0 && b->n_events)
		r = send_events(in, b, e);
	for (size_t i = b->n_events; r == 0 && i < b->n; i++) {
		struct db_args a = { 0 };
		const struct db_stmt *s = item_statement(b->items[i], &a);

		r = db_pipe_add(in->db, s, &a, e);
	}
	return r < 0 ? r : db_pipe_sync(in->db, on_batch, b, e);
}

/* False: nothing more can be sent now. */
static bool next_batch(struct intake *in)
{
	uint64_t now = time_mono_usec();
	struct item *first = next_due(in, TAILQ_FIRST(&in->turns), now);
	struct batch *b;
	struct err e = { 0 };

	if (!first || in->batches >= (first->alone ? ALONE_MAX : BATCHES_MAX))
		return false;
	b = calloc(1, sizeof(*b));
	if (!b)
		return false;
	b->intake = in;
	gather(in, b, now);
	FAILPOINT("update.batch");
	if (send_batch(in, b, &e) == 0) {
		FAILPOINT("update.sent");
		in->batches++;
		return true;
	}
	log_warning("%s", e.msg);
	for (size_t i = 0; i < b->n; i++)
		wait_turn(in, b->items[i]);
	free(b);
	hold(in, USEC_PER_SEC);
	return false;
}

static void pump(void *user)
{
	struct intake *in = user;
	uint64_t now = time_mono_usec();

	if (in->update->draining || !in->schema_ok)
		return;
	if (now < in->held_until) {
		loop_timer_set(in->resume, in->held_until - now);
		return;
	}
	while (next_batch(in))
		;
}

/* --- deliveries ------------------------------------------------------------------------------ */

static void on_dead(void *user, bool confirmed, const char *why)
{
	struct item *it = user;
	struct intake *in = it->intake;

	it->letter = NULL;
	if (confirmed) {
		it->state = ITEM_DONE;
		acknowledge(in);
		return;
	}
	/* Without a dead queue the bytes are kept in the database. */
	it->park = "malformed";
	snprintf(it->detail, sizeof(it->detail), "the dead queue did not take it: %s", why);
	wait_turn(in, it);
	loop_defer_arm(in->pump);
}

static void bury(struct intake *in, struct item *it, enum message_bad bad, const struct err *why)
{
	struct err e = { 0 };

	log_warning("message %s of %zu bytes goes to the dead queue (%s): %s",
		    STR_ESC(it->routing_key), it->size, message_bad_name(bad), why->msg);
	it->state = ITEM_DEAD;
	if (outlet_dead(in->update->outlet, TOPOLOGY_UPDATE, it->routing_key, it->message_id,
			message_bad_name(bad), why->msg, it->body, it->size, on_dead, it,
			&it->letter, &e) == 0)
		return;
	log_warning("%s", e.msg);
	(void)broker_reject(in->broker, it->ref, false);
	forget(in, it);
}

static void on_delivery(void *user, const struct delivery *d)
{
	struct intake *in = user;
	enum message_bad bad = MESSAGE_GOOD;
	struct err why = { 0 };
	struct item *it;

	/* Its bytes are not here: the broker moves it whole. */
	if (d->too_large) {
		log_warning("message %s of %zu bytes goes to the dead queue: over message_max",
			    STR_ESC(d->routing_key), d->size);
		(void)broker_reject(in->broker, d->ref, false);
		return;
	}
	it = in->paused ? NULL : item_new(d, in->update->settings->message_max, &bad, &why);
	if (!it) {
		(void)broker_reject(in->broker, d->ref, true);
		return;
	}
	it->intake = in;
	it->state = ITEM_DONE;
	it->arrived_usec = time_mono_usec();
	TAILQ_INSERT_TAIL(&in->arrivals, it, arrival);
	if (bad != MESSAGE_GOOD)
		bury(in, it, bad, &why);
	else if (item_is_moot(it))
		acknowledge(in);
	else
		wait_turn(in, it);
	loop_defer_arm(in->pump);
}

/* --- connections ----------------------------------------------------------------------------- */

bool intake_is_up(const struct intake *in)
{
	return in->schema_ok && broker_is_ready(in->broker);
}

bool intake_has_schema(const struct intake *in)
{
	return in->schema_ok;
}

bool intake_is_clear(const struct intake *in, uint64_t usec)
{
	const struct item *it;

	if (!in->schema_ok || time_mono_usec() < in->limbo_until)
		return false;
	TAILQ_FOREACH (it, &in->arrivals, arrival)
		if (it->state == ITEM_WAITING || it->state == ITEM_SENT)
			return it->arrived_usec > usec;
	return true;
}

/* What waits while draining has failed meanwhile: the broker gets it back with the connection. */
bool intake_is_idle(const struct intake *in)
{
	const struct item *it;

	TAILQ_FOREACH (it, &in->arrivals, arrival)
		if (it->state != ITEM_WAITING)
			return false;
	return in->batches == 0;
}

static void take_deliveries(struct intake *in)
{
	const struct broker_consume spec = {
		.queue = TOPOLOGY_UPDATE,
		.prefetch = (uint16_t)in->update->prefetch,
	};
	struct err e = { 0 };

	if (in->update->draining)
		return;
	in->paused = false;
	if (in->consumer)
		broker_resume(in->consumer, 0);
	else if (broker_consume(in->broker, &spec, &in->consumer, &e) < 0)
		log_err("%s", e.msg);
}

/* Everything that is not at the database goes back to the queue. */
static void return_deliveries(struct intake *in)
{
	struct item *it, *next;

	in->paused = true;
	if (in->consumer)
		broker_pause(in->consumer, NULL, NULL);
	for (it = TAILQ_FIRST(&in->arrivals); it; it = next) {
		next = TAILQ_NEXT(it, arrival);
		if (it->state != ITEM_WAITING)
			continue;
		(void)broker_reject(in->broker, it->ref, true);
		forget(in, it);
	}
}

/* A broker takes deliveries back that nobody acknowledges for long, and closes the channel. */
static void on_patience(void *user)
{
	struct intake *in = user;

	log_warning("no database for 30 s: events stay in their queue until it is back");
	return_deliveries(in);
}

static void on_version(void *user, const struct db_outcome *o)
{
	struct intake *in = user;
	struct err e = { 0 };

	if (o->class != DB_OK && o->class != DB_SETUP)
		return; /* on_db_down() follows, and then another try */
	/* No such table: no schema. */
	if (schema_judge(o->class == DB_OK ? (int)db_int(o->rows[0], 0, 0) : 0, &e) < 0) {
		log_err("%s", e.msg);
		update_stop(in->update, 2);
		return;
	}
	in->schema_ok = true;
	take_deliveries(in);
	loop_defer_arm(in->pump);
	update_database(in->update);
	update_ready(in->update);
}

static void on_db_up(void *user)
{
	struct intake *in = user;

	if (in->db_down_said)
		log_notice("the database is back");
	in->db_down_said = false;
	loop_timer_set(in->patience, USEC_INFINITY);
	(void)!db_pipe_send(in->db, &schema_version_stmt, NULL, on_version, in, NULL);
}

static void on_db_down(void *user, enum db_class class, const struct err *e)
{
	struct intake *in = user;

	if (class == DB_SETUP && !in->schema_ok && !in->db_down_said) {
		log_err("%s", e->msg);
		update_stop(in->update, 2);
		return;
	}
	if (in->db_down_said)
		return;
	log_warning("%s; events wait, trying again", e->msg);
	in->db_down_said = true;
	in->schema_ok = false;
	loop_timer_set(in->patience, PATIENCE);
}

static void on_broker_ready(void *user)
{
	struct intake *in = user;

	if (in->broker_down_said)
		log_notice("the broker is back");
	in->broker_down_said = false;
	in->broker_seen = true;
	update_ready(in->update);
}

static void on_broker_down(void *user, const struct err *why)
{
	struct intake *in = user;

	/* A password or an address that never worked is not going to. */
	if (!in->broker_seen && why->kind == ERR_INPUT) {
		log_err("%s", why->msg);
		update_stop(in->update, 2);
		return;
	}
	if (!in->broker_down_said)
		log_warning("%s; trying again", why->msg);
	/* A broker that cannot be reached notices after two heartbeats, and only then gives what was
	 * delivered here to others. */
	if (!in->broker_down_said && in->broker_seen)
		in->limbo_until = time_mono_usec() + 3 * in->update->settings->amqp_heartbeat_usec;
	in->broker_down_said = true;
	forget_waiting(in);
}

/* Its channel is gone, and every delivery of it comes again. */
static void on_consumer_lost(void *user, unused_arg struct broker_consumer *c, const char *why)
{
	forget_waiting(user);
	log_err("the queue " TOPOLOGY_UPDATE
		" cannot be read: %s; trying again ('zr topology:check'"
		" says what is missing)",
		why);
}

/* --- life ------------------------------------------------------------------------------------ */

static int open_db(struct intake *in, struct err *e)
{
	auto_free char *name = NULL;
	struct db_pipe_conf conf = {
		.url = in->update->settings->database_url,
		.on_up = on_db_up,
		.on_down = on_db_down,
		.user = in,
	};

	if (str_fmt(&name, "zr-update %s events", in->update->name) < 0)
		return err_nomem(e);
	conf.application = name;
	return db_pipe_new(in->update->loop, &conf, &in->db, e);
}

static int open_broker(struct intake *in, struct err *e)
{
	static const struct broker_ops ops = {
		.on_ready = on_broker_ready,
		.on_down = on_broker_down,
		.on_delivery = on_delivery,
		.on_consumer_lost = on_consumer_lost,
	};
	struct broker_conf conf;
	auto_free char *name = NULL;

	if (str_fmt(&name, "zr-update %s", in->update->name) < 0)
		return err_nomem(e);
	broker_conf_init(&conf, in->update->settings, BROKER_CONSUME, name);
	return broker_new(in->update->loop, &conf, &ops, in, &in->broker, e);
}

int intake_new(struct update *u, struct intake **ret, struct err *e)
{
	auto_obj(intake) in = calloc(1, sizeof(*in));
	int r;

	if (!in)
		return err_nomem(e);
	in->update = u;
	TAILQ_INIT(&in->arrivals);
	TAILQ_INIT(&in->turns);
	r = loop_defer(u->loop, pump, in, &in->pump, e);
	if (r == 0)
		r = loop_timer(u->loop, USEC_INFINITY, pump, in, &in->resume, e);
	if (r == 0)
		r = loop_timer(u->loop, PATIENCE, on_patience, in, &in->patience, e);
	if (r == 0)
		r = open_db(in, e);
	if (r == 0)
		r = open_broker(in, e);
	if (r == 0)
		*ret = take_ptr(in);
	return r;
}

void intake_drain(struct intake *in)
{
	return_deliveries(in);
}

void intake_close(struct intake *in, void (*done)(void *user), void *user)
{
	broker_close(in->broker, done, user);
}

/* The database goes first: its last answers find everything else in place. */
void intake_free(struct intake *in)
{
	struct item *it;

	if (!in)
		return;
	db_pipe_free(in->db);
	while ((it = TAILQ_FIRST(&in->arrivals)))
		forget(in, it);
	broker_free(in->broker);
	loop_src_free(in->pump);
	loop_src_free(in->resume);
	loop_src_free(in->patience);
	free(in);
}

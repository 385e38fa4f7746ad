/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Requests lie in several queues with an order among them (high before normal), and a worker must
 * not hold one for which it has no place. So while there is work, each free place is filled by
 * basic.get through the queues in their order; only when all were empty consumers wait, one per
 * queue with a prefetch of 1, until every place is taken. What a consumer brings when the last
 * place has just gone is given back.
 *
 *	CLOSED   no place is free, or not connected: nothing is asked for
 *	GETTING  queue by queue; a message starts again at the first. A queue that was empty a moment
 *	         ago is not asked again: under load it would be asked once per message of the others
 *	WAITING  all queues were empty: consumers
 *
 * The consuming connection never publishes. Refused messages go to the dead exchange through the
 * publisher, with their bytes as they came, and are acknowledged after the confirm.
 */
#include <inttypes.h>
#include <string.h>
#include <sys/queue.h>
#include <syslog.h>

#include "base/str.h"
#include "messaging/broker.h"
#include "messaging/channel.h"
#include "messaging/publisher.h"
#include "messaging/topology.h"

#define CONTROL_PREFETCH 200
/* What comes this soon after the first lay in the stream. */
#define CONTROL_OLD_USEC (10 * USEC_PER_SEC)
/* What comes into an emptied queue of high priority waits at most so long behind others. */
#define EMPTY_USEC (10 * USEC_PER_MSEC)
/* A refused message whose publication failed is published again after this. */
#define DEAD_AGAIN_USEC (2 * USEC_PER_SEC)

struct amqp;

struct channel_request {
	TAILQ_ENTRY(channel_request) entry;
	struct amqp *c;
	struct delivery_ref ref;
	char *queue, *routing_key, *message_id;
	void *body;
	size_t n;
	/* On its way to the dead queue: */
	char *reason, *detail;
	struct loop_src *again;
};

struct work_queue {
	struct amqp *c;
	char *name;
	struct broker_consumer *consumer; /* NULL: never needed yet */
	uint64_t empty_usec;              /* when it was last seen empty */
};

enum intake {
	CLOSED,
	GETTING,
	WAITING,
};

struct amqp {
	struct channel channel;
	struct loop *loop;
	const struct channel_ops *ops;
	void *user;
	uint64_t message_max;

	struct broker *in;
	struct publisher *out;
	struct work_queue *queues;
	size_t n_queues;
	struct broker_consumer *control;
	uint64_t control_since; /* its first message came then */
	bool control_warned;
	TAILQ_HEAD(, channel_request) requests; /* not settled */

	unsigned want;
	enum intake intake;
	size_t getting; /* the queue that is asked */
	bool get_sent;
	unsigned checks; /* passive declarations without an answer */
	bool in_ready, out_ready, up;
	void (*closed)(void *user);
	void *closed_user;
};

static void get_next(struct amqp *a);
static bool is_idle(const struct channel *c);

printf_like(3, 4) static void report(const struct amqp *a, int level, const char *fmt, ...)
{
	char text[640];
	va_list ap;

	if (!a->ops->on_report)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	a->ops->on_report(a->user, level, text);
}

/* Something that was on its way has come to its end without the worker's doing. */
static void tell_idle(struct amqp *a)
{
	if (a->want == 0 && is_idle(&a->channel) && a->ops->on_idle)
		a->ops->on_idle(a->user);
}

/* --- requests ------------------------------------------------------------------------------ */

static void request_free(struct channel_request *t)
{
	if (!t)
		return;
	TAILQ_REMOVE(&t->c->requests, t, entry);
	loop_src_free(t->again);
	free(t->queue);
	free(t->routing_key);
	free(t->message_id);
	free(t->body);
	free(t->reason);
	free(t->detail);
	free(t);
}

static struct channel_request *request_new(struct amqp *a, const struct delivery *d,
					   const char *queue)
{
	struct channel_request *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->c = a;
	t->ref = d->ref;
	t->n = d->size;
	TAILQ_INSERT_TAIL(&a->requests, t, entry);
	t->queue = strdup(queue);
	t->routing_key = strdup(d->routing_key);
	t->message_id = strdup(d->message_id);
	t->body = malloc(d->size ? d->size : 1);
	if (!t->queue || !t->routing_key || !t->message_id || !t->body) {
		request_free(t);
		return NULL;
	}
	memcpy(t->body, d->body, d->size);
	return t;
}

static int settle_ack(struct channel *c, struct channel_request *t)
{
	struct amqp *a = (struct amqp *)c;
	int r = broker_ack(a->in, t->ref, false);

	request_free(t);
	return r;
}

static int settle_back(struct channel *c, struct channel_request *t)
{
	struct amqp *a = (struct amqp *)c;
	int r = broker_reject(a->in, t->ref, true);

	request_free(t);
	return r;
}

/* --- the dead queue ------------------------------------------------------------------------ */

static void publish_dead(void *user);

static void on_dead(void *user, enum broker_outcome o, const char *why)
{
	struct channel_request *t = user;

	if (o == BROKER_CONFIRMED) {
		struct amqp *a = t->c;

		(void)broker_ack(a->in, t->ref, false);
		request_free(t);
		tell_idle(a);
		return;
	}
	report(t->c, LOG_WARNING, "a refused message of %s cannot be put aside yet: %s", t->queue,
	       why ? why : "the connection was lost");
	loop_timer_set(t->again, DEAD_AGAIN_USEC);
}

static void publish_dead(void *user)
{
	struct channel_request *t = user;
	char at[TIME_TEXT_MAX];
	const struct broker_header headers[] = {
		{ .name = "zr-reason", .type = BROKER_HEADER_TEXT, .text = t->reason },
		{ .name = "zr-detail", .type = BROKER_HEADER_TEXT, .text = t->detail },
		{ .name = "zr-queue", .type = BROKER_HEADER_TEXT, .text = t->queue },
		{ .name = "zr-routing-key", .type = BROKER_HEADER_TEXT, .text = t->routing_key },
		{ .name = "zr-at",
		  .type = BROKER_HEADER_TEXT,
		  .text = time_text(at, time_wall_usec()) },
	};
	const struct publication pub = {
		.exchange = TOPOLOGY_DEAD,
		.routing_key = t->routing_key,
		.body = t->body,
		.n = t->n,
		.message_id = *t->message_id ? t->message_id : NULL,
		.headers = headers,
		.n_headers = ARRAY_LEN(headers),
	};
	struct err e = { 0 };

	if (publisher_send(t->c->out, &pub, on_dead, t, &e) < 0)
		loop_timer_set(t->again, DEAD_AGAIN_USEC);
}

static int settle_dead(struct channel *c, struct channel_request *t, const char *reason,
		       const char *detail)
{
	struct amqp *a = (struct amqp *)c;
	struct err e = { 0 };

	t->reason = strdup(reason);
	t->detail = strdup(detail ? detail : "");
	if (!t->reason || !t->detail ||
	    loop_timer(a->loop, USEC_INFINITY, publish_dead, t, &t->again, &e) < 0)
		return settle_back(c, t);
	publish_dead(t);
	return 0;
}

/* --- deliveries ---------------------------------------------------------------------------- */

static void request_delivery(struct amqp *a, const struct delivery *d, const char *queue)
{
	auto_obj(message) m = NULL;
	struct channel_request *t;
	struct err e = { 0 };
	enum message_bad bad;

	/* Its bytes were not kept: only the broker can move it whole. */
	if (d->too_large) {
		report(a, LOG_ERR,
		       "a message of %zu bytes in %s is over message_max: to the dead queue",
		       d->size, queue);
		(void)broker_reject(a->in, d->ref, false);
		return;
	}
	t = request_new(a, d, queue);
	if (!t) {
		(void)broker_reject(a->in, d->ref, true);
		return;
	}
	bad = message_decode(d->body, d->size, a->message_max, &m, &e);
	if (bad == MESSAGE_GOOD && m->type != MESSAGE_REQUEST) {
		bad = MESSAGE_UNKNOWN_TYPE;
		err_input(&e, "a message of type '%s' is no request", message_type_name(m->type));
	}
	if (bad == MESSAGE_NO_MEMORY) {
		(void)settle_back(&a->channel, t);
		return;
	}
	if (bad != MESSAGE_GOOD) {
		report(a, LOG_ERR, "a message in %s is refused (%s): %s", queue,
		       message_bad_name(bad), e.msg);
		(void)settle_dead(&a->channel, t, message_bad_name(bad), e.msg);
		return;
	}
	if (a->want)
		a->want--;
	a->ops->on_request(a->user, t, m, d->redelivered);
}

/*
 * A stream keeps its messages: a bad one is passed over, there for whoever looks. Each worker reads
 * them all when it starts; of those that lie there one is said.
 */
static void control_bad(struct amqp *a, enum message_bad bad, const struct err *why)
{
	bool old = time_mono_usec() - a->control_since < CONTROL_OLD_USEC;

	report(a, old && a->control_warned ? LOG_DEBUG : LOG_WARNING,
	       "a message in %s is passed over (%s)%s%s%s", TOPOLOGY_CONTROL, message_bad_name(bad),
	       why->msg[0] ? ": " : "", why->msg,
	       old && !a->control_warned ? "; others that lie there are not named" : "");
	a->control_warned = true;
}

static void control_delivery(struct amqp *a, const struct delivery *d)
{
	auto_obj(message) m = NULL;
	struct err e = { 0 };
	enum message_bad bad = d->too_large
				       ? MESSAGE_TOO_LARGE
				       : message_decode(d->body, d->size, a->message_max, &m, &e);

	if (!a->control_since)
		a->control_since = time_mono_usec();
	if (bad == MESSAGE_GOOD && m->type == MESSAGE_CONTROL)
		a->ops->on_control(a->user, m);
	else
		control_bad(a, bad == MESSAGE_GOOD ? MESSAGE_UNKNOWN_TYPE : bad, &e);
	(void)broker_ack(a->in, d->ref, false);
}

static struct work_queue *queue_of(struct amqp *a, const struct broker_consumer *consumer)
{
	for (size_t i = 0; i < a->n_queues; i++)
		if (a->queues[i].consumer == consumer)
			return &a->queues[i];
	return NULL;
}

static void pause_all(struct amqp *a)
{
	for (size_t i = 0; i < a->n_queues; i++)
		if (a->queues[i].consumer)
			broker_pause(a->queues[i].consumer, NULL, NULL);
	a->intake = CLOSED;
}

static void on_delivery(void *user, const struct delivery *d)
{
	struct amqp *a = user;
	const struct work_queue *q;

	if (d->consumer && d->consumer == a->control) {
		control_delivery(a, d);
		return;
	}
	q = d->consumer ? queue_of(a, d->consumer) : &a->queues[a->getting];
	if (!q || a->want == 0) {
		(void)broker_reject(a->in, d->ref, true);
		return;
	}
	request_delivery(a, d, q->name);
	if (a->want == 0 && a->intake == WAITING)
		pause_all(a);
}

/* --- intake -------------------------------------------------------------------------------- */

static void wait_all(struct amqp *a)
{
	struct err e = { 0 };

	a->intake = WAITING;
	for (size_t i = 0; i < a->n_queues; i++) {
		struct work_queue *q = &a->queues[i];
		const struct broker_consume spec = { .queue = q->name, .prefetch = 1 };

		if (q->consumer)
			broker_resume(q->consumer);
		else if (broker_consume(a->in, &spec, &q->consumer, &e) < 0)
			report(a, LOG_ERR, "requests of %s cannot be taken: %s", q->name, e.msg);
	}
}

/* The first queue from `i` on that is worth asking; n_queues: none. */
static size_t next_queue(const struct amqp *a, size_t i)
{
	uint64_t now = time_mono_usec();

	while (i < a->n_queues && a->queues[i].empty_usec &&
	       now - a->queues[i].empty_usec < EMPTY_USEC)
		i++;
	return i;
}

static void on_got(void *user, const struct broker_reply *r)
{
	struct amqp *a = user;

	a->get_sent = false;
	if (a->intake != GETTING)
		return;
	if (r->code) {
		/* Not connected any more, or the queue is gone: the consumers watch for both. */
		a->intake = CLOSED;
		if (a->in_ready && a->want)
			wait_all(a);
		tell_idle(a);
		return;
	}
	if (a->want == 0) {
		a->intake = CLOSED;
		tell_idle(a);
		return;
	}
	if (r->empty)
		a->queues[a->getting].empty_usec = time_mono_usec();
	a->getting = next_queue(a, r->empty ? a->getting + 1 : 0);
	if (a->getting < a->n_queues)
		get_next(a);
	else
		wait_all(a);
}

static void get_next(struct amqp *a)
{
	const struct broker_call call = { .type = BROKER_GET, .queue = a->queues[a->getting].name };

	if (a->get_sent)
		return;
	a->get_sent = broker_call(a->in, &call, on_got, a, NULL) == 0;
	if (!a->get_sent)
		a->intake = CLOSED;
}

static void open_intake(struct amqp *a)
{
	if (!a->up || a->intake != CLOSED || a->want == 0 || a->closed || a->get_sent)
		return;
	a->intake = GETTING;
	a->getting = next_queue(a, 0);
	if (a->getting < a->n_queues)
		get_next(a);
	else
		wait_all(a);
}

static void set_want(struct channel *c, unsigned n)
{
	struct amqp *a = (struct amqp *)c;

	a->want = n;
	if (n == 0 && a->intake == WAITING)
		pause_all(a);
	open_intake(a);
}

static bool is_idle(const struct channel *c)
{
	const struct amqp *a = (const struct amqp *)c;

	return a->intake != GETTING && TAILQ_EMPTY(&a->requests);
}

/* --- connections --------------------------------------------------------------------------- */

static void check_up(struct amqp *a, const struct err *why)
{
	bool up = a->in_ready && a->out_ready;

	if (up == a->up) {
		/* Still down: whoever starts it wants to know why. */
		if (!up && why)
			a->ops->on_state(a->user, false, why);
		return;
	}
	a->up = up;
	a->ops->on_state(a->user, up, why);
	if (up)
		open_intake(a);
}

static void on_checked(void *user, const struct broker_reply *r)
{
	struct amqp *a = user;
	struct err e = { 0 };

	if (a->checks == 0)
		return;
	a->checks--;
	if (r->code == 0) {
		a->in_ready = a->checks == 0;
		check_up(a, NULL);
		return;
	}
	a->checks = 0;
	err_set(&e, EIO, r->code == 404 ? ERR_INPUT : ERR_TRANSIENT, "%s%s", r->text ? r->text : "",
		r->code == 404 ? " (create the queues with 'zr topology:apply')" : "");
	check_up(a, &e);
}

/* Workers create nothing: they look whether everything they need is there. */
static void on_in_ready(void *user)
{
	struct amqp *a = user;

	a->checks = 0;
	for (size_t i = 0; i <= a->n_queues; i++) {
		const struct broker_call call = {
			.type = BROKER_QUEUE_DECLARE,
			.queue = i < a->n_queues ? a->queues[i].name : TOPOLOGY_CONTROL,
			.passive = true,
		};

		if (broker_call(a->in, &call, on_checked, a, NULL) == 0)
			a->checks++;
	}
}

static void on_in_down(void *user, const struct err *why)
{
	struct amqp *a = user;

	a->in_ready = false;
	a->checks = 0;
	if (a->intake == GETTING)
		a->intake = CLOSED;
	check_up(a, why);
}

static void on_consumer_lost(void *user, struct broker_consumer *c, const char *why)
{
	struct amqp *a = user;

	report(a, LOG_ERR, "%s is not served: %s; trying again", broker_consumer_queue(c), why);
}

static const struct broker_ops in_ops = {
	.on_ready = on_in_ready,
	.on_down = on_in_down,
	.on_delivery = on_delivery,
	.on_consumer_lost = on_consumer_lost,
};

static void on_out_state(void *user, bool up, const struct err *why)
{
	struct amqp *a = user;

	a->out_ready = up;
	check_up(a, why);
}

static void on_durable(void *user, uint64_t id)
{
	struct amqp *a = user;

	a->ops->on_durable(a->user, id);
}

static void on_confirmed(void *user, uint64_t id)
{
	struct amqp *a = user;

	if (a->ops->on_confirmed)
		a->ops->on_confirmed(a->user, id);
}

static void on_parked(void *user, const char *routing_key, const char *why)
{
	report(user, LOG_ERR, "event '%s' was parked: %s", routing_key, why);
}

static void on_warning(void *user, const char *text)
{
	report(user, LOG_WARNING, "%s", text);
}

static bool on_note(void *user, uint64_t id, const char *name, const void *body, size_t n)
{
	struct amqp *a = user;

	return a->ops->on_kept && a->ops->on_kept(a->user, id, name, body, n);
}

static const struct publisher_ops out_ops = {
	.on_durable = on_durable,
	.on_confirmed = on_confirmed,
	.on_parked = on_parked,
	.on_state = on_out_state,
	.on_warning = on_warning,
	.on_note = on_note,
};

/* --- the rest of the interface ------------------------------------------------------------- */

static int send_event(struct channel *c, const char *key, const char *id, const void *body,
		      size_t n, bool durable, uint64_t *ret_id, struct err *e)
{
	struct amqp *a = (struct amqp *)c;

	return publisher_event(a->out, key, id, body, n, durable, ret_id, e);
}

static int keep(struct channel *c, const char *name, const void *data, size_t n, uint64_t *ret_id,
		struct err *e)
{
	return publisher_note(((struct amqp *)c)->out, name, data, n, ret_id, e);
}

static void forget(struct channel *c, uint64_t id)
{
	publisher_forget(((struct amqp *)c)->out, id);
}

static int sync_events(struct channel *c, struct err *e)
{
	struct amqp *a = (struct amqp *)c;

	return publisher_sync(a->out, e);
}

static uint64_t waiting(const struct channel *c)
{
	return publisher_waiting(((const struct amqp *)c)->out);
}

static void on_closed(void *user)
{
	struct amqp *a = user;

	a->closed(a->closed_user);
}

static void close_channel(struct channel *c, void (*done)(void *user), void *user)
{
	struct amqp *a = (struct amqp *)c;

	if (a->closed)
		return;
	a->closed = done;
	a->closed_user = user;
	a->want = 0;
	broker_close(a->in, on_closed, a);
}

static void amqp_free(struct channel *c)
{
	struct amqp *a = (struct amqp *)c;
	struct channel_request *t;

	broker_free(a->in);
	publisher_free(a->out);
	while ((t = TAILQ_FIRST(&a->requests)))
		request_free(t);
	for (size_t i = 0; i < a->n_queues; i++)
		free(a->queues[i].name);
	free(a->queues);
	free(a);
}

static const struct channel_type amqp_type = {
	.name = "amqp",
	.free = amqp_free,
	.close = close_channel,
	.want = set_want,
	.ack = settle_ack,
	.dead = settle_dead,
	.give_back = settle_back,
	.event = send_event,
	.keep = keep,
	.forget = forget,
	.sync = sync_events,
	.waiting = waiting,
	.is_idle = is_idle,
};

static int name_queues(struct amqp *a, const struct settings *s, struct err *e)
{
	auto_strv char **names = NULL;
	int r = topology_work_queues(s->pools, s->host, &names, e);

	if (r < 0)
		return r;
	a->queues = calloc(strv_len(names) + 1, sizeof(*a->queues));
	if (!a->queues)
		return err_nomem(e);
	for (char **n = names; *n; n++) {
		a->queues[a->n_queues].c = a;
		a->queues[a->n_queues].name = strdup(*n);
		if (!a->queues[a->n_queues++].name)
			return err_nomem(e);
	}
	return 0;
}

static int open_in(struct amqp *a, const struct settings *s, const char *name, struct err *e)
{
	static const struct broker_consume control = { .queue = TOPOLOGY_CONTROL,
						       .prefetch = CONTROL_PREFETCH,
						       .stream_offset = "first" };
	struct broker_conf conf;
	int r;

	broker_conf_init(&conf, s, BROKER_CONSUME, name);
	r = broker_new(a->loop, &conf, &in_ops, a, &a->in, e);
	return r < 0 ? r : broker_consume(a->in, &control, &a->control, e);
}

static int open_out(struct amqp *a, const struct channel_conf *cc, const char *name, struct err *e)
{
	auto_free char *dir = NULL;
	struct broker_conf conf;

	if (str_fmt(&dir, "%s/spool/events/%u", cc->settings->state_dir, cc->worker) < 0)
		return err_nomem(e);
	broker_conf_init(&conf, cc->settings, BROKER_PUBLISH, name);
	return publisher_new(a->loop, &conf, dir, cc->spool_max, &out_ops, a, &a->out, e);
}

int channel_amqp_new(struct loop *l, const struct channel_conf *conf, const struct channel_ops *ops,
		     void *user, struct channel **ret, struct err *e)
{
	struct amqp *a = calloc(1, sizeof(*a));
	char name[160];
	int r;

	if (!a)
		return err_nomem(e);
	a->channel.type = &amqp_type;
	a->loop = l;
	a->ops = ops;
	a->user = user;
	a->message_max = conf->settings->message_max;
	TAILQ_INIT(&a->requests);
	snprintf(name, sizeof(name), "zr-eval %s/%u", conf->settings->host, conf->worker);
	r = name_queues(a, conf->settings, e);
	if (r == 0)
		r = open_out(a, conf, name, e);
	if (r == 0)
		r = open_in(a, conf->settings, name, e);
	if (r < 0) {
		amqp_free(&a->channel);
		return r;
	}
	*ret = &a->channel;
	return 0;
}

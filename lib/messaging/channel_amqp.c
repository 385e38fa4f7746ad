/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Requests come from the work queues through a feed, control messages from a stream.
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
#include "messaging/feed.h"
#include "messaging/publisher.h"
#include "messaging/stash.h"
#include "messaging/topology.h"

#define CONTROL_PREFETCH 200
/* What comes this soon after the first lay in the stream. */
#define CONTROL_OLD_USEC (10 * USEC_PER_SEC)
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

struct amqp {
	struct channel channel;
	struct loop *loop;
	const struct channel_ops *ops;
	void *user;
	uint64_t message_max;

	struct broker *in;
	struct publisher *out;
	struct feed *feed;
	char **queues; /* with work */
	struct broker_consumer *control;
	uint64_t control_since; /* its first message came then */
	bool control_warned;
	TAILQ_HEAD(, channel_request) requests; /* not settled */

	unsigned want;   /* 0: no more requests, for now or for good */
	unsigned checks; /* passive declarations without an answer */
	bool in_ready, out_ready, up;
	void (*closed)(void *user);
	void *closed_user;
};

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

static bool holds(const struct channel *c, const struct channel_request *t)
{
	return broker_holds(((const struct amqp *)c)->in, t->ref);
}

static int settle_ack(struct channel *c, struct channel_request *t)
{
	struct amqp *a = (struct amqp *)c;
	int r = feed_ack(a->feed, t->ref);

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

		(void)!feed_ack(a->feed, t->ref);
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

static bool request_delivery(void *user, const struct delivery *d, const char *queue)
{
	struct amqp *a = user;
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
		return false;
	}
	t = request_new(a, d, queue);
	if (!t) {
		(void)broker_reject(a->in, d->ref, true);
		return false;
	}
	bad = message_decode(d->body, d->size, a->message_max, &m, &e);
	if (bad == MESSAGE_GOOD && m->type != MESSAGE_REQUEST) {
		bad = MESSAGE_UNKNOWN_TYPE;
		err_input(&e, "a message of type '%s' is no request", message_type_name(m->type));
	}
	if (bad == MESSAGE_NO_MEMORY) {
		(void)settle_back(&a->channel, t);
		return false;
	}
	if (bad != MESSAGE_GOOD) {
		report(a, LOG_ERR, "a message in %s is refused (%s): %s", queue,
		       message_bad_name(bad), e.msg);
		(void)settle_dead(&a->channel, t, message_bad_name(bad), e.msg);
		return false;
	}
	if (a->want)
		a->want--;
	a->ops->on_request(a->user, t, m, d->redelivered);
	return true;
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

static void on_delivery(void *user, const struct delivery *d)
{
	struct amqp *a = user;

	if (d->consumer && d->consumer == a->control)
		control_delivery(a, d);
	else
		feed_delivery(a->feed, d);
}

static void on_feed_idle(void *user)
{
	tell_idle(user);
}

static void on_feed_report(void *user, int level, const char *text)
{
	report(user, level, "%s", text);
}

static const struct feed_ops feed_ops = {
	.on_request = request_delivery,
	.on_idle = on_feed_idle,
	.on_report = on_feed_report,
};

static void set_want(struct channel *c, unsigned n)
{
	struct amqp *a = (struct amqp *)c;

	if (a->closed)
		return;
	a->want = n;
	feed_want(a->feed, n);
}

static bool brings_more(const struct channel *c)
{
	return feed_brings_more(((const struct amqp *)c)->feed);
}

static bool is_idle(const struct channel *c)
{
	const struct amqp *a = (const struct amqp *)c;

	return feed_is_idle(a->feed) && TAILQ_EMPTY(&a->requests);
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
	feed_up(a->feed, up);
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
	for (size_t i = 0; i <= strv_len(a->queues); i++) {
		const struct broker_call call = {
			.type = BROKER_QUEUE_DECLARE,
			.queue = a->queues[i] ? a->queues[i] : TOPOLOGY_CONTROL,
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

struct telling {
	channel_told_fn told;
	void *user;
};

static void on_told(void *user, enum broker_outcome o, unused_arg const char *why)
{
	struct telling *t = user;

	t->told(t->user, o == BROKER_CONFIRMED);
	free(t);
}

/* Mandatory: what no queue takes has told nobody anything. */
static int tell(struct channel *c, const char *key, const char *id, const void *body, size_t n,
		channel_told_fn told, void *user, struct err *e)
{
	const struct publication pub = { .exchange = TOPOLOGY_EXCHANGE,
					 .routing_key = key,
					 .message_id = id,
					 .body = body,
					 .n = n };
	struct telling *t = malloc(sizeof(*t));
	int r;

	if (!t)
		return err_nomem(e);
	*t = (struct telling){ .told = told, .user = user };
	r = publisher_send(((struct amqp *)c)->out, &pub, on_told, t, e);
	if (r < 0)
		free(t);
	return r;
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
	set_want(c, 0);
	a->closed = done;
	a->closed_user = user;
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
	feed_free(a->feed);
	strv_free(a->queues);
	free(a);
}

static const struct channel_type amqp_type = {
	.name = "amqp",
	.free = amqp_free,
	.close = close_channel,
	.want = set_want,
	.holds = holds,
	.ack = settle_ack,
	.dead = settle_dead,
	.give_back = settle_back,
	.event = send_event,
	.tell = tell,
	.is_idle = is_idle,
	.brings_more = brings_more,
};

static int open_in(struct amqp *a, const struct settings *s, const char *name, struct err *e)
{
	static const struct broker_consume control = { .queue = TOPOLOGY_CONTROL,
						       .prefetch = CONTROL_PREFETCH,
						       .stream_offset = "first" };
	struct broker_conf conf;
	int r;

	broker_conf_init(&conf, s, BROKER_CONSUME, name);
	r = topology_work_queues(s->pools, s->host, &a->queues, e);
	if (r == 0)
		r = broker_new(a->loop, &conf, &in_ops, a, &a->in, e);
	if (r == 0)
		r = feed_new(a->loop, a->in, a->queues, &feed_ops, a, &a->feed, e);
	return r < 0 ? r : broker_consume(a->in, &control, &a->control, e);
}

static int open_out(struct amqp *a, const struct channel_conf *cc, const char *name, struct err *e)
{
	auto_free char *dir = NULL;
	struct broker_conf conf;
	int r = stash_path(cc->settings->state_dir, cc->worker, &dir, e);

	if (r < 0)
		return r;
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
	r = open_out(a, conf, name, e);
	if (r == 0)
		a->channel.stash = publisher_stash(a->out);
	if (r == 0)
		r = open_in(a, conf->settings, name, e);
	if (r < 0) {
		amqp_free(&a->channel);
		return r;
	}
	*ret = &a->channel;
	return 0;
}

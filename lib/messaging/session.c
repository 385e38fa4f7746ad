/* SPDX-License-Identifier: MIT */
#include "messaging/session.h"

#include <string.h>

#define CLOSE_USEC (3 * USEC_PER_SEC)
/* Gets asked for at once: a queue of many messages costs a round trip per so many. */
#define GET_BATCH 64

struct session {
	struct loop *loop;
	const struct settings *settings;
	char *name;
	uint64_t timeout_usec;
	struct broker *brokers[2]; /* by role */
	bool down;
	struct err why;

	/* session_publish() */
	size_t waiting; /* for confirms */
	struct err first_err;

	/* session_call() */
	bool answered;
	struct broker_reply reply;
	char text[256], queue[256];

	/* session_get() */
	int (*fn)(void *user, const struct delivery *d);
	void *fn_user;
	size_t gets, got;
	struct delivery_ref *held; /* handed out and not settled, in their order */
	size_t n_held;
	bool empty, stopped;
};

static void on_down(void *user, const struct err *why)
{
	struct session *s = user;

	s->down = true;
	s->why = *why;
}

static void on_outcome(void *user, unused_arg uint64_t cookie, enum broker_outcome o,
		       const char *why)
{
	struct session *s = user;

	s->waiting--;
	if (o == BROKER_CONFIRMED || s->first_err.code)
		return;
	if (o == BROKER_RETURNED)
		err_set(&s->first_err, EHOSTUNREACH, ERR_INPUT,
			"%s; 'zr topology:check' tells which queues there are", why);
	else
		err_set(&s->first_err, EAGAIN, ERR_TRANSIENT, "%s", why);
}

static void on_delivery(void *user, const struct delivery *d)
{
	struct session *s = user;

	struct delivery_ref *held = reallocarray(s->held, s->n_held + 1, sizeof(*held));

	/* Without memory it goes back when the connection closes, and perhaps out of order. */
	if (held) {
		s->held = held;
		held[s->n_held++] = d->ref;
	}
	if (s->stopped || !s->fn)
		return;
	s->got++;
	if (s->fn(s->fn_user, d))
		s->stopped = true;
}

static const struct broker_ops ops = {
	.on_down = on_down,
	.on_outcome = on_outcome,
	.on_delivery = on_delivery,
};

int session_new(const struct settings *settings, const char *name, uint64_t timeout_usec,
		struct session **ret, struct err *e)
{
	struct session *s = calloc(1, sizeof(*s));
	sigset_t mask;
	int r;

	if (!s)
		return err_nomem(e);
	s->settings = settings;
	s->timeout_usec = timeout_usec;
	s->name = strdup(name);
	/* This loop handles no signal but the end of a look-up: Ctrl-C ends a tool during its calls, and
	 * after them. */
	sigprocmask(SIG_SETMASK, NULL, &mask);
	sigaddset(&mask, SIGCHLD);
	r = s->name ? loop_new(&s->loop, e) : err_nomem(e);
	sigprocmask(SIG_SETMASK, &mask, NULL);
	if (r < 0) {
		session_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

static void on_closed(void *user)
{
	*(bool *)user = true;
}

/* One by one in their order: all at once, a quorum queue of 3.10 shuffles them. */
static void give_back(struct session *s, struct broker *b)
{
	for (size_t i = 0; i < s->n_held; i++)
		(void)broker_reject(b, s->held[i], true);
}

/* Settlements that are still on their way get the time to arrive. */
static void say_goodbye(struct session *s, struct broker *b)
{
	uint64_t deadline = time_mono_usec() + CLOSE_USEC, now;
	bool closed = false;

	broker_close(b, on_closed, &closed);
	while (!closed && (now = time_mono_usec()) < deadline)
		if (loop_turn(s->loop, deadline - now, NULL) < 0)
			return;
}

void session_free(struct session *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < ARRAY_LEN(s->brokers); i++) {
		if (s->brokers[i] && broker_is_ready(s->brokers[i])) {
			give_back(s, s->brokers[i]);
			say_goodbye(s, s->brokers[i]);
		}
		broker_free(s->brokers[i]);
	}
	loop_free(s->loop);
	free(s->held);
	free(s->name);
	free(s);
}

/* Turns the loop until `done` says so. */
static int wait_until(struct session *s, bool (*done)(struct session *s), const char *what,
		      struct err *e)
{
	uint64_t deadline = time_mono_usec() + s->timeout_usec;

	while (!done(s)) {
		uint64_t now = time_mono_usec();
		int r;

		if (s->down) {
			if (e)
				*e = s->why;
			return -s->why.code;
		}
		if (now >= deadline)
			return err_set(e, ETIMEDOUT, ERR_TRANSIENT,
				       "the broker did not %s within %llu s", what,
				       (unsigned long long)(s->timeout_usec / USEC_PER_SEC));
		r = loop_turn(s->loop, deadline - now, e);
		if (r < 0)
			return r;
	}
	return 0;
}

static bool consume_ready(struct session *s)
{
	return broker_is_ready(s->brokers[BROKER_CONSUME]);
}

static bool publish_ready(struct session *s)
{
	return broker_is_ready(s->brokers[BROKER_PUBLISH]);
}

static int need(struct session *s, enum broker_role role, struct err *e)
{
	struct broker_conf conf;
	int r;

	if (s->down) {
		broker_free(take_ptr(s->brokers[BROKER_CONSUME]));
		broker_free(take_ptr(s->brokers[BROKER_PUBLISH]));
		s->down = false;
	}
	if (!s->brokers[role]) {
		broker_conf_init(&conf, s->settings, role, s->name);
		conf.once = true;
		r = broker_new(s->loop, &conf, &ops, s, &s->brokers[role], e);
		if (r < 0)
			return r;
	}
	return wait_until(s, role == BROKER_CONSUME ? consume_ready : publish_ready, "answer", e);
}

/* --- publishing --- */

static bool all_settled(struct session *s)
{
	return s->waiting == 0;
}

int session_publish(struct session *s, const struct publication *pubs, size_t n, struct err *e)
{
	int r = need(s, BROKER_PUBLISH, e);

	s->waiting = 0;
	s->first_err = (struct err){ 0 };
	for (size_t i = 0; i < n && r == 0;) {
		r = broker_publish(s->brokers[BROKER_PUBLISH], &pubs[i], i, e);
		if (r == 0) {
			s->waiting++;
			i++;
		} else if (r == -EAGAIN && s->waiting) {
			/* The window is full. */
			r = wait_until(s, all_settled, "confirm", e);
		}
	}
	if (r == 0)
		r = wait_until(s, all_settled, "confirm", e);
	if (r == 0 && s->first_err.code) {
		if (e)
			*e = s->first_err;
		r = -s->first_err.code;
	}
	return r;
}

/* --- calls --- */

static void on_reply(void *user, const struct broker_reply *r)
{
	struct session *s = user;

	s->answered = true;
	s->reply = *r;
	s->reply.text = strncpy(s->text, r->text, sizeof(s->text) - 1);
	s->reply.queue = strncpy(s->queue, r->queue, sizeof(s->queue) - 1);
}

static bool is_answered(struct session *s)
{
	return s->answered;
}

int session_call(struct session *s, const struct broker_call *call, struct broker_reply *ret,
		 struct err *e)
{
	int r = need(s, BROKER_CONSUME, e);

	if (r < 0)
		return r;
	s->answered = false;
	r = broker_call(s->brokers[BROKER_CONSUME], call, on_reply, s, e);
	if (r == 0)
		r = wait_until(s, is_answered, "answer", e);
	if (r == 0 && s->down) {
		if (e)
			*e = s->why;
		return -s->why.code;
	}
	if (r == 0)
		*ret = s->reply;
	return r;
}

/* --- gets --- */

static void on_got(void *user, const struct broker_reply *r)
{
	struct session *s = user;

	s->gets--;
	if (r->empty)
		s->empty = true;
	if (r->code && !s->first_err.code)
		err_set(&s->first_err, EIO, r->code == 404 ? ERR_INPUT : ERR_TRANSIENT, "%d %s",
			r->code, r->text);
}

static bool gets_done(struct session *s)
{
	return s->gets == 0;
}

static int get_batch(struct session *s, const char *queue, size_t n, struct err *e)
{
	const struct broker_call get = { .type = BROKER_GET, .queue = queue };
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++) {
		r = broker_call(s->brokers[BROKER_CONSUME], &get, on_got, s, e);
		if (r == 0)
			s->gets++;
	}
	if (r == 0)
		r = wait_until(s, gets_done, "answer", e);
	if (r == 0 && s->first_err.code) {
		if (e)
			*e = s->first_err;
		r = -s->first_err.code;
	}
	return r < 0 ? err_wrap(e, "queue %s", queue) : 0;
}

int session_get(struct session *s, const char *queue, size_t max,
		int (*fn)(void *user, const struct delivery *d), void *user, struct err *e)
{
	int r = need(s, BROKER_CONSUME, e);

	s->fn = fn;
	s->fn_user = user;
	s->gets = s->got = 0;
	s->empty = s->stopped = false;
	s->first_err = (struct err){ 0 };
	while (r == 0 && s->got < max && !s->empty && !s->stopped) {
		size_t left = max - s->got;

		r = get_batch(s, queue, left < GET_BATCH ? left : GET_BATCH, e);
	}
	s->fn = NULL;
	return r < 0 ? r : (int)s->got;
}

int session_settle(struct session *s, struct delivery_ref ref, bool ack, struct err *e)
{
	struct broker *b = s->brokers[BROKER_CONSUME];
	int r = !b ? -ESTALE : ack ? broker_ack(b, ref, false) : broker_reject(b, ref, true);

	for (size_t i = 0; i < s->n_held; i++) {
		if (s->held[i].life == ref.life && s->held[i].tag == ref.tag) {
			s->n_held--;
			memmove(&s->held[i], &s->held[i + 1], (s->n_held - i) * sizeof(ref));
			break;
		}
	}
	if (r < 0)
		return err_set(e, ESTALE, ERR_TRANSIENT,
			       "the connection went; the message is back in its queue");
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * A broker is a state machine between two streams: bytes from a transport become frames (wire.c),
 * frames become methods and messages, and these become callbacks. Nothing waits: connecting, TLS,
 * login, declarations and confirms are states, not calls. That is why the blocking half of
 * rabbitmq-c (its sockets, its RPCs, its message reader) is not used, only its codec.
 *
 *	WAITING -> CONNECTING -> STARTING -> TUNING -> OPENING -> READY
 *	   ^____________|___________|__________|__________|_________|     any failure
 *
 * broker.c owns the connection, broker_chan.c the AMQP channels and the messages that come in on
 * them, broker_consume.c the consumers, broker_calls.c declarations and gets, broker_publish.c the
 * window of unconfirmed publications.
 *
 * Every consumer has a channel of its own: an error of one queue closes that channel only, and the
 * prefetch of a channel is the consumer's. Declarations and gets have one channel each, opened when
 * first used. A delivery is settled on the channel it came from, during the same opening ("life") of
 * it; later it cannot be, and the broker has given the message back to its queue already.
 *
 * A publication is accepted only when it can be sent: connected, not blocked by an alarm, and inside
 * the window. What the owner was told is accepted gets exactly one outcome.
 *
 * The owner may call anything, also broker_free(), from within a callback: `busy` counts the entries
 * into this module, and memory goes when the last one is left.
 */
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "messaging/broker_int.h"

#define HANDSHAKE_USEC    (10 * USEC_PER_SEC)
#define CLOSE_USEC        (2 * USEC_PER_SEC)
#define BACKOFF_MIN_USEC  (100 * USEC_PER_MSEC)
#define BACKOFF_MAX_USEC  (10 * USEC_PER_SEC)
#define STEADY_USEC       (5 * USEC_PER_SEC) /* a connection that lived this long was a good one */
#define HEARTBEAT_DEFAULT (10 * USEC_PER_SEC)
#define SILENT_BEATS      5 /* of half an interval each */

/* --- ends --- */

static void release(struct broker *b)
{
	b->busy = 1; /* freeing consumers enters and leaves */
	while (b->consumers)
		broker_consumer_free(b->consumers);
	loop_src_free(b->retry);
	loop_src_free(b->handshake);
	loop_src_free(b->beat);
	loop_src_free(b->consumers_retry);
	loop_src_free(b->acks);
	transport_tls_free(b->tls);
	url_done(&b->url);
	empty_amqp_pool(&b->pool);
	free(b->flight);
	free(b->where);
	free(b->name);
	free(b);
}

void broker_enter(struct broker *b)
{
	b->busy++;
}

void broker_leave(struct broker *b)
{
	if (--b->busy == 0 && b->freed)
		release(b);
}

static void drop_connection(struct broker *b)
{
	transport_free(b->transport);
	b->transport = NULL;
	chan_drop_all(b);
	loop_timer_set(b->handshake, USEC_INFINITY);
	loop_timer_set(b->beat, USEC_INFINITY);
	loop_timer_set(b->consumers_retry, USEC_INFINITY);
	loop_timer_set(b->acks, USEC_INFINITY);
}

void broker_free(struct broker *b)
{
	if (!b)
		return;
	broker_enter(b);
	b->freed = true;
	chan_send_acks(b);
	b->state = BROKER_ENDED;
	if (b->transport)
		transport_flush(b->transport);
	drop_connection(b);
	calls_drop_all(b);
	loop_timer_set(b->retry, USEC_INFINITY);
	broker_leave(b);
}

/* Between half and the whole of the pause, so that many workers do not come back as one. */
static uint64_t next_pause(struct broker *b)
{
	uint64_t pause = b->backoff_usec, r = 0;

	b->backoff_usec = pause * 2 < BACKOFF_MAX_USEC ? pause * 2 : BACKOFF_MAX_USEC;
	(void)!getrandom(&r, sizeof(r), GRND_NONBLOCK);
	return pause / 2 + r % (pause / 2 + 1);
}

static void finish_close(struct broker *b)
{
	void (*closed)(void *) = b->closed;

	drop_connection(b);
	b->state = BROKER_ENDED;
	if (closed && !b->freed)
		closed(b->closed_user);
}

void broker_lost(struct broker *b, const struct err *why)
{
	struct err e = *why;
	bool was_ready = b->state == BROKER_READY;

	if (b->freed || b->state == BROKER_WAITING || b->state == BROKER_ENDED)
		return;
	if (b->state == BROKER_CLOSING) {
		finish_close(b);
		return;
	}
	if (was_ready && time_mono_usec() - b->ready_since_usec >= STEADY_USEC)
		b->backoff_usec = BACKOFF_MIN_USEC;
	b->state = b->once ? BROKER_ENDED : BROKER_WAITING;
	drop_connection(b);
	if (!b->once)
		loop_timer_set(b->retry, next_pause(b));
	err_wrap(&e, "%s", b->where);
	broker_enter(b);
	b->blocked = false;
	publish_drop_all(b, e.msg);
	calls_drop_all(b);
	consumers_drop_all(b);
	BROKER_CALL(b, on_down, &e);
	broker_leave(b);
}

void broker_lost_protocol(struct broker *b, const char *what)
{
	struct err e = { 0 };

	err_set(&e, EPROTO, ERR_TRANSIENT, "%s", what);
	broker_lost(b, &e);
}

void broker_lost_nomem(struct broker *b)
{
	struct err e = { 0 };

	err_nomem(&e);
	broker_lost(b, &e);
}

void broker_send(struct broker *b, uint16_t channel, amqp_method_number_t id, void *decoded)
{
	if (!b->transport)
		return;
	if (wire_put_method(transport_out(b->transport), channel, id, decoded) < 0)
		broker_lost_nomem(b);
	else
		transport_kick(b->transport);
}

/* --- the handshake --- */

static bool has_word(amqp_bytes_t list, const char *word)
{
	size_t n = strlen(word);
	const char *p = list.bytes, *end = p + list.len;

	while (p < end) {
		const char *stop = memchr(p, ' ', (size_t)(end - p));

		stop = stop ? stop : end;
		if ((size_t)(stop - p) == n && memcmp(p, word, n) == 0)
			return true;
		p = stop + 1;
	}
	return false;
}

static amqp_table_entry_t text_entry(const char *key, const char *value)
{
	amqp_table_entry_t e = { .key = amqp_cstring_bytes(key) };

	e.value.kind = AMQP_FIELD_KIND_UTF8;
	e.value.value.bytes = amqp_cstring_bytes(value);
	return e;
}

static amqp_table_entry_t true_entry(const char *key)
{
	amqp_table_entry_t e = { .key = amqp_cstring_bytes(key) };

	e.value.kind = AMQP_FIELD_KIND_BOOLEAN;
	e.value.value.boolean = 1;
	return e;
}

/* Without these the broker keeps a cancelled consumer, an alarm and a refused login to itself. */
static void send_start_ok(struct broker *b)
{
	amqp_table_entry_t can[] = { true_entry("publisher_confirms"), true_entry("basic.nack"),
				     true_entry("consumer_cancel_notify"),
				     true_entry("connection.blocked"),
				     true_entry("authentication_failure_close") };
	amqp_table_entry_t props[] = { text_entry("product", "zr"),
				       text_entry("version", ZR_VERSION),
				       text_entry("connection_name", b->name),
				       { .key = amqp_cstring_bytes("capabilities") } };
	amqp_connection_start_ok_t ok = { .client_properties = { ARRAY_LEN(props), props },
					  .mechanism = amqp_cstring_bytes(b->external ? "EXTERNAL"
										      : "PLAIN"),
					  .locale = amqp_cstring_bytes("en_US") };
	size_t user = strlen(b->url.user), password = strlen(b->url.password);
	char plain[1100] = "";

	props[3].value.kind = AMQP_FIELD_KIND_TABLE;
	props[3].value.value.table = (amqp_table_t){ ARRAY_LEN(can), can };
	if (!b->external) {
		memcpy(plain + 1, b->url.user, user);
		memcpy(plain + 2 + user, b->url.password, password);
		ok.response = (amqp_bytes_t){ user + password + 2, plain };
	}
	broker_send(b, CHANNEL_NONE, AMQP_CONNECTION_START_OK_METHOD, &ok);
	explicit_bzero(plain, sizeof(plain));
}

static void on_start(struct broker *b, const amqp_connection_start_t *start)
{
	const char *want = b->external ? "EXTERNAL" : "PLAIN";
	struct err e = { 0 };

	if (!has_word(start->mechanisms, want)) {
		err_set(&e, EACCES, ERR_INPUT, "the broker does not offer the login method %s",
			want);
		broker_lost(b, &e);
		return;
	}
	b->state = BROKER_TUNING;
	send_start_ok(b);
}

static void on_tune(struct broker *b, const amqp_connection_tune_t *tune)
{
	unsigned theirs = tune->heartbeat, ours = (unsigned)(b->heartbeat_usec / USEC_PER_SEC);
	amqp_connection_tune_ok_t ok = {
		.channel_max = tune->channel_max && tune->channel_max < CHANNEL_MAX
				       ? tune->channel_max
				       : CHANNEL_MAX,
		.frame_max = tune->frame_max && tune->frame_max < WIRE_FRAME_MAX ? tune->frame_max
										 : WIRE_FRAME_MAX,
		.heartbeat = (uint16_t)(theirs && theirs < ours ? theirs : ours),
	};
	amqp_connection_open_t open = { .virtual_host = amqp_cstring_bytes(b->url.vhost) };

	if (ok.frame_max < AMQP_FRAME_MIN_SIZE) {
		broker_lost_protocol(b, "the broker asks for frames smaller than AMQP allows");
		return;
	}
	b->frame_max = ok.frame_max;
	b->beat_usec = ok.heartbeat * USEC_PER_SEC;
	b->state = BROKER_OPENING;
	broker_send(b, CHANNEL_NONE, AMQP_CONNECTION_TUNE_OK_METHOD, &ok);
	broker_send(b, CHANNEL_NONE, AMQP_CONNECTION_OPEN_METHOD, &open);
}

static void on_opened(struct broker *b)
{
	b->state = BROKER_READY;
	b->ready_since_usec = time_mono_usec();
	b->silent = 0;
	loop_timer_set(b->handshake, USEC_INFINITY);
	loop_timer_set(b->beat, b->beat_usec / 2);
	if (b->role == BROKER_PUBLISH)
		publish_start(b);
	consumers_start(b);
	if (b->state == BROKER_READY)
		BROKER_CALL(b, on_ready);
}

/* The words of the broker, and what an operator can do about them. */
static void closed_by_broker(struct broker *b, const amqp_connection_close_t *c)
{
	amqp_connection_close_ok_t ok = { 0 };
	struct err e = { 0 };
	char text[256];

	wire_text(text, sizeof(text), c->reply_text);
	if (c->reply_code == AMQP_ACCESS_REFUSED && b->state < BROKER_OPENING)
		err_set(&e, EACCES, ERR_INPUT,
			"login refused: check user and password in amqp_url (%s)", STR_ESC(text));
	else if (b->state == BROKER_OPENING)
		err_set(&e, EACCES, ERR_INPUT,
			"virtual host '%s' cannot be used: it is missing or the user has no "
			"permission (%s)",
			b->url.vhost, STR_ESC(text));
	else
		err_set(&e, ECONNRESET, ERR_TRANSIENT, "closed by the broker: %u %s", c->reply_code,
			STR_ESC(text));
	broker_send(b, CHANNEL_NONE, AMQP_CONNECTION_CLOSE_OK_METHOD, &ok);
	if (b->transport)
		transport_flush(b->transport);
	broker_lost(b, &e);
}

/* Only in the state in which it is expected. */
static bool expected(struct broker *b, enum broker_state state)
{
	if (b->state == state)
		return true;
	broker_lost_protocol(b, "the broker's handshake is out of order");
	return false;
}

static void connection_method(struct broker *b, const amqp_method_t *m)
{
	switch (m->id) {
	case AMQP_CONNECTION_START_METHOD:
		if (expected(b, BROKER_STARTING))
			on_start(b, m->decoded);
		return;
	case AMQP_CONNECTION_TUNE_METHOD:
		if (expected(b, BROKER_TUNING))
			on_tune(b, m->decoded);
		return;
	case AMQP_CONNECTION_OPEN_OK_METHOD:
		if (expected(b, BROKER_OPENING))
			on_opened(b);
		return;
	case AMQP_CONNECTION_CLOSE_METHOD:
		closed_by_broker(b, m->decoded);
		return;
	case AMQP_CONNECTION_CLOSE_OK_METHOD:
		if (b->state == BROKER_CLOSING)
			finish_close(b);
		return;
	case AMQP_CONNECTION_BLOCKED_METHOD:
		b->blocked = true;
		return;
	case AMQP_CONNECTION_UNBLOCKED_METHOD:
		b->blocked = false;
		publish_room(b);
		return;
	default:
		broker_lost_protocol(b, "the broker sent a method that has no meaning here");
		return;
	}
}

/* --- frames --- */

static void take_method(struct broker *b, const struct wire_frame *f)
{
	struct err e = { 0 };
	amqp_method_t m;

	if (wire_method(f, &b->pool, &m, &e) < 0)
		broker_lost(b, &e);
	else if (f->channel == CHANNEL_NONE)
		connection_method(b, &m);
	else if (b->state >= BROKER_READY)
		chan_method(b, f->channel, &m);
	recycle_amqp_pool(&b->pool);
}

static void take_frame(struct broker *b, const struct wire_frame *f)
{
	if (f->type == AMQP_FRAME_METHOD)
		take_method(b, f);
	else if (f->type == AMQP_FRAME_HEADER && f->channel)
		chan_header(b, f);
	else if (f->type == AMQP_FRAME_BODY && f->channel)
		chan_body(b, f);
}

static void on_data(void *user, struct buf *in)
{
	struct broker *b = user;
	struct transport *t = b->transport;
	struct wire_frame f;
	struct err e = { 0 };
	size_t at = 0;

	broker_enter(b);
	while (b->transport == t && at < in->len) {
		ssize_t n = wire_frame(in->data + at, in->len - at,
				       b->frame_max ? b->frame_max : WIRE_FRAME_MAX, &f, &e);

		if (n < 0)
			broker_lost(b, &e);
		if (n <= 0)
			break;
		at += (size_t)n;
		take_frame(b, &f);
	}
	if (b->transport == t) {
		buf_drop_front(in, at);
		transport_flush(t);
	}
	broker_leave(b);
}

static void on_open(void *user)
{
	static const char header[8] = { 'A', 'M', 'Q', 'P', 0, 0, 9, 1 };
	struct broker *b = user;

	b->state = BROKER_STARTING;
	if (buf_add(transport_out(b->transport), header, sizeof(header)) < 0)
		broker_lost_nomem(b);
	else
		transport_kick(b->transport);
}

static void on_broken(void *user, const struct err *why)
{
	struct broker *b = user;
	struct err e = *why;

	/* Brokers that do not know the capability answer a wrong password by hanging up. */
	if (b->state == BROKER_TUNING)
		err_set(&e, EACCES, ERR_INPUT,
			"the broker hung up at the login: check user and password in amqp_url");
	broker_lost(b, &e);
}

/* --- time --- */

static void connect_now(void *user)
{
	static const struct transport_ops ops = { .on_open = on_open,
						  .on_data = on_data,
						  .on_broken = on_broken };
	struct broker *b = user;
	struct err e = { 0 };

	broker_enter(b);
	b->state = BROKER_CONNECTING;
	b->frame_max = 0;
	loop_timer_set(b->handshake, HANDSHAKE_USEC);
	if (transport_new(b->loop, b->url.host, b->url.port, b->tls, &ops, b, &b->transport, &e) <
	    0)
		broker_lost(b, &e);
	broker_leave(b);
}

static void on_handshake_timeout(void *user)
{
	struct broker *b = user;
	struct err e = { 0 };

	err_set(&e, ETIMEDOUT, ERR_TRANSIENT, "no answer to the login within %d s",
		(int)(HANDSHAKE_USEC / USEC_PER_SEC));
	broker_enter(b);
	broker_lost(b, &e);
	broker_leave(b);
}

/* Twice in each interval: says that we live, and looks whether the broker does. */
static void on_beat(void *user)
{
	struct broker *b = user;
	uint64_t bytes = transport_received(b->transport);
	struct err e = { 0 };

	/* Beats are counted, not time: after a suspension what came meanwhile is read first. */
	b->silent = bytes == b->heard_bytes ? b->silent + 1 : 0;
	b->heard_bytes = bytes;
	broker_enter(b);
	if (b->silent >= SILENT_BEATS) {
		err_set(&e, ETIMEDOUT, ERR_TRANSIENT, "nothing heard for %llu s",
			(unsigned long long)(b->silent * b->beat_usec / 2 / USEC_PER_SEC));
		broker_lost(b, &e);
	} else if (wire_put_heartbeat(transport_out(b->transport)) < 0) {
		broker_lost_nomem(b);
	} else {
		transport_kick(b->transport);
		loop_timer_set(b->beat, b->beat_usec / 2);
	}
	broker_leave(b);
}

static void on_consumers_retry(void *user)
{
	struct broker *b = user;

	broker_enter(b);
	consumers_start(b);
	broker_leave(b);
}

static void on_acks(void *user)
{
	struct broker *b = user;

	broker_enter(b);
	chan_send_acks(b);
	broker_leave(b);
}

/* --- construction --- */

void broker_conf_init(struct broker_conf *c, const struct settings *s, enum broker_role role,
		      const char *name)
{
	*c = (struct broker_conf){
		.url = s->amqp_url,
		.ca_file = s->amqp_ca_file,
		.cert_file = s->amqp_cert_file,
		.key_file = s->amqp_key_file,
		.heartbeat_usec = s->amqp_heartbeat_usec,
		.message_max = s->message_max,
		.name = name,
		.role = role,
	};
}

static int make_timers(struct broker *b, struct err *e)
{
	int r = loop_timer(b->loop, 0, connect_now, b, &b->retry, e);

	if (r == 0)
		r = loop_timer(b->loop, USEC_INFINITY, on_handshake_timeout, b, &b->handshake, e);
	if (r == 0)
		r = loop_timer(b->loop, USEC_INFINITY, on_beat, b, &b->beat, e);
	if (r == 0)
		r = loop_timer(b->loop, USEC_INFINITY, on_consumers_retry, b, &b->consumers_retry,
			       e);
	if (r == 0)
		r = loop_timer(b->loop, USEC_INFINITY, on_acks, b, &b->acks, e);
	return r;
}

static int prepare(struct broker *b, const struct broker_conf *conf, struct err *e)
{
	int r = url_parse(conf->url ? conf->url : "amqp://", &b->url, e);

	if (r == 0)
		r = url_where(&b->url, &b->where, e);
	if (r == 0 && b->url.tls)
		r = transport_tls_new(conf->ca_file, conf->cert_file, conf->key_file, &b->tls, e);
	if (r < 0)
		return r;
	b->external = b->tls && conf->cert_file && !b->url.login;
	b->name = strdup(conf->name ? conf->name : "zr");
	b->flight = b->role == BROKER_PUBLISH ? calloc(BROKER_WINDOW, sizeof(*b->flight)) : NULL;
	if (!b->name || (b->role == BROKER_PUBLISH && !b->flight))
		return err_nomem(e);
	return make_timers(b, e);
}

int broker_new(struct loop *l, const struct broker_conf *conf, const struct broker_ops *ops,
	       void *user, struct broker **ret, struct err *e)
{
	struct broker *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return err_nomem(e);
	*b = (struct broker){
		.loop = l,
		.ops = ops,
		.user = user,
		.role = conf->role,
		.once = conf->once,
		.backoff_usec = BACKOFF_MIN_USEC,
		.message_max = conf->message_max ? conf->message_max : (uint64_t)1 << 20,
		.heartbeat_usec = conf->heartbeat_usec >= USEC_PER_SEC ? conf->heartbeat_usec
								       : HEARTBEAT_DEFAULT,
	};
	init_amqp_pool(&b->pool, 4096);
	r = prepare(b, conf, e);
	if (r < 0) {
		release(b);
		return r;
	}
	*ret = b;
	return 0;
}

void broker_close(struct broker *b, void (*done)(void *user), void *user)
{
	amqp_connection_close_t c = { .reply_code = AMQP_REPLY_SUCCESS,
				      .reply_text = amqp_cstring_bytes("bye") };
	bool ready = b->state == BROKER_READY;

	broker_enter(b);
	chan_send_acks(b);
	b->closed = done;
	b->closed_user = user;
	b->state = BROKER_CLOSING;
	loop_timer_set(b->retry, USEC_INFINITY);
	if (ready) {
		loop_timer_set(b->handshake, CLOSE_USEC);
		broker_send(b, CHANNEL_NONE, AMQP_CONNECTION_CLOSE_METHOD, &c);
	} else {
		finish_close(b);
	}
	broker_leave(b);
}

bool broker_is_ready(const struct broker *b)
{
	return b->state == BROKER_READY;
}

const char *broker_where(const struct broker *b)
{
	return b->where;
}

/* SPDX-License-Identifier: MIT */
/* What the files of the broker share; nobody else includes it. */
#ifndef ZR_MESSAGING_BROKER_INT_H
#define ZR_MESSAGING_BROKER_INT_H

#include "messaging/acks.h"
#include "messaging/broker.h"
#include "messaging/transport.h"
#include "messaging/url.h"
#include "messaging/wire.h"

/* Fixed channels; consumers follow. */
enum {
	CHANNEL_NONE, /* the connection itself */
	CHANNEL_PUBLISH,
	CHANNEL_CALLS,
	CHANNEL_GETS,
	CHANNEL_FIRST_CONSUMER,
	CHANNEL_MAX = 255,
};

enum broker_state {
	BROKER_WAITING,    /* for the next attempt */
	BROKER_CONNECTING, /* TCP and TLS */
	BROKER_STARTING,   /* for connection.start, .tune, .open-ok in turn */
	BROKER_TUNING,
	BROKER_OPENING,
	BROKER_READY,
	BROKER_CLOSING,
	BROKER_ENDED,
};

/* A message on its way in: method, header, body frames. */
struct content {
	enum {
		CONTENT_NONE,
		CONTENT_DELIVER,
		CONTENT_GET,
		CONTENT_RETURN,
	} type;
	bool has_header, drop_body;
	uint64_t tag;
	bool redelivered;
	char exchange[256], routing_key[256];
	struct wire_properties props;
	struct buf body;
	uint64_t received;
};

struct call {
	struct call *next;
	struct broker_call spec; /* texts owned */
	struct broker_header *args;
	broker_reply_fn fn;
	void *user;
	bool sent;
};

struct chan {
	uint16_t id;
	uint32_t life;
	bool open;    /* opening was sent and no close since */
	bool closing; /* we have sent channel.close */
	struct content content;
	struct broker_consumer *consumer;
	struct acks acks;
	struct call *calls, **calls_end; /* of the two channels of calls */
};

struct broker_consumer {
	struct broker *b;
	struct broker_consumer *next;
	struct broker_consume spec; /* texts owned */
	char tag[24];
	char offset[24]; /* where a stream goes on; "" at its start */
	struct chan *chan;
	enum {
		CONSUMER_IDLE,     /* not set up */
		CONSUMER_STARTING, /* basic.consume was sent */
		CONSUMER_ACTIVE,
		CONSUMER_PAUSING, /* basic.cancel was sent */
		CONSUMER_PAUSED,
		CONSUMER_LOST, /* to be tried again */
	} state;
	uint16_t qos; /* the prefetch that the channel was told; 0: none */
	bool wanted;  /* not paused by the owner */
	void (*done)(void *user);
	void *done_user;
};

/* A publication without its confirm. */
struct in_flight {
	uint64_t cookie;
	uint64_t key; /* hash of message id and routing key, by which a return is recognised */
	uint32_t bytes;
	bool settled, returned;
	char why[128];
};

struct broker {
	struct loop *loop;
	const struct broker_ops *ops;
	void *user;
	enum broker_role role;
	bool once;
	struct url url;
	char *where, *name;
	struct transport_tls *tls;
	bool external; /* log in by certificate */
	uint64_t heartbeat_usec, message_max;

	enum broker_state state;
	struct transport *transport;
	struct loop_src *retry, *handshake, *beat, *consumers_retry, *acks;
	uint64_t backoff_usec, ready_since_usec;
	uint64_t beat_usec, heard_bytes;
	unsigned silent; /* beats without a byte */
	uint32_t frame_max;
	amqp_pool_t pool; /* the method at hand */
	uint32_t lives;
	struct chan *chans[CHANNEL_MAX + 1];
	struct broker_consumer *consumers;
	unsigned tags;

	uint64_t next_tag, base_tag; /* of publications */
	uint64_t flight_bytes;
	struct in_flight *flight; /* ring of BROKER_WINDOW */
	bool blocked, wants_room;

	void (*closed)(void *user);
	void *closed_user;
	unsigned busy;
	bool freed;
};

/* --- broker.c --- */

void broker_enter(struct broker *b);
void broker_leave(struct broker *b); /* may free it */
/* The connection is over; tried again later. */
void broker_lost(struct broker *b, const struct err *why);
void broker_lost_protocol(struct broker *b, const char *what);
void broker_lost_nomem(struct broker *b);
/* Queues a method for sending. */
void broker_send(struct broker *b, uint16_t channel, amqp_method_number_t id, void *decoded);

#define BROKER_CALL(b, fn, ...)                                                                    \
	do {                                                                                       \
		if (!(b)->freed && (b)->state != BROKER_CLOSING && (b)->ops->fn)                   \
			(b)->ops->fn((b)->user, ##__VA_ARGS__);                                    \
	} while (0)

/* --- broker_chan.c --- */

/* A method, header or body frame of channel 1 and up. */
void chan_method(struct broker *b, uint16_t id, const amqp_method_t *m);
void chan_header(struct broker *b, const struct wire_frame *f);
void chan_body(struct broker *b, const struct wire_frame *f);
/* Opens the channel `id` if it is not. NULL: no memory, and the connection is lost. */
struct chan *chan_open(struct broker *b, uint16_t id);
void chan_close(struct broker *b, struct chan *ch);
/* All channels are gone with the connection. */
void chan_drop_all(struct broker *b);
/* The acknowledgements that waited for each other. */
void chan_send_acks(struct broker *b);
/* The chan of a delivery that can still be settled. */
struct chan *chan_of(const struct broker *b, struct delivery_ref ref);

/* --- broker_consume.c --- */

void consumers_start(struct broker *b); /* those that are wanted and not active */
void consumers_drop_all(struct broker *b);
void consumer_deliver(struct broker *b, struct chan *ch, const struct delivery *d);
void consumer_started(struct chan *ch);                     /* consume-ok */
void consumer_cancelled(struct broker *b, struct chan *ch); /* cancel-ok */
/* Its channel is gone; tried again later. */
void consumer_lost(struct broker_consumer *c, const char *why);

/* --- broker_calls.c --- */

void calls_pump(struct broker *b, struct chan *ch);
/* Answers the oldest call. */
void calls_reply(struct broker *b, struct chan *ch, const struct broker_reply *r);
void calls_refused(struct broker *b, struct chan *ch, int code, const char *text);
void calls_drop_all(struct broker *b);

/* --- broker_publish.c --- */

void publish_start(struct broker *b);
void publish_settle(struct broker *b, uint64_t tag, bool multiple, bool ack);
void publish_returned(struct broker *b, const struct content *c);
void publish_drop_all(struct broker *b, const char *why);
void publish_room(struct broker *b);

#endif

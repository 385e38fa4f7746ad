/* SPDX-License-Identifier: MIT */
/*
 * One connection to RabbitMQ on the event loop. Nothing here blocks but the look-up of the host's
 * name. The connection comes back by itself, with growing pauses; its consumers are set up again
 * before on_ready is called, everything else is the owner's to rebuild there.
 *
 * A connection either consumes or publishes, never both: during an alarm the broker stops reading
 * from a connection that has published, and acknowledgements sent on it would be lost.
 */
#ifndef ZR_MESSAGING_BROKER_H
#define ZR_MESSAGING_BROKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/loop.h"
#include "base/settings.h"

struct broker;
struct broker_consumer;

enum broker_role {
	BROKER_CONSUME,
	BROKER_PUBLISH,
};

/* Names a delivery for its settlement. Valid until settled or its AMQP channel is lost. */
struct delivery_ref {
	uint32_t life; /* which opening of the channel: an old one's deliveries cannot be settled */
	uint16_t channel;
	uint64_t tag;
};

/* One header of a message, in order. Tables and lists are not decoded. */
struct broker_header {
	const char *name; /* valid UTF-8, may be empty */
	enum {
		BROKER_HEADER_TEXT,
		BROKER_HEADER_INT,
		BROKER_HEADER_BOOL,
		BROKER_HEADER_OTHER,
	} type;
	const char *text; /* of a TEXT */
	int64_t number;   /* of an INT or BOOL */
};

/* Valid during on_delivery only. */
struct delivery {
	struct delivery_ref ref;
	struct broker_consumer *consumer; /* NULL: the answer to a get */
	const char *exchange, *routing_key;
	bool redelivered;
	const char *content_type, *message_id, *app_id; /* "" when not given */
	const struct broker_header *headers;
	size_t n_headers;
	const char *bad_headers;  /* not NULL: they could not be decoded, and why */
	uint64_t delivery_count;  /* x-delivery-count, 0 if absent */
	uint64_t stream_offset;   /* x-stream-offset, UINT64_MAX if absent */
	const char *death_reason; /* of x-first-death-reason, or NULL */
	const char *death_queue;  /* of x-first-death-queue, or NULL */
	uint64_t death_sec;       /* of x-death, Unix time; 0 if absent */
	const void *body;
	size_t size;    /* of the body as it was sent */
	bool too_large; /* size is above the limit: body is NULL. Reject it to dead-letter it whole */
};
/* The header's text, or NULL. */
const char *delivery_header(const struct delivery *d, const char *name);

enum broker_outcome {
	BROKER_CONFIRMED,
	BROKER_RETURNED, /* no queue takes this routing key */
	BROKER_REFUSED,  /* the broker said no: try again later */
	BROKER_LOST,     /* the connection went before the answer: perhaps published */
};

struct broker_ops {
	/* Connected; consumers are being set up again, publishing works. */
	void (*on_ready)(void *user);
	/* Not connected: `why` is a sentence with the cure where there is one. Called once per
	 * failed attempt, and when a connection breaks. It is tried again without being asked; kind
	 * INPUT says that the settings are wrong: password, virtual host, certificate. */
	void (*on_down)(void *user, const struct err *why);
	void (*on_delivery)(void *user, const struct delivery *d);
	/* Exactly once for each accepted publication. */
	void (*on_outcome)(void *user, uint64_t cookie, enum broker_outcome o, const char *why);
	/* There is room for publications again. */
	void (*on_room)(void *user);
	/* The broker took a consumer away (its queue was deleted, its channel closed) or cannot set
	 * it up; it is tried again every few seconds. */
	void (*on_consumer_lost)(void *user, struct broker_consumer *c, const char *why);
};

struct broker_conf {
	const char *url;                  /* amqp:// or amqps:// */
	const char *ca_file;              /* NULL: the authorities of the system */
	const char *cert_file, *key_file; /* NULL: no client certificate */
	uint64_t heartbeat_usec;
	uint64_t message_max; /* larger deliveries are flagged, their bytes dropped */
	const char *name;     /* shown by the broker's management tools */
	enum broker_role role;
	bool once; /* for tools: the first failure ends it, no reconnecting */
};
/* Fills what the settings know. `name` and texts are borrowed until broker_new() returns. */
void broker_conf_init(struct broker_conf *c, const struct settings *s, enum broker_role role,
		      const char *name);

/* Starts to connect from the next turn of the loop on. INPUT: a bad URL or unusable TLS files. */
int broker_new(struct loop *l, const struct broker_conf *conf, const struct broker_ops *ops,
	       void *user, struct broker **ret, struct err *e) must_check;
/* Says goodbye properly: what was settled or published before has reached the broker when `done` is
 * called, at the latest after 2 s. Nothing else is called any more. */
void broker_close(struct broker *b, void (*done)(void *user), void *user);
/* Ends at once; unsettled deliveries go back to their queues. Calls back nobody. */
void broker_free(struct broker *b);
DEFINE_AUTO(broker);
bool broker_is_ready(const struct broker *b);
/* "amqps://user@host:5671/vhost", without the password. */
const char *broker_where(const struct broker *b);

/* --- consuming --- */

struct broker_consume {
	const char *queue;
	uint16_t prefetch; /* unsettled deliveries of this consumer; at least 1 */
	int priority;      /* x-priority; 0: none */
	bool exclusive;
	bool no_ack;               /* deliveries count as settled when sent */
	const char *stream_offset; /* "first", "next", …; NULL: not a stream */
};

/* The consumer lives on its own AMQP channel, is set up again after every loss, and stays until
 * broker_consumer_free() or the broker's end. Texts are copied. A stream's consumer goes on after
 * the last message it was given. */
int broker_consume(struct broker *b, const struct broker_consume *spec,
		   struct broker_consumer **ret, struct err *e) must_check;
/* Stops the deliveries: `done` (may be NULL) is called once none can come any more. Unsettled ones
 * can still be settled. */
void broker_pause(struct broker_consumer *c, void (*done)(void *user), void *user);
/* With another prefetch; 0: as before. */
void broker_resume(struct broker_consumer *c, uint16_t prefetch);
/* Unsettled deliveries go back to their queue. */
void broker_consumer_free(struct broker_consumer *c);
const char *broker_consumer_queue(const struct broker_consumer *c);

/* It can still be settled, as far as we know. */
bool broker_holds(const struct broker *b, struct delivery_ref ref);
/* Settling returns -ESTALE if the delivery's channel is gone: the message will come again. */
int broker_ack(struct broker *b, struct delivery_ref ref, bool and_all_before);
/* The same at the end of the loop's turn, together with others of its consumer. */
int broker_ack_soon(struct broker *b, struct delivery_ref ref);
/* requeue: back to its queue. Otherwise dead-lettered as it is. */
int broker_reject(struct broker *b, struct delivery_ref ref, bool requeue);

/* --- publishing --- */

struct publication {
	const char *exchange, *routing_key;
	const void *body;
	size_t n;
	const char *message_id;              /* or NULL */
	const char *content_type;            /* NULL: application/json */
	const struct broker_header *headers; /* TEXT, INT and BOOL only */
	size_t n_headers;
	bool unrouted_ok; /* not mandatory: nobody listening is fine */
	bool transient;
};

/* Publications in flight, unconfirmed. */
#define BROKER_WINDOW       2048u
#define BROKER_WINDOW_BYTES (4u << 20)

/* Persistent, mandatory, confirmed. The cookie comes back in on_outcome. -EAGAIN: not connected,
 * or the window is full; on_room follows. -EMSGSIZE: over message_max. */
int broker_publish(struct broker *b, const struct publication *p, uint64_t cookie,
		   struct err *e) must_check;

/* --- questions and declarations, answered in order --- */

enum broker_call_type {
	BROKER_QUEUE_DECLARE,
	BROKER_QUEUE_BIND,
	BROKER_QUEUE_DELETE,
	BROKER_EXCHANGE_DECLARE,
	BROKER_GET,
};

struct broker_call {
	enum broker_call_type type;
	const char *queue; /* "" in a declaration: the broker chooses a name */
	const char *exchange;
	const char *exchange_type;
	const char *routing_key;
	bool passive; /* only look */
	bool durable, exclusive, auto_delete;
	const struct broker_header *args; /* of the declaration */
	size_t n_args;
};

struct broker_reply {
	int code; /* 0, or the AMQP reply code: 404 not found, 406 differs, 403 refused, … */
	const char *text; /* with a code: the broker's words */
	const char *queue;
	uint64_t messages, consumers; /* of a queue declaration; messages ready only */
	bool empty;                   /* of a get: no message; else on_delivery was called before */
};
/* code 320 when the connection is lost before the answer. */
typedef void (*broker_reply_fn)(void *user, const struct broker_reply *r);

/* Texts are copied. -ENOTCONN while not connected. */
int broker_call(struct broker *b, const struct broker_call *call, broker_reply_fn fn, void *user,
		struct err *e) must_check;

#endif

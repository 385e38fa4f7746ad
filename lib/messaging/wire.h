/* SPDX-License-Identifier: MIT */
/*
 * AMQP 0-9-1 as bytes: frames, methods, message properties. Pure functions. Methods are decoded and
 * encoded by rabbitmq-c, whose header is included here and nowhere else; message properties are
 * decoded by us, because rabbitmq-c recurses into nested header tables and refuses for ever what
 * brokers accept (an empty header name).
 */
#ifndef ZR_MESSAGING_WIRE_H
#define ZR_MESSAGING_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if __has_include(<rabbitmq-c/amqp.h>)
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/framing.h>
#else
#include <amqp.h>
#include <amqp_framing.h>
#endif

#include "base/attr.h"
#include "base/err.h"
#include "base/str.h"
#include "messaging/broker.h"

#define WIRE_FRAME_MAX   131072u
#define WIRE_FRAME_EXTRA 8u /* bytes of a frame around its payload */
#define WIRE_HEADERS_MAX 64u

struct wire_frame {
	uint8_t type;
	uint16_t channel;
	const uint8_t *payload;
	uint32_t size;
};

/* The frame at data[0..n): returns its whole length, or 0 if more bytes are needed. ERR_HOST: this
 * is no AMQP, or a frame larger than frame_max. */
ssize_t wire_frame(const void *data, size_t n, uint32_t frame_max, struct wire_frame *ret,
		   struct err *e) must_check;

/* The method of a method frame. What it points to lives in `pool` or in the frame. */
int wire_method(const struct wire_frame *f, amqp_pool_t *pool, amqp_method_t *ret,
		struct err *e) must_check;
/* A NUL-terminated copy in out[size], cut if need be; returns out. */
char *wire_text(char *out, size_t size, amqp_bytes_t b);

/* Properties of a message. Texts point into `text`, which is owned. */
struct wire_properties {
	uint64_t body_size;
	const char *content_type, *message_id, *app_id; /* "" if absent */
	struct broker_header headers[WIRE_HEADERS_MAX];
	size_t n_headers;
	uint64_t
		death_sec; /* of x-death: when it was dead-lettered, Unix time; 0: never, or unknown */
	const char *bad; /* not NULL: decoding stopped here, and why */
	char *text;
};
/* From a header frame. -ENOMEM, or -EPROTO if not even the body's size can be read. */
int wire_properties(const struct wire_frame *f, struct wire_properties *ret,
		    struct err *e) must_check;
void wire_properties_done(struct wire_properties *p);

/* Appending to what is to be sent. -ENOMEM; -EMSGSIZE: does not fit into a frame. */
int wire_put_method(struct buf *out, uint16_t channel, amqp_method_number_t id,
		    void *decoded) must_check;
int wire_put_heartbeat(struct buf *out) must_check;
int wire_put_content(struct buf *out, uint16_t channel, const struct publication *p,
		     uint32_t frame_max) must_check;

/* headers[n] as an AMQP table; `entries` has room for n. */
amqp_table_t wire_table(const struct broker_header *headers, size_t n, amqp_table_entry_t *entries);

#endif

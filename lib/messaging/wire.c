/* SPDX-License-Identifier: MIT */
#include "messaging/wire.h"

#include <endian.h>
#include <string.h>

#include "base/attr.h"

/* --- reading --- */

/* Foreign bytes and how far they were read; `bad` says why reading stopped. */
struct cursor {
	const uint8_t *p, *end;
	const char *bad;
};

static const uint8_t *take(struct cursor *c, size_t n)
{
	const uint8_t *p = c->p;

	if (c->bad)
		return NULL;
	if ((size_t)(c->end - c->p) < n) {
		c->bad = "they end too early";
		return NULL;
	}
	c->p += n;
	return p;
}

static uint64_t take_uint(struct cursor *c, size_t n)
{
	const uint8_t *p = take(c, n);
	uint64_t v = 0;

	for (size_t i = 0; p && i < n; i++)
		v = v << 8 | p[i];
	return v;
}

static int64_t take_int(struct cursor *c, size_t n)
{
	unsigned shift = 64 - 8 * (unsigned)n;

	return (int64_t)(take_uint(c, n) << shift) >> shift;
}

ssize_t wire_frame(const void *data, size_t n, uint32_t frame_max, struct wire_frame *ret,
		   struct err *e)
{
	struct cursor c = { data, (const uint8_t *)data + n, NULL };

	ret->type = (uint8_t)take_uint(&c, 1);
	ret->channel = (uint16_t)take_uint(&c, 2);
	ret->size = (uint32_t)take_uint(&c, 4);
	if (n >= 4 && memcmp(data, "AMQP", 4) == 0)
		return err_set(e, EPROTO, ERR_HOST, "the broker speaks another version of AMQP");
	if (c.bad)
		return 0;
	if (ret->type != AMQP_FRAME_METHOD && ret->type != AMQP_FRAME_HEADER &&
	    ret->type != AMQP_FRAME_BODY && ret->type != AMQP_FRAME_HEARTBEAT)
		return err_set(e, EPROTO, ERR_HOST,
			       "not AMQP: a frame of type %u; is it the right port?", ret->type);
	if (ret->size > frame_max - WIRE_FRAME_EXTRA)
		return err_set(e, EPROTO, ERR_HOST, "a frame of %u bytes, above the agreed %u",
			       ret->size, frame_max);
	ret->payload = take(&c, ret->size);
	if (take_uint(&c, 1) != AMQP_FRAME_END && !c.bad)
		return err_set(e, EPROTO, ERR_HOST, "a frame does not end where it says");
	return c.bad ? 0 : (ssize_t)(ret->size + WIRE_FRAME_EXTRA);
}

int wire_method(const struct wire_frame *f, amqp_pool_t *pool, amqp_method_t *ret, struct err *e)
{
	struct cursor c = { f->payload, f->payload + f->size, NULL };
	amqp_bytes_t args;
	int r;

	ret->id = (amqp_method_number_t)take_uint(&c, 4);
	if (c.bad)
		return err_set(e, EPROTO, ERR_HOST, "a method frame without a method");
	args.len = (size_t)(c.end - c.p);
	args.bytes = (void *)(uintptr_t)c.p; /* only read */
	r = amqp_decode_method(ret->id, pool, args, &ret->decoded);
	if (r == AMQP_STATUS_NO_MEMORY)
		return err_nomem(e);
	if (r < 0)
		return err_set(e, EPROTO, ERR_HOST, "method 0x%08x: %s", ret->id,
			       amqp_error_string2(r));
	return 0;
}

char *wire_text(char *out, size_t size, amqp_bytes_t b)
{
	size_t n = b.len < size - 1 ? b.len : size - 1;

	if (n)
		memcpy(out, b.bytes, n);
	out[n] = '\0';
	return out;
}

/* Copies of texts, one after the other. Each is preceded by at least one byte of length on the
 * wire, so that the copies with their NULs never need more room than the frame's size. */
struct texts {
	char *next;
};

/* NULL if the bytes are no text. */
static const char *keep_text(struct texts *t, const uint8_t *p, size_t n)
{
	char *s = t->next;

	if (memchr(p, 0, n) || !str_utf8_valid(p, n))
		return NULL;
	memcpy(s, p, n);
	s[n] = '\0';
	t->next += n + 1;
	return s;
}

static const char *take_short_text(struct cursor *c, struct texts *t)
{
	size_t n = (size_t)take_uint(c, 1);
	const uint8_t *p = take(c, n);

	return p ? keep_text(t, p, n) : NULL;
}

static void take_number(struct cursor *c, size_t n, struct broker_header *h)
{
	h->type = BROKER_HEADER_INT;
	h->number = take_int(c, n);
}

static void take_long_text(struct cursor *c, struct texts *t, struct broker_header *h)
{
	size_t n = (size_t)take_uint(c, 4);
	const uint8_t *p = take(c, n);

	h->text = p ? keep_text(t, p, n) : NULL;
	if (h->text)
		h->type = BROKER_HEADER_TEXT;
}

/* One value of a header table. Tables and lists say their length and are stepped over. */
static void take_value(struct cursor *c, struct texts *t, struct broker_header *h)
{
	char type = (char)take_uint(c, 1);

	h->type = BROKER_HEADER_OTHER;
	switch (type) {
	case 't':
		h->type = BROKER_HEADER_BOOL;
		h->number = take_uint(c, 1) != 0;
		return;
	case 'b':
		take_number(c, 1, h);
		return;
	case 's':
		take_number(c, 2, h);
		return;
	case 'I':
		take_number(c, 4, h);
		return;
	case 'l':
	case 'L':
	case 'T':
		take_number(c, 8, h);
		return;
	case 'B':
	case 'u':
	case 'i':
		h->type = BROKER_HEADER_INT;
		h->number = (int64_t)take_uint(c, type == 'B' ? 1 : type == 'u' ? 2 : 4);
		return;
	case 'S':
		take_long_text(c, t, h);
		return;
	case 'A':
	case 'F':
	case 'x':
		take(c, (size_t)take_uint(c, 4));
		return;
	case 'f':
	case 'd':
	case 'D':
		take(c, type == 'f' ? 4 : type == 'd' ? 8 : 5);
		return;
	case 'V':
		return;
	default:
		if (!c->bad)
			c->bad = "a header has a type that does not exist";
		return;
	}
}

/* What has its length before it. Empty if there is less. */
static struct cursor take_part(struct cursor *c)
{
	size_t size = (size_t)take_uint(c, 4);
	const uint8_t *p = take(c, size);

	return (struct cursor){ p, p ? p + size : NULL, NULL };
}

/* Of a list of tables, as RabbitMQ keeps of a message's deaths, the last one first: that one's time. */
static uint64_t take_death(struct cursor value, struct texts *t)
{
	struct cursor list, table;

	if (take_uint(&value, 1) != 'A')
		return 0;
	list = take_part(&value);
	if (take_uint(&list, 1) != 'F')
		return 0;
	table = take_part(&list);
	while (table.p < table.end && !table.bad) {
		struct broker_header h = { 0 };
		const char *name = take_short_text(&table, t);

		take_value(&table, t, &h);
		if (!table.bad && h.type == BROKER_HEADER_INT && h.number > 0 &&
		    str_eq(name, "time"))
			return (uint64_t)h.number;
	}
	return 0;
}

static void take_headers(struct cursor *c, struct texts *t, struct wire_properties *ret)
{
	struct cursor table = take_part(c);

	while (table.p < table.end && !table.bad) {
		struct broker_header h = { 0 };
		const char *name = take_short_text(&table, t);
		struct cursor value = table;

		if (str_eq(name, "x-death"))
			ret->death_sec = take_death(value, t);
		take_value(&table, t, &h);
		h.name = name ? name : "";
		if (!table.bad && ret->n_headers < WIRE_HEADERS_MAX)
			ret->headers[ret->n_headers++] = h;
	}
	/* The table's own length bounds the damage: what follows it can be read. */
	if (table.bad)
		ret->bad = table.bad;
}

#define FLAG(name) AMQP_BASIC_##name##_FLAG

static void take_text_if(struct cursor *c, struct texts *t, unsigned flags, unsigned flag,
			 const char **ret)
{
	const char *s = flags & flag ? take_short_text(c, t) : NULL;

	if (ret && s)
		*ret = s;
}

static void take_properties(struct cursor *c, struct texts *t, struct wire_properties *ret)
{
	unsigned flags = (unsigned)take_uint(c, 2);

	if (flags & 1) {
		c->bad = "they have flags that do not exist";
		return;
	}
	take_text_if(c, t, flags, FLAG(CONTENT_TYPE), &ret->content_type);
	take_text_if(c, t, flags, FLAG(CONTENT_ENCODING), NULL);
	if (flags & FLAG(HEADERS))
		take_headers(c, t, ret);
	if (flags & FLAG(DELIVERY_MODE))
		take(c, 1);
	if (flags & FLAG(PRIORITY))
		take(c, 1);
	take_text_if(c, t, flags, FLAG(CORRELATION_ID), NULL);
	take_text_if(c, t, flags, FLAG(REPLY_TO), NULL);
	take_text_if(c, t, flags, FLAG(EXPIRATION), NULL);
	take_text_if(c, t, flags, FLAG(MESSAGE_ID), &ret->message_id);
	if (flags & FLAG(TIMESTAMP))
		take(c, 8);
	take_text_if(c, t, flags, FLAG(TYPE), NULL);
	take_text_if(c, t, flags, FLAG(USER_ID), NULL);
	take_text_if(c, t, flags, FLAG(APP_ID), &ret->app_id);
	take_text_if(c, t, flags, FLAG(CLUSTER_ID), NULL);
}

int wire_properties(const struct wire_frame *f, struct wire_properties *ret, struct err *e)
{
	struct cursor c = { f->payload, f->payload + f->size, NULL };
	struct texts t;

	ret->content_type = ret->message_id = ret->app_id = "";
	ret->n_headers = 0;
	ret->death_sec = 0;
	ret->bad = NULL;
	ret->text = NULL;
	take(&c, 4); /* class and weight */
	ret->body_size = take_uint(&c, 8);
	if (c.bad)
		return err_set(e, EPROTO, ERR_HOST, "a header frame without a body's size");
	ret->text = t.next = malloc((size_t)f->size + 1);
	if (!ret->text)
		return err_nomem(e);
	take_properties(&c, &t, ret);
	if (c.bad)
		ret->bad = c.bad;
	return 0;
}

void wire_properties_done(struct wire_properties *p)
{
	free(p->text);
	p->text = NULL;
}

/* --- writing --- */

static void put_uint(uint8_t *p, uint64_t v, size_t n)
{
	while (n--) {
		p[n] = (uint8_t)v;
		v >>= 8;
	}
}

/* Room for a frame with up to `max` bytes of payload. Returns where the payload goes. */
static uint8_t *frame_begin(struct buf *out, uint8_t type, uint16_t channel, size_t max)
{
	uint8_t *p;

	if (buf_reserve(out, max + WIRE_FRAME_EXTRA) < 0)
		return NULL;
	p = (uint8_t *)out->data + out->len;
	p[0] = type;
	put_uint(p + 1, channel, 2);
	return p + 7;
}

static void frame_end(struct buf *out, uint8_t *payload, size_t n)
{
	put_uint(payload - 4, n, 4);
	payload[n] = AMQP_FRAME_END;
	out->len += n + WIRE_FRAME_EXTRA;
	out->data[out->len] = '\0';
}

/* Our methods carry a few names and tables of ours. */
#define METHOD_MAX 4096

int wire_put_method(struct buf *out, uint16_t channel, amqp_method_number_t id, void *decoded)
{
	uint8_t *p = frame_begin(out, AMQP_FRAME_METHOD, channel, METHOD_MAX);
	int n;

	if (!p)
		return -ENOMEM;
	put_uint(p, id, 4);
	n = amqp_encode_method(id, decoded, (amqp_bytes_t){ METHOD_MAX - 4, p + 4 });
	if (n < 0)
		return -EMSGSIZE;
	frame_end(out, p, 4 + (size_t)n);
	return 0;
}

int wire_put_heartbeat(struct buf *out)
{
	uint8_t *p = frame_begin(out, AMQP_FRAME_HEARTBEAT, 0, 0);

	if (!p)
		return -ENOMEM;
	frame_end(out, p, 0);
	return 0;
}

amqp_table_t wire_table(const struct broker_header *headers, size_t n, amqp_table_entry_t *entries)
{
	for (size_t i = 0; i < n; i++) {
		const struct broker_header *h = &headers[i];
		amqp_field_value_t *v = &entries[i].value;

		entries[i].key = amqp_cstring_bytes(h->name);
		if (h->type == BROKER_HEADER_TEXT) {
			v->kind = AMQP_FIELD_KIND_UTF8;
			v->value.bytes = amqp_cstring_bytes(h->text);
		} else if (h->type == BROKER_HEADER_BOOL) {
			v->kind = AMQP_FIELD_KIND_BOOLEAN;
			v->value.boolean = h->number != 0;
		} else {
			v->kind = AMQP_FIELD_KIND_I64;
			v->value.i64 = h->number;
		}
	}
	return (amqp_table_t){ (int)n, entries };
}

static int put_header(struct buf *out, uint16_t channel, const struct publication *p)
{
	amqp_table_entry_t entries[WIRE_HEADERS_MAX];
	amqp_basic_properties_t props = {
		._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG |
			  AMQP_BASIC_APP_ID_FLAG,
		.content_type =
			amqp_cstring_bytes(p->content_type ? p->content_type : "application/json"),
		.delivery_mode = p->transient ? 1 : 2,
		.app_id = amqp_cstring_bytes("zr"),
	};
	uint8_t *frame;
	int n;

	if (p->n_headers > ARRAY_LEN(entries))
		return -EMSGSIZE;
	if (p->message_id) {
		props._flags |= AMQP_BASIC_MESSAGE_ID_FLAG;
		props.message_id = amqp_cstring_bytes(p->message_id);
	}
	if (p->n_headers) {
		props._flags |= AMQP_BASIC_HEADERS_FLAG;
		props.headers = wire_table(p->headers, p->n_headers, entries);
	}
	frame = frame_begin(out, AMQP_FRAME_HEADER, channel, METHOD_MAX);
	if (!frame)
		return -ENOMEM;
	put_uint(frame, AMQP_BASIC_CLASS, 2);
	put_uint(frame + 2, 0, 2);
	put_uint(frame + 4, p->n, 8);
	n = amqp_encode_properties(AMQP_BASIC_CLASS, &props,
				   (amqp_bytes_t){ METHOD_MAX - 12, frame + 12 });
	if (n < 0)
		return -EMSGSIZE;
	frame_end(out, frame, 12 + (size_t)n);
	return 0;
}

static int put_body(struct buf *out, uint16_t channel, const struct publication *p,
		    uint32_t frame_max)
{
	size_t piece = frame_max - WIRE_FRAME_EXTRA;

	for (size_t at = 0; at < p->n; at += piece) {
		size_t n = p->n - at < piece ? p->n - at : piece;
		uint8_t *frame = frame_begin(out, AMQP_FRAME_BODY, channel, n);

		if (!frame)
			return -ENOMEM;
		memcpy(frame, (const uint8_t *)p->body + at, n);
		frame_end(out, frame, n);
	}
	return 0;
}

int wire_put_content(struct buf *out, uint16_t channel, const struct publication *p,
		     uint32_t frame_max)
{
	amqp_basic_publish_t publish = {
		.exchange = amqp_cstring_bytes(p->exchange),
		.routing_key = amqp_cstring_bytes(p->routing_key),
		.mandatory = !p->unrouted_ok,
	};
	size_t before = out->len;
	int r = wire_put_method(out, channel, AMQP_BASIC_PUBLISH_METHOD, &publish);

	if (r == 0)
		r = put_header(out, channel, p);
	if (r == 0)
		r = put_body(out, channel, p, frame_max);
	/* Half a message on the wire would end the connection. */
	if (r < 0)
		out->len = before;
	return r;
}

/* SPDX-License-Identifier: MIT */
#include "messaging/publisher.h"

#include <dirent.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/id.h"
#include "base/json.h"
#include "base/str.h"
#include "messaging/spool.h"
#include "messaging/topology.h"

#define SEGMENT_BYTES (4u << 20)
/* A publication that the broker refused is tried again after this. */
#define AGAIN_USEC USEC_PER_SEC
/* What no queue takes waits for an operator to make one; it is tried again after this. */
#define UNROUTED_USEC (10 * USEC_PER_SEC)
#define PARKED        "parked"
/* Who starts beside us may hold our folder's lock while it looks whether anybody has it. */
#define LOCK_TRIES     50
#define LOCK_WAIT_NSEC 100000000

/* What a cookie means: the number of a record of the spool, or one of these. */
#define COOKIE_SEND ((uint64_t)1 << 62) /* | number of a struct send */
#define COOKIE_NONE ((uint64_t)1 << 63) /* an event that is not durable */

struct send {
	TAILQ_ENTRY(send) entry;
	uint64_t cookie;
	publisher_done_fn done;
	void *user;
};

struct publisher {
	const struct publisher_ops *ops;
	void *user;
	char *dir;
	struct broker *broker;
	struct spool *spool;
	uint64_t cursor; /* the last record that was handed to the broker */
	struct buf record;
	TAILQ_HEAD(, send) sends;
	uint64_t last_send;
	struct loop_src *again;
	uint64_t notes; /* records that are not sent */
	bool up;
	bool unrouted; /* said since the last try */
};

printf_like(2, 3) static void warn(const struct publisher *p, const char *fmt, ...)
{
	char text[640];
	va_list ap;

	if (!p->ops->on_warning)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	p->ops->on_warning(p->user, text);
}

/* --- a record: routing key, NUL, message id, NUL, body; a note has an empty routing key -------- */

static int pack(struct buf *b, const char *key, const char *id, const void *body, size_t n)
{
	b->len = 0;
	if (buf_add(b, key, strlen(key) + 1) < 0 || buf_add(b, id, strlen(id) + 1) < 0)
		return -ENOMEM;
	return buf_add(b, body, n);
}

static bool unpack(const struct buf *b, struct publication *ret)
{
	const char *key = b->data, *id, *body;

	id = memchr(key, '\0', b->len);
	if (!id)
		return false;
	id++;
	body = memchr(id, '\0', b->len - (size_t)(id - key));
	if (!body)
		return false;
	body++;
	*ret = (struct publication){ .exchange = TOPOLOGY_EXCHANGE,
				     .routing_key = key,
				     .message_id = id,
				     .body = body,
				     .n = b->len - (size_t)(body - key) };
	return true;
}

static bool is_note(const struct publication *pub)
{
	return !*pub->routing_key;
}

/* --- sending ------------------------------------------------------------------------------- */

/* What can never be sent is kept where an operator finds it. */
static void park(struct publisher *p, uint64_t id, const char *why)
{
	uint64_t before = id - 1;
	auto_free char *path = NULL;
	struct publication pub = { .routing_key = "?" };
	char name[UUID_LEN + 1];
	struct err e = { 0 };

	if (spool_next(p->spool, &before, &p->record, &e) != 1 || before != id)
		return;
	if (!unpack(&p->record, &pub)) {
		pub.body = p->record.data;
		pub.n = p->record.len;
	}
	if (str_fmt(&path, "%s/" PARKED "/%s.json", p->dir, id_uuid7(name)) < 0 ||
	    fd_write_file(AT_FDCWD, path, pub.body, pub.n, 0600, true, &e) < 0) {
		/* It stays in the spool, and is tried again at the next start. */
		warn(p, "an event for '%s' cannot be parked: %s", STR_ESC(pub.routing_key), e.msg);
		return;
	}
	if (p->ops->on_parked)
		p->ops->on_parked(p->user, pub.routing_key, why);
	spool_drop(p->spool, id);
}

/* Hands durable records to the broker until it has enough. */
static void pump(struct publisher *p)
{
	struct err e = { 0 };

	while (p->up) {
		struct publication pub;
		uint64_t id = p->cursor;
		int r = spool_next(p->spool, &id, &p->record, &e);

		if (r == 0)
			return;
		if (r < 0) {
			warn(p, "%s", e.msg);
			return;
		}
		if (!unpack(&p->record, &pub)) {
			park(p, id, "it is not a record of this program");
			p->cursor = id;
			continue;
		}
		r = is_note(&pub) ? 0 : broker_publish(p->broker, &pub, id, &e);
		if (r == -EAGAIN)
			return;
		p->cursor = id;
		if (r < 0)
			park(p, id, e.msg);
	}
}

static void on_durable(void *user, uint64_t id)
{
	struct publisher *p = user;

	if (p->ops->on_durable)
		p->ops->on_durable(p->user, id);
	pump(p);
}

static void on_spool_error(void *user, const struct err *why)
{
	warn(user, "events are not safe yet: %s; trying again", why->msg);
}

static const struct spool_ops spool_calls = { .on_durable = on_durable,
					      .on_error = on_spool_error };

static void on_again(void *user)
{
	struct publisher *p = user;

	p->cursor = 0;
	p->unrouted = false;
	pump(p);
}

static void durable_outcome(struct publisher *p, uint64_t id, enum broker_outcome o,
			    const char *why)
{
	switch (o) {
	case BROKER_CONFIRMED:
		spool_drop(p->spool, id);
		if (p->ops->on_confirmed)
			p->ops->on_confirmed(p->user, id);
		break;
	case BROKER_RETURNED:
		/* An end of an evaluation that nobody can hear yet must not get lost. */
		if (!p->unrouted)
			warn(p, "%s; events wait on disk: run 'zr topology:apply'", why);
		p->unrouted = true;
		loop_timer_set(p->again, UNROUTED_USEC);
		break;
	case BROKER_REFUSED:
		loop_timer_set(p->again, AGAIN_USEC);
		break;
	case BROKER_LOST:
		break; /* on_ready() begins anew */
	}
}

static void send_outcome(struct publisher *p, uint64_t cookie, enum broker_outcome o,
			 const char *why)
{
	struct send *s;

	TAILQ_FOREACH (s, &p->sends, entry)
		if (s->cookie == cookie)
			break;
	if (!s)
		return;
	TAILQ_REMOVE(&p->sends, s, entry);
	s->done(s->user, o, why);
	free(s);
}

static void on_outcome(void *user, uint64_t cookie, enum broker_outcome o, const char *why)
{
	struct publisher *p = user;

	if (cookie & COOKIE_SEND)
		send_outcome(p, cookie, o, why);
	else if (!(cookie & COOKIE_NONE))
		durable_outcome(p, cookie, o, why);
}

static void on_ready(void *user)
{
	struct publisher *p = user;

	p->up = true;
	p->cursor = 0;
	if (p->ops->on_state)
		p->ops->on_state(p->user, true, NULL);
	pump(p);
}

static void on_down(void *user, const struct err *why)
{
	struct publisher *p = user;

	p->up = false;
	if (p->ops->on_state)
		p->ops->on_state(p->user, false, why);
}

static void on_room(void *user)
{
	pump(user);
}

static const struct broker_ops broker_calls = {
	.on_ready = on_ready,
	.on_down = on_down,
	.on_outcome = on_outcome,
	.on_room = on_room,
};

int publisher_event(struct publisher *p, const char *routing_key, const char *message_id,
		    const void *body, size_t n, bool durable, uint64_t *ret_id, struct err *e)
{
	const struct publication pub = { .exchange = TOPOLOGY_EXCHANGE,
					 .routing_key = routing_key,
					 .message_id = message_id,
					 .body = body,
					 .n = n,
					 .unrouted_ok = true };
	uint64_t id = 0;
	int r;

	if (!durable) {
		/* Dropped when the broker is away or has enough to do. */
		if (p->up)
			(void)!broker_publish(p->broker, &pub, COOKIE_NONE, NULL);
		return 0;
	}
	if (pack(&p->record, routing_key, message_id, body, n) < 0)
		return err_nomem(e);
	r = spool_append(p->spool, p->record.data, p->record.len, &id, e);
	if (r == 0 && ret_id)
		*ret_id = id;
	return r;
}

int publisher_note(struct publisher *p, const char *name, const void *body, size_t n,
		   uint64_t *ret_id, struct err *e)
{
	int r;

	if (pack(&p->record, "", name, body, n) < 0)
		return err_nomem(e);
	r = spool_append(p->spool, p->record.data, p->record.len, ret_id, e);
	if (r == 0)
		p->notes++;
	return r;
}

void publisher_forget(struct publisher *p, uint64_t id)
{
	p->notes--;
	spool_drop(p->spool, id);
}

int publisher_send(struct publisher *p, const struct publication *pub, publisher_done_fn done,
		   void *user, struct err *e)
{
	struct send *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_nomem(e);
	*s = (struct send){ .cookie = COOKIE_SEND | ++p->last_send, .done = done, .user = user };
	TAILQ_INSERT_TAIL(&p->sends, s, entry);
	r = broker_publish(p->broker, pub, s->cookie, e);
	if (r < 0) {
		TAILQ_REMOVE(&p->sends, s, entry);
		free(s);
	}
	return r;
}

/* --- opening ------------------------------------------------------------------------------- */

/* Moves what a former worker left in its folder into ours. Ours is durable before theirs goes. */
static int empty_into(struct publisher *p, struct loop *l, const char *dir, struct err *e)
{
	static const struct spool_ops silent = { 0 };
	auto_spool struct spool *from = NULL;
	uint64_t id = 0, copy, last = 0;
	int r = spool_open(l, dir, UINT64_MAX, SEGMENT_BYTES, &silent, NULL, &from, NULL, e);

	if (r < 0)
		return r;
	while ((r = spool_next(from, &id, &p->record, e)) == 1) {
		r = spool_append(p->spool, p->record.data, p->record.len, &copy, e);
		if (r < 0)
			return r;
		last = id;
	}
	if (r == 0)
		r = spool_sync(p->spool, e);
	for (id = 1; r == 0 && id <= last; id++)
		spool_drop(from, id);
	return r;
}

static int adopt_siblings(struct publisher *p, struct loop *l)
{
	auto_free char *parent = strdup(p->dir);
	char *slash = parent ? strrchr(parent, '/') : NULL;
	struct dirent *de;
	DIR *d;

	if (!slash || slash == parent)
		return 0;
	*slash = '\0';
	d = opendir(parent);
	while (d && (de = readdir(d))) {
		auto_free char *path = NULL;
		struct err e = { 0 };

		if (de->d_name[0] == '.' || str_eq(de->d_name, slash + 1) || de->d_type != DT_DIR ||
		    str_fmt(&path, "%s/%s", parent, de->d_name) < 0)
			continue;
		if (empty_into(p, l, path, &e) < 0 && e.code != EWOULDBLOCK)
			warn(p, "events of a former worker stay in %s: %s", path, e.msg);
	}
	if (d)
		closedir(d);
	return 0;
}

/* Those that a former process left, here or in a sibling. */
static int find_notes(struct publisher *p, struct err *e)
{
	struct publication pub;
	uint64_t id = 0;
	int r;

	while ((r = spool_next(p->spool, &id, &p->record, e)) == 1) {
		if (!unpack(&p->record, &pub) || !is_note(&pub))
			continue;
		p->notes++;
		if (!p->ops->on_note ||
		    !p->ops->on_note(p->user, id, pub.message_id, pub.body, pub.n))
			publisher_forget(p, id);
	}
	return r;
}

static int make_parked(const struct publisher *p, struct err *e)
{
	auto_free char *path = NULL;

	if (str_fmt(&path, "%s/" PARKED, p->dir) < 0)
		return err_nomem(e);
	return fd_mkdirs(path, 0700, e);
}

static int open_spool(struct publisher *p, struct loop *l, uint64_t bytes_max, uint64_t *cut,
		      struct err *e)
{
	const struct timespec pause = { .tv_nsec = LOCK_WAIT_NSEC };
	int r = -EWOULDBLOCK;

	for (int i = 0; i < LOCK_TRIES && r == -EWOULDBLOCK; i++) {
		if (i)
			(void)nanosleep(&pause, NULL);
		r = spool_open(l, p->dir, bytes_max, SEGMENT_BYTES, &spool_calls, p, &p->spool, cut,
			       e);
	}
	if (r == -EWOULDBLOCK)
		return err_set(e, EWOULDBLOCK, ERR_INPUT,
			       "%s is in use by another worker: end that one, or give this one a "
			       "state_dir of its own",
			       p->dir);
	return r;
}

int publisher_new(struct loop *l, const struct broker_conf *conf, const char *dir,
		  uint64_t bytes_max, const struct publisher_ops *ops, void *user,
		  struct publisher **ret, struct err *e)
{
	auto_obj(publisher) p = calloc(1, sizeof(*p));
	uint64_t cut = 0;
	int r;

	if (!p)
		return err_nomem(e);
	p->ops = ops;
	p->user = user;
	TAILQ_INIT(&p->sends);
	p->dir = strdup(dir);
	r = p->dir ? open_spool(p, l, bytes_max, &cut, e) : err_nomem(e);
	if (r == 0)
		r = make_parked(p, e);
	if (r == 0)
		r = loop_timer(l, USEC_INFINITY, on_again, p, &p->again, e);
	if (r == 0)
		r = broker_new(l, conf, &broker_calls, p, &p->broker, e);
	if (r < 0)
		return r;
	if (cut)
		warn(p, "%llu bytes that a crash tore off were cut from %s",
		     (unsigned long long)cut, dir);
	(void)adopt_siblings(p, l);
	r = find_notes(p, e);
	if (r < 0)
		return r;
	*ret = take_ptr(p);
	return 0;
}

void publisher_free(struct publisher *p)
{
	struct send *s;

	if (!p)
		return;
	broker_free(p->broker);
	spool_close(p->spool);
	while ((s = TAILQ_FIRST(&p->sends))) {
		TAILQ_REMOVE(&p->sends, s, entry);
		s->done(s->user, BROKER_LOST, "the publisher was closed");
		free(s);
	}
	loop_src_free(p->again);
	buf_done(&p->record);
	free(p->dir);
	free(p);
}

bool publisher_is_up(const struct publisher *p)
{
	return p->up;
}

uint64_t publisher_waiting(const struct publisher *p)
{
	return spool_records(p->spool) - p->notes;
}

int publisher_sync(struct publisher *p, struct err *e)
{
	return spool_sync(p->spool, e);
}

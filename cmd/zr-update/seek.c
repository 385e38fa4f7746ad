/* SPDX-License-Identifier: MIT */
/* A round: which attempts; the stream from before the oldest of them up to a tick that was sent since; what was
 * found confirmed by the broker; that it was done noted. Or, with nothing to look for, what was not found. */
#include "seek.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "audit.h"
#include "base/log.h"
#include "base/str.h"
#include "leader.h"
#include "messaging/broker.h"
#include "messaging/message.h"
#include "messaging/topology.h"
#include "outlet.h"
#include "store/sought.h"

#define ROUND_USEC (5 * USEC_PER_SEC)
/* Their starts and ends are all letters of the outlet at the same time. */
#define ROWS 1000
/* For what an event needs from its sender into the stream, and for clocks of broker and database. */
#define MARGIN_SEC 60
/* There is a tick every other second. */
#define SILENCE_USEC (20 * USEC_PER_SEC)
#define PREFETCH     500

struct seek {
	struct update *update;
	bool running;
	uint64_t next_usec; /* no round before */
	int64_t *ids;       /* evaluations of this round, sorted; NULL: there is none */
	size_t n;
	struct buf evaluations, attempts; /* the same as arrays of the database */
	uint64_t begun_wall_usec;         /* by the database */
	struct broker *broker;            /* while the stream is read */
	struct broker_consumer *consumer;
	struct loop_src *silence;
	struct loop_src *stop; /* frees the broker, which must not be done in a call of it */
	size_t found, confirmed;
	bool read, refused;
};

/* --- the end of a round ---------------------------------------------------------------------- */

static void close_stream(struct seek *s)
{
	broker_free(s->broker);
	s->broker = NULL;
	s->consumer = NULL;
	loop_timer_set(s->silence, USEC_INFINITY);
}

static void round_over(struct seek *s)
{
	close_stream(s);
	free(s->ids);
	s->ids = NULL;
	buf_done(&s->evaluations);
	buf_done(&s->attempts);
	s->found = s->confirmed = 0;
	s->read = s->refused = s->running = false;
	s->next_usec = time_mono_usec() + ROUND_USEC - USEC_PER_SEC / 2;
}

static bool failed(struct seek *s, const struct db_outcome *o)
{
	if (o->class == DB_OK)
		return false;
	(void)update_failed(s->update, "look for lost events", o);
	round_over(s);
	return true;
}

static void on_ended(void *user, const struct db_outcome *o)
{
	struct seek *s = user;

	if (failed(s, o))
		return;
	audit_ended(s->update, o);
	round_over(s);
}

static void on_noted(void *user, const struct db_outcome *o)
{
	struct seek *s = user;

	if (!failed(s, o))
		round_over(s);
}

static void note(struct seek *s)
{
	struct db_args a = { 0 };

	if (s->found)
		log_notice("%zu events of %zu attempts are taken from the stream %s", s->found,
			   s->n, TOPOLOGY_EVENTS);
	close_stream(s);
	sought_note_args(&a, s->evaluations.data, s->attempts.data, s->read && !s->refused);
	if (db_pipe_send(s->update->work, &sought_note_stmt, &a, on_noted, s, NULL) < 0)
		round_over(s);
}

static void on_stop(void *user)
{
	struct seek *s = user;

	close_stream(s);
	if (s->confirmed == s->found)
		note(s);
}

static void end_reading(struct seek *s, bool all)
{
	s->read = all;
	loop_defer_arm(s->stop);
}

static void on_silence(void *user)
{
	struct seek *s = user;

	log_warning("lost events are not found: nothing comes from the stream %s", TOPOLOGY_EVENTS);
	end_reading(s, false);
}

/* --- what the stream has --------------------------------------------------------------------- */

static void on_confirmed(void *user, bool confirmed, const char *why)
{
	struct seek *s = user;

	(void)why; /* the outlet has said it */
	s->refused |= !confirmed;
	s->confirmed++;
	if (!s->broker && s->confirmed == s->found)
		note(s);
}

static int compare(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

/* The start or the end of an evaluation that is looked for, by its routing key. */
static bool is_sought(const struct seek *s, const char *key)
{
	static const char *const kinds[] = { "event.started.", "event.completed.", "event.failed.",
					     "event.canceled." };
	uint64_t n;
	int64_t id;

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		if (!str_starts(key, kinds[i]))
			continue;
		if (str_u64(key + strlen(kinds[i]), &n) < 0 || n > INT64_MAX)
			return false;
		id = (int64_t)n;
		return bsearch(&id, s->ids, s->n, sizeof(id), compare);
	}
	return false;
}

/* Our own tick, from after the round's beginning: all that may be missing came before it. */
static bool is_end(const struct seek *s, const struct delivery *d)
{
	auto_obj(message) m = NULL;

	if (!str_starts(d->routing_key, "event.worker.") || !d->body ||
	    message_decode(d->body, d->size, d->size + 1, &m, NULL) != MESSAGE_GOOD)
		return false;
	return m->type == MESSAGE_WORKER && m->worker.role &&
	       str_eq(m->worker.role, MESSAGE_ROLE_UPDATE) &&
	       m->worker.at_wall_usec > s->begun_wall_usec;
}

static void on_delivery(void *user, const struct delivery *d)
{
	struct seek *s = user;

	(void)broker_ack_soon(s->broker, d->ref);
	if (s->read)
		return;
	loop_timer_set(s->silence, SILENCE_USEC);
	if (d->body && is_sought(s, d->routing_key)) {
		s->found++;
		if (outlet_copy(s->update->outlet, TOPOLOGY_UPDATE, d->message_id, d->body, d->size,
				on_confirmed, s, NULL) < 0) {
			s->refused = true;
			s->confirmed++;
		}
	} else if (is_end(s, d)) {
		end_reading(s, true);
	}
}

static void on_down(void *user, const struct err *why)
{
	log_warning("lost events are not found: %s", why->msg);
	end_reading(user, false);
}

static void on_consumer_lost(void *user, struct broker_consumer *c, const char *why)
{
	(void)c;
	log_warning("lost events are not found: stream %s: %s", TOPOLOGY_EVENTS, why);
	end_reading(user, false);
}

static int open_stream(struct seek *s, int64_t age_sec, struct err *e)
{
	static const struct broker_ops ops = {
		.on_down = on_down,
		.on_delivery = on_delivery,
		.on_consumer_lost = on_consumer_lost,
	};
	char from[32];
	const struct broker_consume spec = {
		.queue = TOPOLOGY_EVENTS,
		.prefetch = PREFETCH,
		.stream_offset = from,
	};
	struct broker_conf conf;
	auto_free char *name = NULL;
	int r;

	if (str_fmt(&name, "zr-update %s seek", s->update->name) < 0)
		return err_nomem(e);
	snprintf(from, sizeof(from), "%" PRId64 "s", age_sec + MARGIN_SEC);
	broker_conf_init(&conf, s->update->settings, BROKER_CONSUME, name);
	conf.once = true;
	r = broker_new(s->update->loop, &conf, &ops, s, &s->broker, e);
	if (r == 0)
		r = broker_consume(s->broker, &spec, &s->consumer, e);
	loop_timer_set(s->silence, SILENCE_USEC);
	return r;
}

/* --- a round --------------------------------------------------------------------------------- */

static int take_rows(struct seek *s, const struct db_rows *rows, int64_t *ret_age_sec)
{
	int n = db_rows_n(rows), r = 0;

	s->ids = calloc((size_t)n, sizeof(*s->ids));
	if (!s->ids)
		return -ENOMEM;
	s->n = (size_t)n;
	for (int i = 0; r == 0 && i < n; i++) {
		char comma = i ? ',' : '{';

		s->ids[i] = db_int(rows, i, 0);
		if (db_int(rows, i, 2) > *ret_age_sec)
			*ret_age_sec = db_int(rows, i, 2);
		r = buf_fmt(&s->evaluations, "%c%" PRId64, comma, s->ids[i]);
		if (r == 0)
			r = buf_fmt(&s->attempts, "%c%" PRId64, comma, db_int(rows, i, 1));
	}
	if (r == 0)
		r = buf_str(&s->evaluations, "}");
	if (r == 0)
		r = buf_str(&s->attempts, "}");
	qsort(s->ids, s->n, sizeof(*s->ids), compare);
	return r < 0 ? r : time_parse(db_text(rows, 0, 3), &s->begun_wall_usec);
}

/* What was looked for often enough, and is not there. */
static void end_unfound(struct seek *s)
{
	struct db_args a = { 0 };

	sought_end_args(&a, s->update->settings->infrastructure_retries);
	if (db_pipe_send(s->update->work, &sought_end_stmt, &a, on_ended, s, NULL) < 0)
		round_over(s);
}

static void on_rows(void *user, const struct db_outcome *o)
{
	struct seek *s = user;
	struct err e = { 0 };
	int64_t age_sec = 0;

	if (failed(s, o))
		return;
	if (!leader_is_me(s->update->leader)) {
		round_over(s);
		return;
	}
	if (!db_rows_n(o->rows[0])) {
		end_unfound(s);
		return;
	}
	if (take_rows(s, o->rows[0], &age_sec) < 0) {
		round_over(s);
		return;
	}
	log_info("%zu attempts are in no queue and held by no worker; their events are looked for "
		 "in "
		 "the stream %s",
		 s->n, TOPOLOGY_EVENTS);
	if (open_stream(s, age_sec, &e) < 0) {
		log_warning("lost events are not found: %s", e.msg);
		round_over(s);
	}
}

void seek_poke(struct seek *s)
{
	struct db_args a = { 0 };

	if (s->running || time_mono_usec() < s->next_usec)
		return;
	sought_due_args(&a, s->update->settings->lease_usec, ROWS);
	s->running = db_pipe_send(s->update->work, &sought_due_stmt, &a, on_rows, s, NULL) == 0;
}

int seek_new(struct update *u, struct seek **ret, struct err *e)
{
	auto_obj(seek) s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_nomem(e);
	s->update = u;
	r = loop_timer(u->loop, USEC_INFINITY, on_silence, s, &s->silence, e);
	if (r == 0)
		r = loop_defer(u->loop, on_stop, s, &s->stop, e);
	if (r == 0)
		*ret = take_ptr(s);
	return r;
}

void seek_free(struct seek *s)
{
	if (!s)
		return;
	broker_free(s->broker);
	free(s->ids);
	buf_done(&s->evaluations);
	buf_done(&s->attempts);
	loop_src_free(s->silence);
	loop_src_free(s->stop);
	free(s);
}

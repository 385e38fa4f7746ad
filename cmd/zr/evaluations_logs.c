/* SPDX-License-Identifier: MIT */
/*
 * evaluations:logs. The logs of a stored result are files. Before that, what the job writes travels
 * as log events, which the broker keeps in a stream for some days: it is read from about the time the
 * evaluation started. Pieces have an offset in their log, so repeats are dropped and gaps are named.
 *
 * Standard output gets the logs' bytes and nothing else; on a terminal control bytes are escaped.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/id.h"
#include "base/json.h"
#include "base/loop.h"
#include "commands.h"
#include "db.h"
#include "follow.h"
#include "logtext.h"
#include "messaging/broker.h"
#include "messaging/message.h"
#include "messaging/topology.h"
#include "reach.h"

#define IDLE_USEC   (2 * USEC_PER_SEC) /* a stream that says nothing for so long is at its end */
#define MARGIN_USEC (60 * USEC_PER_SEC)

enum {
	OUT,
	ERR,
	STREAM_N
};
static const char *const files[] = { ".zr/out.log", ".zr/err.log" };
static const char *const titles[] = { "standard output", "standard error" };

struct logs {
	struct cli *c;
	struct follow follow;
	int64_t id;
	char key[64];     /* of its log events */
	uint64_t attempt; /* 0: the newest */
	bool go_on, wanted[STREAM_N], tty;
	json_t *row;               /* the evaluation */
	char source[UUID_LEN + 1]; /* attempt_id of the pieces printed so far */
	int64_t next[STREAM_N];    /* offset after them */
	struct loop *loop;
	struct broker *broker;
	struct broker_consumer *consumer;
	uint64_t started, heard; /* monotonic */
	uint64_t started_wall;
	bool settled;
};

static const char *text_of(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

/* --- printing ----------------------------------------------------------------------------------- */

static void print_bytes(const struct logs *l, const char *data, size_t n)
{
	if (l->tty)
		logtext_print(stdout, data, n);
	else
		fwrite(data, 1, n, stdout);
}

/* --- a stored result ---------------------------------------------------------------------------- */

static int print_file(const struct logs *l, int dir, int which, struct err *e)
{
	auto_close int fd =
		openat(dir, files[which], O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	char buffer[65536];
	bool titled = false;
	ssize_t n;

	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0)
		return err_sys(e, "open %s", files[which]);
	while ((n = read(fd, buffer, sizeof(buffer))) > 0) {
		if (!titled && l->wanted[OUT] && l->wanted[ERR])
			cli_say("--- %s:", titles[which]);
		titled = true;
		print_bytes(l, buffer, (size_t)n);
		fflush(stdout);
	}
	return n < 0 ? err_sys(e, "read %s", files[which]) : 0;
}

static int print_stored(const struct logs *l, const char *path)
{
	auto_close int dir = -1;
	struct err e = { 0 };
	int r = fd_open_dir(AT_FDCWD, path, &dir, &e);

	for (int i = 0; i < STREAM_N && r == 0; i++)
		if (l->wanted[i])
			r = print_file(l, dir, i, &e);
	if (r == 0)
		return CLI_DONE;
	err_wrap(&e, "the result of evaluation %lld in %s", (long long)l->id, path);
	return cli_fail(l->c, &e);
}

/* The attempt asked for, else the one in force; NULL: there is none. */
static const json_t *find_attempt(const struct logs *l)
{
	const json_t *a, *attempts = json_object_get(l->row, "attempts");
	const char *id = text_of(l->row, "attempt_id");
	size_t i;

	json_array_foreach(attempts, i,
			   a) if (l->attempt ? json_integer_value(json_object_get(a, "attempt")) ==
						       (json_int_t)l->attempt
					     : str_eq(text_of(a, "attempt_id"), id)) return a;
	return NULL;
}

static const char *stored_path(const struct logs *l)
{
	const json_t *results = json_object_get(find_attempt(l), "results");

	return str_eq(text_of(results, "state"), "stored") ? text_of(results, "path") : NULL;
}

/* --- the stream --------------------------------------------------------------------------------- */

/* Pieces of one attempt at a time: of the one asked for, else of the newest seen. */
static bool take_attempt(struct logs *l, const struct message_event *ev)
{
	if (l->attempt && (uint64_t)ev->attempt != l->attempt)
		return false;
	if (str_eq(l->source, ev->attempt_id))
		return true;
	if (l->source[0])
		cli_say("--- attempt %d:", ev->attempt);
	snprintf(l->source, sizeof(l->source), "%s", ev->attempt_id);
	l->next[OUT] = l->next[ERR] = 0;
	return true;
}

static void print_piece(struct logs *l, const struct message_event *ev)
{
	struct message_log piece;
	int64_t *next, skip;
	size_t n;

	message_log(ev->body, &piece);
	if (!l->wanted[piece.err ? ERR : OUT] || !take_attempt(l, ev))
		return;
	next = &l->next[piece.err ? ERR : OUT];
	n = strlen(piece.text);
	skip = *next - piece.offset;
	if (skip >= (int64_t)n && n)
		return;
	if (skip < 0)
		cli_say("--- %lld bytes of %s are missing here", (long long)-skip,
			titles[piece.err ? ERR : OUT]);
	if (skip < 0)
		skip = 0;
	print_bytes(l, piece.text + skip, n - (size_t)skip);
	fflush(stdout);
	*next = piece.offset + (int64_t)n;
}

/* Workers say every few seconds that they are there. */
static bool is_from_before(const struct logs *l, const struct message *m)
{
	return (m->type == MESSAGE_EVENT ? m->event.at_wall_usec : m->worker.at_wall_usec) <=
	       l->started_wall;
}

static void on_delivery(void *user, const struct delivery *d)
{
	struct logs *l = user;
	auto_obj(message) m = NULL;
	struct err e = { 0 };
	bool ours = str_eq(d->routing_key, l->key), old;

	(void)broker_ack(l->broker, d->ref, true);
	if (!d->body || message_decode(d->body, d->size, SIZE_MAX, &m, &e) != MESSAGE_GOOD ||
	    (m->type != MESSAGE_EVENT && m->type != MESSAGE_WORKER))
		return;
	old = is_from_before(l, m);
	if (old || ours)
		l->heard = time_mono_usec();
	if (ours && m->type == MESSAGE_EVENT && m->event.kind == MESSAGE_LOG)
		print_piece(l, &m->event);
	/* What was said after we began was not asked for. */
	if (!l->go_on && !old)
		loop_exit(l->loop, CLI_DONE);
}

static void on_down(void *user, const struct err *why)
{
	struct logs *l = user;

	cli_say("zr %s: %s", l->c->command->name, why->msg);
	loop_exit(l->loop, CLI_AGAIN);
}

static void on_consumer_lost(void *user, struct broker_consumer *consumer, const char *why)
{
	struct logs *l = user;

	(void)consumer;
	cli_say("zr %s: stream %s: %s", l->c->command->name, TOPOLOGY_EVENTS, why);
	loop_exit(l->loop, CLI_FAILED);
}

static void on_ready(void *user)
{
	struct logs *l = user;

	l->heard = time_mono_usec();
}

/* The end is what the database says, seen from a stream that has nothing more to tell. */
static void on_tick(struct logs *l)
{
	bool idle = l->heard && time_mono_usec() - l->heard >= IDLE_USEC;
	struct err e = { 0 };
	json_t *row = NULL;

	if (idle && (!l->go_on || l->settled))
		loop_exit(l->loop, CLI_DONE);
	if (!l->go_on || l->settled || follow_show(&l->follow, l->id, &row, &e) < 0)
		return;
	l->settled = json_is_true(json_object_get(row, "settled"));
	if (l->settled)
		l->heard = time_mono_usec();
	json_decref(row);
}

struct ticker {
	struct logs *logs;
	struct loop_src *timer;
};

static void tick(void *user)
{
	struct ticker *t = user;

	on_tick(t->logs);
	loop_timer_set(t->timer, FOLLOW_USEC);
}

static void on_signal(void *user, int signo)
{
	struct logs *l = user;

	loop_exit(l->loop, 128 + signo);
}

/* "123s": so far back the stream is read. */
static void reach_back(const struct logs *l, char *out, size_t size)
{
	const char *since = text_of(l->row, "started_at");
	uint64_t then, now = time_wall_usec(), back = MARGIN_USEC;

	if (!since || l->attempt)
		since = text_of(l->row, "created_at");
	if (since && time_parse(since, &then) == 0 && then < now)
		back += now - then;
	snprintf(out, size, "%llus", (unsigned long long)(back / USEC_PER_SEC));
}

static int listen_to_stream(struct logs *l, struct err *e)
{
	static const struct broker_ops ops = {
		.on_ready = on_ready,
		.on_down = on_down,
		.on_delivery = on_delivery,
		.on_consumer_lost = on_consumer_lost,
	};
	struct broker_conf conf = { 0 };
	char from[32];
	struct broker_consume spec = {
		.queue = TOPOLOGY_EVENTS,
		.prefetch = 200,
		.stream_offset = from,
	};
	int r;

	broker_conf_init(&conf, l->follow.settings, BROKER_CONSUME, "zr evaluations:logs");
	conf.once = true;
	reach_back(l, from, sizeof(from));
	r = broker_new(l->loop, &conf, &ops, l, &l->broker, e);
	return r < 0 ? r : broker_consume(l->broker, &spec, &l->consumer, e);
}

static int run_loop(struct logs *l)
{
	struct loop_src *interrupt = NULL, *terminate = NULL;
	struct ticker t = { .logs = l };
	struct err e = { 0 };
	int r = loop_signal(l->loop, SIGINT, on_signal, l, &interrupt, &e);

	if (r == 0)
		r = loop_signal(l->loop, SIGTERM, on_signal, l, &terminate, &e);
	if (r == 0)
		r = loop_timer(l->loop, FOLLOW_USEC, tick, &t, &t.timer, &e);
	if (r == 0)
		r = listen_to_stream(l, &e);
	if (r == 0)
		r = loop_run(l->loop, &e);
	loop_src_free(interrupt);
	loop_src_free(terminate);
	loop_src_free(t.timer);
	broker_free(l->broker);
	return r < 0 ? cli_fail_setup(l->c, &e) : r;
}

static int print_stream(struct logs *l)
{
	auto_obj(loop) loop = NULL;
	struct err e = { 0 };
	int status;

	if (!l->follow.settings->amqp_url) {
		cli_say("zr %s: the logs of evaluation %lld are not here, and no broker is named: "
			"set amqp_url in %s, or AMQP_URL",
			l->c->command->name, (long long)l->id, l->follow.settings->file);
		return CLI_USAGE;
	}
	if (loop_new(&loop, &e) < 0)
		return cli_fail(l->c, &e);
	l->loop = loop;
	l->started = time_mono_usec();
	l->started_wall = time_wall_usec();
	l->settled = json_is_true(json_object_get(l->row, "settled"));
	status = run_loop(l);
	if (status == CLI_DONE && !l->source[0])
		cli_say("zr %s: evaluation %lld has written nothing that is known here",
			l->c->command->name, (long long)l->id);
	return status;
}

/* --- the verb ----------------------------------------------------------------------------------- */

static int print_logs(struct logs *l)
{
	struct err e = { 0 };
	const char *path;

	if (evaluations_show(l->follow.db, l->id, l->follow.settings->results_dir, &l->row, &e) < 0)
		return cli_fail(l->c, &e);
	if (l->attempt && !find_attempt(l))
		return cli_usage(l->c, "evaluation %lld has no attempt %llu", (long long)l->id,
				 (unsigned long long)l->attempt);
	path = stored_path(l);
	return path ? print_stored(l, path) : print_stream(l);
}

int cmd_evaluations_logs(struct cli *c)
{
	struct logs l = { .c = c, .wanted = { true, true } };
	auto_obj(settings) s = NULL;
	const char *stream = NULL;
	int status;
	const struct cli_opt opts[] = {
		{ "follow", 'f', CLI_FLAG, &l.go_on, NULL, "go on until it has ended" },
		{ "stream", 0, CLI_TEXT, &stream, "out|err", "only one of the two logs" },
		{ "attempt", 0, CLI_COUNT, &l.attempt, "N", "of this attempt" },
		{ 0 },
	};

	if (!cli_parse(c, opts, 1, 1) || !cli_id(c, "evaluation", c->argv[0], &l.id))
		return c->status;
	if (stream && !str_eq(stream, "out") && !str_eq(stream, "err"))
		return cli_usage(c, "bad value for --stream: '%s' (want out or err)",
				 STR_ESC(stream));
	l.wanted[OUT] = !stream || str_eq(stream, "out");
	l.wanted[ERR] = !stream || str_eq(stream, "err");
	l.tty = isatty(STDOUT_FILENO) == 1;
	snprintf(l.key, sizeof(l.key), "event.log.%lld", (long long)l.id);
	if (!cli_db(c, &s, &l.follow.db))
		return c->status;
	l.follow.settings = s;
	status = print_logs(&l);
	json_decref(l.row);
	follow_done(&l.follow);
	return status;
}

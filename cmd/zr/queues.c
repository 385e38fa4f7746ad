/* SPDX-License-Identifier: MIT */
/* queues: what waits; queues:dead and queues:requeue: what could not be handled. */
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/json.h"
#include "base/str.h"
#include "commands.h"
#include "letters.h"
#include "messaging/topology.h"
#include "reach.h"
#include "topology.h"

#define TIMEOUT_USEC  (30 * USEC_PER_SEC)
#define PREVIEW_MAX   200 /* bytes of a dead body in a listing */
#define REQUEUE_BATCH 32

static int run_queues(struct cli *c)
{
	static const struct cli_col columns[] = {
		{ "name", "QUEUE", COL_TEXT },          { "messages", "MESSAGES", COL_TEXT },
		{ "consumers", "CONSUMERS", COL_TEXT }, { "state", "STATE", COL_TEXT },
		{ "reason", "PROBLEM", COL_TEXT },      { 0 },
	};
	bool json = false;
	json_auto_t *rows = NULL;
	struct err e = { 0 };
	int bad = 0, r;
	const struct cli_opt opts[] = {
		{ "json", 0, CLI_FLAG, &json, NULL, "print JSON" },
		{ 0 },
	};

	if (!cli_parse(c, opts, 0, 0))
		return c->status;
	r = topology_rows(c, false, true, &rows, &bad, &e);
	if (r > 0)
		return c->status;
	return r < 0 ? cli_fail_setup(c, &e) : cli_list(c, rows, columns, json);
}

/* --- the dead queue --- */

/* zr's own workers say why in headers; what the broker dead-lettered by itself says it in its own. */
static const char *dead_reason(const struct delivery *d)
{
	const char *reason = delivery_header(d, "zr-reason");

	if (reason)
		return reason;
	if (d->too_large)
		return "too-large";
	if (d->bad_headers)
		return "bad-headers";
	if (str_eq(d->death_reason, "delivery_limit"))
		return "delivery-limit";
	return d->death_reason ? d->death_reason : "unknown";
}

static const char *dead_queue(const struct delivery *d)
{
	const char *queue = delivery_header(d, "zr-queue");

	return queue ? queue : d->death_queue;
}

static void add_text(struct hash *h, const char *s)
{
	hash_add(h, s ? s : "", s ? strlen(s) + 1 : 1);
}

/* The message's id, or one made of all that is known of it: the same in every listing. Of one that
 * is too large the body is not among that. */
static char *dead_id(char out[UINT8_MAX + 1], const struct delivery *d)
{
	uint8_t sum[HASH_SIZE];
	char hex[65];
	struct hash h;

	if (*d->message_id) {
		snprintf(out, UINT8_MAX + 1, "%s", d->message_id);
		return out;
	}
	hash_init(&h);
	add_text(&h, dead_reason(d));
	add_text(&h, dead_queue(d));
	for (size_t i = 0; i < d->n_headers; i++)
		if (d->headers[i].type == BROKER_HEADER_TEXT)
			add_text(&h, d->headers[i].text);
	hash_add(&h, &d->size, sizeof(d->size));
	hash_add(&h, d->body ? d->body : "", d->body ? d->size : 0);
	hash_end(&h, sum);
	snprintf(out, UINT8_MAX + 1, "%.16s", hash_hex(hex, sum));
	return out;
}

struct dead_list {
	json_t *rows;
	bool nomem;
};

static json_t *optional(const char *s)
{
	return s ? js_from_bytes(s, strlen(s)) : json_null();
}

/* When we have set it aside ourselves, or else the broker. */
static json_t *died_at(const struct delivery *d)
{
	const char *at = delivery_header(d, "zr-at");
	char text[TIME_TEXT_MAX];

	/* A time that no text has room for is a lie. */
	if (at || !d->death_sec || d->death_sec > UINT32_MAX)
		return optional(at);
	return json_string(time_text(text, d->death_sec * USEC_PER_SEC));
}

static int list_dead(void *user, const struct delivery *d)
{
	struct dead_list *l = user;
	size_t n = !d->body ? 0 : d->size < PREVIEW_MAX ? d->size : PREVIEW_MAX;
	const char *detail = delivery_header(d, "zr-detail");
	char id[UINT8_MAX + 1], size[128];
	json_t *row;

	if (!detail && d->too_large) {
		snprintf(size, sizeof(size),
			 "%zu bytes are more than message_max allows; see that setting", d->size);
		detail = size;
	}
	row = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:o}", "id", optional(dead_id(id, d)),
			"name", optional(dead_queue(d)), "reason", optional(dead_reason(d)),
			"detail", optional(detail), "routing_key",
			optional(delivery_header(d, "zr-routing-key")), "at", died_at(d), "size",
			(json_int_t)d->size, "body",
			d->body ? js_from_bytes(d->body, n) : json_null());

	if (!row || json_array_append_new(l->rows, row) < 0)
		l->nomem = true;
	return l->nomem;
}

static int run_dead(struct cli *c)
{
	static const struct cli_col columns[] = {
		{ "id", "ID", COL_TEXT },
		{ "name", "QUEUE", COL_TEXT },
		{ "reason", "REASON", COL_TEXT },
		{ "at", "AT", COL_TIME },
		{ "size", "SIZE", COL_SIZE },
		{ "detail", "DETAIL", COL_TEXT },
		{ 0 },
	};
	json_auto_t *rows = json_array();
	struct dead_list list = { rows, false };
	auto_obj(settings) s = NULL;
	auto_obj(session) session = NULL;
	uint64_t limit = 1000;
	bool json = false;
	struct err e = { 0 };
	int r;
	const struct cli_opt opts[] = {
		{ "json", 0, CLI_FLAG, &json, NULL, "print JSON" },
		{ "limit", 0, CLI_COUNT, &limit, "N", "at most N messages, the oldest (1000)" },
		{ 0 },
	};

	if (!cli_parse(c, opts, 0, 0) || !cli_settings(c, &s))
		return c->status;
	r = rows ? letters_open(s, "zr queues:dead", TIMEOUT_USEC, &session, &e) : err_nomem(&e);
	if (r == 0)
		r = session_get(session, TOPOLOGY_DEAD, limit, list_dead, &list, &e);
	if (r >= 0 && list.nomem)
		r = err_nomem(&e);
	return r < 0 ? cli_fail_setup(c, &e) : cli_list(c, rows, columns, json);
}

/* --- requeue --- */

/* A dead message that is to go back. */
struct dead {
	struct delivery_ref ref;
	char *queue, *message_id, *content_type;
	struct buf body;
};

struct requeue {
	const struct cli *cli;
	char *const *ids; /* NULL: any */
	const char *reason;
	struct dead batch[REQUEUE_BATCH];
	size_t n;
	size_t moved, failed;
	bool nomem;
};

static void dead_done(struct dead *d)
{
	free(d->queue);
	free(d->message_id);
	free(d->content_type);
	buf_done(&d->body);
}

static bool is_wanted(const struct requeue *q, const struct delivery *d)
{
	char id[UINT8_MAX + 1];

	if (q->reason && !str_eq(q->reason, dead_reason(d)))
		return false;
	for (char *const *p = q->ids; p && *p; p++)
		if (str_eq(*p, dead_id(id, d)))
			return true;
	return !q->ids || !*q->ids;
}

static int pick_dead(void *user, const struct delivery *d)
{
	struct requeue *q = user;
	const char *queue = dead_queue(d);
	char id[UINT8_MAX + 1];
	struct dead *dead;

	if (!is_wanted(q, d))
		return 0;
	if (!queue || d->too_large) {
		q->failed++;
		cli_say("%s: %s", dead_id(id, d),
			queue ? "larger than message_max, left where it is"
			      : "nothing says from which queue it came, left where it is");
		return 0;
	}
	dead = &q->batch[q->n++];
	*dead = (struct dead){ .ref = d->ref,
			       .queue = strdup(queue),
			       .message_id = strdup(d->message_id),
			       .content_type = strdup(d->content_type) };
	if (!dead->queue || !dead->message_id || !dead->content_type ||
	    buf_add(&dead->body, d->body, d->size) < 0)
		q->nomem = true;
	return q->nomem;
}

/* Straight into the queue it came from; taken out of the dead queue after the confirm. */
static int send_back(struct session *s, const struct dead *d, struct err *e)
{
	const struct publication pub = {
		.exchange = "",
		.routing_key = d->queue,
		.body = d->body.data ? d->body.data : "",
		.n = d->body.len,
		.message_id = *d->message_id ? d->message_id : NULL,
		.content_type = *d->content_type ? d->content_type : NULL,
	};
	int r = session_publish(s, &pub, 1, e);

	return r < 0 ? r : session_settle(s, d->ref, true, e);
}

static int send_batch(struct requeue *q, struct session *s, struct err *e)
{
	int r = q->nomem ? err_nomem(e) : 0;

	for (size_t i = 0; i < q->n; i++) {
		struct err why = { 0 };
		int k = r < 0 ? r : send_back(s, &q->batch[i], &why);

		if (k == 0) {
			q->moved++;
		} else if (r == 0 && why.kind == ERR_INPUT) {
			q->failed++;
			cli_say("%s: %s", q->batch[i].message_id, why.msg);
		} else if (r == 0) {
			*e = why;
			r = k;
		}
		dead_done(&q->batch[i]);
	}
	q->n = 0;
	return r;
}

/* As many as there were at the beginning: what comes back dead at once is not taken again. */
static int requeue_all(struct requeue *q, struct session *s, struct err *e)
{
	const struct broker_call look = { .type = BROKER_QUEUE_DECLARE,
					  .queue = TOPOLOGY_DEAD,
					  .passive = true };
	struct broker_reply reply = { 0 };
	int r = session_call(s, &look, &reply, e);
	uint64_t left = reply.messages;

	if (r == 0 && reply.code)
		return err_input(e, "queue %s: %s", TOPOLOGY_DEAD, reply.text);
	while (r >= 0 && left > 0) {
		r = session_get(s, TOPOLOGY_DEAD, left < REQUEUE_BATCH ? left : REQUEUE_BATCH,
				pick_dead, q, e);
		if (r <= 0)
			return r;
		left -= (uint64_t)r;
		r = send_batch(q, s, e);
	}
	return r;
}

static int run_requeue(struct cli *c)
{
	struct requeue q = { .cli = c };
	auto_obj(settings) s = NULL;
	auto_obj(session) session = NULL;
	bool all = false;
	struct err e = { 0 };
	int r;
	const struct cli_opt opts[] = {
		{ "all", 0, CLI_FLAG, &all, NULL, "every dead message" },
		{ "reason", 0, CLI_TEXT, &q.reason, "REASON", "those with this reason" },
		{ 0 },
	};

	if (!cli_parse(c, opts, 0, -1))
		return c->status;
	q.ids = c->argv;
	if ((c->argc > 0) + all + (q.reason != NULL) != 1)
		return cli_usage(c, "name messages, or give one of --all and --reason");
	if (!cli_settings(c, &s))
		return c->status;
	r = letters_open(s, "zr queues:requeue", TIMEOUT_USEC, &session, &e);
	if (r == 0)
		r = requeue_all(&q, session, &e);
	if (r < 0)
		return cli_fail_setup(c, &e);
	printf("%zu sent back\n", q.moved);
	if (q.moved < (size_t)c->argc)
		cli_say("%zu of the %d named are not in the dead queue or could not be sent back",
			(size_t)c->argc - q.moved, c->argc);
	return q.failed || q.moved < (size_t)c->argc ? CLI_FAILED : CLI_DONE;
}

static const struct command commands[] = {
	{ "queues", "[--json]", "List the queues with what waits in them", "zr queues", run_queues,
	  NULL },
	{ "queues:dead", "[--json] [--limit N]",
	  "List the messages that could not be handled, and why", "zr queues:dead --limit 10",
	  run_dead, "The messages stay where they are." },
	{ "queues:requeue", "ID... | --all | --reason REASON",
	  "Send dead messages back to the queue they came from", "zr queues:requeue --all",
	  run_requeue,
	  "A message leaves the dead queue after the broker has confirmed it in the other." },
	{ "topology:apply", "[--json]", "Create the exchanges and queues that are missing",
	  "zr topology:apply", cmd_topology_apply,
	  "What exists is left as it is; what exists with other properties is an error." },
	{ "topology:check", "[--json]",
	  "Look whether the exchanges and queues are as zr needs them", "zr topology:check",
	  cmd_topology_check, NULL },
	{ 0 },
};

const struct command_group queue_group = { "queues", commands };

/* SPDX-License-Identifier: MIT */
/* events:parked, events:requeue, events:forget: events that could not be applied. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"
#include "commands.h"
#include "db.h"
#include "letters.h"
#include "messaging/topology.h"
#include "reach.h"
#include "store/events.h"

#define TIMEOUT_USEC   (30 * USEC_PER_SEC)
#define MESSAGE_ID_MAX 255 /* a short string of AMQP */

static int run_parked(struct cli *c)
{
	static const struct cli_col columns[] = {
		{ "id", "ID", COL_TEXT },
		{ "reason", "REASON", COL_TEXT },
		{ "routing_key", "ROUTING KEY", COL_TEXT },
		{ "parked_at", "PARKED", COL_TIME },
		{ "bytes", "SIZE", COL_SIZE },
		{ "detail", "DETAIL", COL_TEXT },
		{ 0 },
	};
	const char *reason = NULL;
	auto_obj(settings) s = NULL;
	auto_obj(db) d = NULL;
	json_auto_t *rows = NULL;
	uint64_t limit = 100;
	bool json = false;
	struct err e = { 0 };
	const struct cli_opt opts[] = {
		{ "reason", 0, CLI_TEXT, &reason, "REASON", "those with this reason" },
		{ "limit", 0, CLI_COUNT, &limit, "N", "at most N events, the newest (100)" },
		{ "json", 0, CLI_FLAG, &json, NULL, "print JSON" },
		{ 0 },
	};

	if (!cli_parse(c, opts, 0, 0) || !cli_db(c, &s, &d))
		return c->status;
	if (events_parked(d, reason, (int64_t)limit, &rows, &e) < 0)
		return cli_fail(c, &e);
	return cli_list(c, rows, columns, json);
}

/* --- taking them out ---------------------------------------------------------------------------- */

struct taking {
	struct cli *cli;
	struct db *db;
	struct session *session; /* NULL: to be forgotten */
	size_t done, missing;
};

/*
 * Into the queue of events, straight. The row is deleted before and the deletion committed after the
 * broker's confirm: should the event be parked again meanwhile, that waits for us and finds no row.
 * Sent twice, if this process is killed in between, it is a duplicate like any other.
 */
static int send_again(struct taking *t, const struct events_taken *p, struct err *e)
{
	const struct publication pub = {
		.exchange = "",
		.routing_key = TOPOLOGY_UPDATE,
		.body = p->body.data ? p->body.data : "",
		.n = p->body.len,
		.message_id = p->message_id && strlen(p->message_id) <= MESSAGE_ID_MAX
				      ? p->message_id
				      : NULL,
		.content_type = "application/json",
	};

	return session_publish(t->session, &pub, 1, e);
}

static int take_one(struct taking *t, int64_t id, struct err *e)
{
	auto_done(events_taken) p = { 0 };
	int r = db_begin(t->db, e);

	if (r == 0)
		r = events_take(t->db, id, &p, e);
	if (r == 0 && t->session)
		r = send_again(t, &p, e);
	if (r == 0)
		r = db_commit(t->db, e);
	if (r == 0) {
		t->done++;
		return 0;
	}
	db_rollback(t->db);
	if (r != -ENOENT)
		return r;
	t->missing++;
	cli_say("zr %s: %s", t->cli->command->name, e->msg);
	return 0;
}

static int take_named(struct taking *t, const int64_t *ids, struct err *e)
{
	int r = 0;

	for (int i = 0; i < t->cli->argc && r == 0; i++)
		r = take_one(t, ids[i], e);
	return r;
}

/* Those that are there now: what is parked again gets a higher number. */
static int take_all(struct taking *t, const char *reason, struct err *e)
{
	json_auto_t *ids = NULL;
	const json_t *id;
	size_t i;
	int r = events_parked_ids(t->db, reason, &ids, e);

	if (r < 0)
		return r;
	json_array_foreach(ids, i, id)
	{
		r = take_one(t, json_integer_value(id), e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int take(struct cli *c, bool again)
{
	struct taking t = { .cli = c };
	auto_obj(settings) s = NULL;
	auto_obj(session) session = NULL;
	auto_obj(db) d = NULL;
	const char *reason = NULL;
	bool all = false;
	auto_free int64_t *ids = NULL;
	struct err e = { 0 };
	int r = 0;
	const struct cli_opt opts[] = {
		{ "all", 0, CLI_FLAG, &all, NULL, "every parked event" },
		{ "reason", 0, CLI_TEXT, &reason, "REASON", "those with this reason" },
		{ 0 },
	};

	if (!cli_parse(c, opts, 0, -1))
		return c->status;
	if ((c->argc > 0) + all + (reason != NULL) != 1)
		return cli_usage(c, "name events, or give one of --all and --reason");
	if (!cli_ids(c, "parked event", &ids) || !cli_db(c, &s, &d))
		return c->status;
	t.db = d;
	if (again)
		r = letters_open(s, "zr events:requeue", TIMEOUT_USEC, &session, &e);
	t.session = session;
	if (r == 0)
		r = c->argc ? take_named(&t, ids, &e) : take_all(&t, reason, &e);
	if (t.done || r == 0)
		printf("%zu %s\n", t.done, again ? "sent back" : "forgotten");
	if (r < 0)
		return cli_fail_setup(c, &e);
	return t.missing ? CLI_FAILED : CLI_DONE;
}

static int run_requeue(struct cli *c)
{
	return take(c, true);
}

static int run_forget(struct cli *c)
{
	return take(c, false);
}

static const struct command commands[] = {
	{ "events:forget", "ID... | --all | --reason REASON",
	  "Delete parked events without applying them", "zr events:forget 7", run_forget, NULL },
	{ "events:parked", "[--reason REASON] [--limit N] [--json]",
	  "List the events that could not be applied, and why", "zr events:parked --limit 10",
	  run_parked, "Reasons: unknown-evaluation, data, malformed." },
	{ "events:requeue", "ID... | --all | --reason REASON",
	  "Have zr-update apply parked events again",
	  "zr events:requeue --reason unknown-evaluation", run_requeue,
	  "They go back into the queue of events with their original bytes. What still cannot be\n"
	  "applied is parked again, under a new number." },
	{ 0 },
};

const struct command_group event_group = { "events", commands };

/* SPDX-License-Identifier: MIT */
/* topology:apply and topology:check: the exchanges and queues of zr on the broker. */
#include <stdio.h>

#include "base/str.h"
#include "commands.h"
#include "letters.h"
#include "messaging/topology.h"
#include "reach.h"
#include "topology.h"

#define TIMEOUT_USEC (30 * USEC_PER_SEC)

static const char *kind_name(enum topology_kind k)
{
	static const char *const names[] = { "exchange", "quorum", "stream" };

	return names[k];
}

static int put_state(json_t *rows, const struct topology_state *st)
{
	const char *state = st->ready ? "ready" : st->present ? "differs" : "missing";
	json_t *row = json_pack("{s:s, s:s, s:s, s:s?}", "name", st->item->name, "kind",
				kind_name(st->item->kind), "state", state, "reason", st->problem);
	json_t *messages = json_null(), *consumers = json_null();

	if (st->present && st->item->kind != TOPOLOGY_EXCHANGE_KIND) {
		messages = json_integer((json_int_t)st->messages);
		consumers = json_integer((json_int_t)st->consumers);
	}
	if (json_object_set_new(row, "messages", messages) < 0 ||
	    json_object_set_new(row, "consumers", consumers) < 0) {
		json_decref(row);
		return -ENOMEM;
	}
	return json_array_append_new(rows, row) < 0 ? -ENOMEM : 0;
}

struct collect {
	json_t *rows;
	bool queues_only;
	bool nomem;
};

static void on_state(void *user, const struct topology_state *st)
{
	struct collect *c = user;

	if (c->queues_only && st->item->kind == TOPOLOGY_EXCHANGE_KIND)
		return;
	if (put_state(c->rows, st) < 0)
		c->nomem = true;
}

int topology_rows(struct cli *c, bool apply, bool queues_only, json_t **ret, int *ret_bad,
		  struct err *e)
{
	json_auto_t *rows = json_array();
	struct collect collect = { rows, queues_only, !rows };
	auto_obj(settings) s = NULL;
	auto_obj(session) session = NULL;
	struct topology_item *items = NULL;
	size_t n = 0;
	int r;

	if (!cli_settings(c, &s))
		return 1;
	r = topology_list(s, &items, &n, e);
	if (r == 0)
		r = letters_open(s, "zr topology", TIMEOUT_USEC, &session, e);
	if (r == 0)
		r = apply ? topology_apply(session, items, n, on_state, &collect, e)
			  : topology_check(session, items, n, on_state, &collect, e);
	topology_list_free(items, n);
	if (r < 0)
		return r;
	if (collect.nomem)
		return err_nomem(e);
	*ret = json_incref(rows);
	*ret_bad = r;
	return 0;
}

static const struct cli_col columns[] = {
	{ "name", "NAME", COL_TEXT },      { "kind", "KIND", COL_TEXT },
	{ "state", "STATE", COL_TEXT },    { "messages", "MESSAGES", COL_TEXT },
	{ "reason", "PROBLEM", COL_TEXT }, { 0 },
};

static int run(struct cli *c, bool apply)
{
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
	r = topology_rows(c, apply, false, &rows, &bad, &e);
	if (r > 0)
		return c->status;
	if (r < 0)
		return cli_fail_setup(c, &e);
	r = cli_list(c, rows, columns, json);
	return r == CLI_DONE && bad ? CLI_FAILED : r;
}

int cmd_topology_apply(struct cli *c)
{
	return run(c, true);
}

int cmd_topology_check(struct cli *c)
{
	return run(c, false);
}

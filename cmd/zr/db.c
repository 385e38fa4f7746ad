/* SPDX-License-Identifier: MIT */
/* The database's schema. */
#include "db.h"

#include <stdio.h>

#include "commands.h"
#include "store/schema.h"

#define OPEN_USEC (15 * USEC_PER_SEC)

static bool db_refused(struct cli *c, const struct err *e)
{
	fprintf(stderr, "zr %s: %s\n", c->command->name, e->msg);
	c->status = e->kind == ERR_TRANSIENT ? CLI_AGAIN : CLI_USAGE;
	return false;
}

static bool open_db(struct cli *c, struct settings **ret_settings, struct db **ret)
{
	struct err e = { 0 };

	if (!cli_settings(c, ret_settings))
		return false;
	return db_open((*ret_settings)->database_url, OPEN_USEC, ret, &e) == 0 || db_refused(c, &e);
}

bool cli_db(struct cli *c, struct settings **ret_settings, struct db **ret)
{
	struct err e = { 0 };

	if (!open_db(c, ret_settings, ret))
		return false;
	return schema_check(*ret, &e) == 0 || db_refused(c, &e);
}

static void said(unused_arg void *user, const struct schema_step *s)
{
	printf("%d.%02d %s\n", s->version / 100, s->version % 100, s->name);
}

static int run_migrate(struct cli *c)
{
	auto_obj(settings) s = NULL;
	auto_obj(db) d = NULL;
	struct err e = { 0 };
	const struct cli_opt opts[] = { { 0 } };
	int r;

	if (!cli_parse(c, opts, 0, 0) || !open_db(c, &s, &d))
		return c->status;
	r = schema_migrate(d, said, NULL, &e);
	if (r < 0) {
		(void)db_refused(c, &e);
		return c->status;
	}
	cli_say("%s at version %d.%02d",
		r ? "migrated: the schema is now" : "nothing to do: the schema is",
		schema_newest() / 100, schema_newest() % 100);
	return CLI_DONE;
}

static const struct command commands[] = {
	{ "db:migrate", NULL, "Create or update the database's schema", "zr db:migrate",
	  run_migrate,
	  "Applies what is missing, each step in a transaction of its own, and only ever forward.\n"
	  "Programs never change the schema by themselves. Safe to run twice, and at the same "
	  "time." },
	{ 0 },
};
const struct command_group db_group = { "database", commands };

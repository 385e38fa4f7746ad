/* SPDX-License-Identifier: MIT */
/* Settings of this host. */
#include <stdio.h>

#include "base/json.h"
#include "base/str.h"
#include "commands.h"

static int run_settings(struct cli *c)
{
	static const struct cli_col cols[] = {
		{ "name", "KEY", COL_TEXT },
		{ "value", "VALUE", COL_TEXT },
		{ "origin", "FROM", COL_TEXT },
		{ "reload", "SIGHUP", COL_TEXT },
		{ 0 },
	};
	struct settings_key *keys = NULL;
	json_auto_t *rows = json_array();
	struct err e = { 0 };
	bool json = false;
	size_t n = 0;
	const struct cli_opt opts[] = {
		{ "json", 0, CLI_FLAG, &json, NULL, "print JSON" },
		{ 0 },
	};

	if (!cli_parse(c, opts, 0, 0))
		return c->status;
	if (settings_list(c->conf, &keys, &n, &e) < 0) {
		cli_fail(c, &e);
		return CLI_USAGE;
	}
	for (size_t i = 0; i < n; i++)
		(void)json_array_append_new(rows, json_pack("{s:s, s:s, s:s, s:b, s:s}", "name",
							    keys[i].name, "value", keys[i].value,
							    "origin", keys[i].origin, "reload",
							    keys[i].reload, "help", keys[i].help));
	settings_list_free(keys, n);
	return cli_list(c, rows, cols, json);
}

static int run_check(struct cli *c)
{
	auto_obj(settings) s = NULL;
	struct err e = { 0 };
	const struct cli_opt opts[] = { { 0 } };

	if (!cli_parse(c, opts, 0, 1))
		return c->status;
	if (settings_load(c->argc ? c->argv[0] : c->conf, &s, &e) < 0) {
		fprintf(stderr, "%s\n", e.msg);
		return CLI_USAGE;
	}
	printf("%s: ok\n", s->file);
	return CLI_DONE;
}

static int run_template(struct cli *c)
{
	auto_free char *text = NULL;
	struct err e = { 0 };
	const struct cli_opt opts[] = { { 0 } };

	if (!cli_parse(c, opts, 0, 0))
		return c->status;
	if (settings_template(&text, &e) < 0)
		return cli_fail(c, &e);
	fputs(text, stdout);
	return CLI_DONE;
}

static const struct command commands[] = {
	{ "doctor", "[--json]", "Look for what is wrong with this installation", "zr doctor",
	  cmd_doctor,
	  "Looks at broker, database, SSH, disk, clock, GPUs, control groups and evaluators, and\n"
	  "changes nothing. Exit status 1 if a line says fail." },
	{ "settings", "[--json]", "Show every setting, its value and where it came from",
	  "zr settings", run_settings, NULL },
	{ "settings:check", "[FILE]", "Check a settings file", "zr settings:check /etc/zr/zr.conf",
	  run_check, NULL },
	{ "settings:template", NULL, "Print a commented sample file",
	  "zr settings:template >/etc/zr/zr.conf", run_template, NULL },
	{ 0 },
};

const struct command_group host_group = { "this host", commands };

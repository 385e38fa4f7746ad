/* SPDX-License-Identifier: MIT */
#include "cli.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"

#define OPTS_MAX 24
/* getopt_long() values of long options without a letter. */
#define LONG_FIRST 256

static void print_option(const struct cli_opt *o)
{
	char left[64], letter[8] = "    ";

	if (o->letter)
		snprintf(letter, sizeof(letter), "-%c, ", o->letter);
	snprintf(left, sizeof(left), "%s--%s%s%s", letter, o->name, o->arg ? " " : "",
		 o->arg ? o->arg : "");
	printf("  %s%*s%s\n", left, strlen(left) > 29 ? 0 : 30 - (int)strlen(left),
	       strlen(left) > 29 ? "\n                                " : "", o->help);
}

static void print_help(const struct cli *c, const struct cli_opt *opts)
{
	const struct command *cmd = c->command;

	printf("usage: zr %s%s%s\n\n%s.\n", cmd->name, cmd->args ? " " : "",
	       cmd->args ? cmd->args : "", cmd->summary);
	if (cmd->details)
		printf("\n%s\n", cmd->details);
	puts("\noptions:");
	for (const struct cli_opt *o = opts; o->name; o++)
		print_option(o);
	printf("  %-30s%s\n", "-h, --help", "this text");
	if (cmd->example)
		printf("\nexample:\n  %s\n", cmd->example);
}

/* One word a line for completion; a word that ends in '=' wants a value. */
static void print_option_words(const struct cli_opt *opts)
{
	for (const struct cli_opt *o = opts; o->name; o++)
		printf("--%s%s\n", o->name, o->type == CLI_FLAG ? "" : "=");
	puts("--help");
}

void cli_say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

int cli_usage(const struct cli *c, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "zr %s: ", c->command->name);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "; see 'zr %s --help'\n", c->command->name);
	return CLI_USAGE;
}

int cli_fail(const struct cli *c, const struct err *e)
{
	fprintf(stderr, "zr %s: %s\n", c->command->name, e->msg);
	return e->kind == ERR_TRANSIENT ? CLI_AGAIN : CLI_FAILED;
}

static int set_option(const struct cli *c, const struct cli_opt *o, char *value)
{
	int r = 0;

	switch (o->type) {
	case CLI_FLAG:
		*(bool *)o->to = true;
		break;
	case CLI_TEXT:
		*(const char **)o->to = value;
		break;
	case CLI_LIST:
		r = strv_add(o->to, value);
		break;
	case CLI_COUNT:
		r = str_u64(value, o->to);
		break;
	case CLI_SPAN:
		r = str_span(value, o->to);
		break;
	}
	if (r == 0)
		return 0;
	return cli_usage(c, "bad value for --%s: '%s' (want %s)", o->name, STR_ESC(value),
			 o->type == CLI_SPAN ? "e.g. 90s" : "a whole number");
}

/* getopt's own tables for `opts`. */
static void build_tables(const struct cli_opt *opts, struct option *longs, char *shorts)
{
	size_t n = 0;

	*shorts++ = ':';
	*shorts++ = 'h';
	longs[n++] = (struct option){ "help", no_argument, NULL, 'h' };
	for (size_t i = 0; opts[i].name && n < OPTS_MAX; i++) {
		bool value = opts[i].type != CLI_FLAG;

		longs[n++] = (struct option){ opts[i].name, value ? required_argument : no_argument,
					      NULL, LONG_FIRST + (int)i };
		if (!opts[i].letter)
			continue;
		*shorts++ = opts[i].letter;
		if (value)
			*shorts++ = ':';
	}
	longs[n] = (struct option){ 0 };
	*shorts = '\0';
}

static const struct cli_opt *find_option(const struct cli_opt *opts, int key)
{
	if (key >= LONG_FIRST)
		return &opts[key - LONG_FIRST];
	for (const struct cli_opt *o = opts; o->name; o++)
		if (o->letter == key)
			return o;
	return NULL;
}

static bool stop(struct cli *c, int status)
{
	c->status = status;
	return false;
}

static bool parse_options(struct cli *c, const struct cli_opt *opts)
{
	struct option longs[OPTS_MAX + 2];
	char shorts[2 * OPTS_MAX + 4];
	int key;

	build_tables(opts, longs, shorts);
	optind = 0;
	opterr = 0;
	while ((key = getopt_long(c->argc, c->argv, shorts, longs, NULL)) != -1) {
		const struct cli_opt *o = find_option(opts, key);

		if (key == 'h') {
			print_help(c, opts);
			return stop(c, CLI_DONE);
		}
		if (key == ':')
			return stop(c, cli_usage(c, "'%s' wants a value",
						 STR_ESC(c->argv[optind - 1])));
		if (key == '?' || !o)
			return stop(c, cli_usage(c, "no such option '%s'",
						 STR_ESC(c->argv[optind - 1])));
		if (set_option(c, o, optarg) != 0)
			return stop(c, CLI_USAGE);
	}
	return true;
}

bool cli_parse(struct cli *c, const struct cli_opt *opts, int min, int max)
{
	if (c->completing) {
		print_option_words(opts);
		return stop(c, CLI_DONE);
	}
	if (!parse_options(c, opts))
		return false;
	c->argc -= optind;
	c->argv += optind;
	if (c->argc < min)
		return stop(c, cli_usage(c, "too few arguments (want %s)", c->command->args));
	if (max >= 0 && c->argc > max)
		return stop(c, cli_usage(c, "unexpected argument '%s'", STR_ESC(c->argv[max])));
	return true;
}

bool cli_settings(struct cli *c, struct settings **ret)
{
	struct err e = { 0 };

	if (settings_load(c->conf, ret, &e) == 0)
		return true;
	fprintf(stderr, "zr: %s\n", e.msg);
	return stop(c, CLI_USAGE);
}

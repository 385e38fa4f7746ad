/* SPDX-License-Identifier: MIT */
/*
 * The frame of every verb of zr: options, help, exit status, listings. A verb is a row of its
 * noun's table and one function that returns the exit status:
 *
 *	0 done   1 failed   2 wrong call or configuration   75 try again later
 *
 * Results go to stdout, everything else to stderr. A new verb: a row in cmd/zr/<noun>.c; a new noun:
 * its table in commands.c.
 */
#ifndef ZR_CMD_ZR_CLI_H
#define ZR_CMD_ZR_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/settings.h"

enum {
	CLI_DONE = 0,
	CLI_FAILED = 1,
	CLI_USAGE = 2,
	CLI_AGAIN = 75,
};

struct cli;

struct command {
	const char *name;    /* "submissions:eval" */
	const char *args;    /* "ID [OPTIONS]", NULL: none */
	const char *summary; /* one line without a full stop */
	const char *example; /* a command a reader can type */
	int (*run)(struct cli *c);
	const char *details; /* further help, or NULL */
};

/* The verbs of one noun, for the table in commands.c and the groups of `zr --help`. */
struct command_group {
	const char *title;
	const struct command *commands; /* ends with a row without a name */
};
extern const struct command_group *const command_groups[]; /* ends with NULL */

struct cli {
	const struct command *command;
	const char *conf; /* --conf FILE, or NULL */
	int argc;         /* after cli_parse(): the positional arguments */
	char **argv;
	int status;      /* what the verb returns when cli_parse() said false */
	bool completing; /* cli_parse() prints the option words for completion and says false */
};

enum cli_type {
	CLI_FLAG,  /* bool */
	CLI_TEXT,  /* const char * */
	CLI_LIST,  /* char **, a vector of ours: strv_free() */
	CLI_COUNT, /* uint64_t */
	CLI_SPAN,  /* uint64_t, microseconds */
};

struct cli_opt {
	const char *name; /* long form; NULL ends the table */
	char letter;      /* 0: none */
	enum cli_type type;
	void *to;
	const char *arg; /* what the help calls the value */
	const char *help;
};

/*
 * Reads the verb's options, answers --help, checks the number of positional arguments (max < 0:
 * any). False: c->status is the exit status, everything has been said.
 */
bool cli_parse(struct cli *c, const struct cli_opt *opts, int min, int max) must_check;

/* One line "zr VERB: …" on stderr and the status that fits the kind of the error. */
int cli_fail(const struct cli *c, const struct err *e);
int cli_usage(const struct cli *c, const char *fmt, ...) printf_like(2, 3);
/* Chatter on stderr. */
void cli_say(const char *fmt, ...) printf_like(1, 2);

/* Settings of this call; false: c->status is set and the error printed. */
bool cli_settings(struct cli *c, struct settings **ret) must_check;

/* How a column of a listing shows a member of its rows. A key with dots goes into objects. */
enum cli_format {
	COL_TEXT, /* texts as they are, numbers plain, lists joined by commas */
	COL_TIME, /* RFC 3339 text as local "2026-11-21 23:00:05" */
	COL_AGE,  /* RFC 3339 text as "5 s ago" */
	COL_SIZE, /* bytes as "1.5 MiB" */
};
struct cli_col {
	const char *key;
	const char *title; /* NULL ends the table */
	enum cli_format format;
};

/* Prints a list of objects: as JSON, or as an aligned table in which foreign bytes are escaped. */
int cli_list(const struct cli *c, const json_t *rows, const struct cli_col *cols, bool json);
/* Prints one object: as JSON, or as "title: value" lines. */
int cli_show(const struct cli *c, const json_t *row, const struct cli_col *cols, bool json);

#endif

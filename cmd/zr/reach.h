/* SPDX-License-Identifier: MIT */
/* What several verbs read from their call: numbers, times, files, who calls. */
#ifndef ZR_CMD_ZR_REACH_H
#define ZR_CMD_ZR_REACH_H

#include "base/time.h"
#include "cli.h"
#include "store/db.h"

/* Opens the database and checks its schema; like cli_db(), for those who try again. */
int reach_database(const struct settings *s, struct db **ret, struct err *e) must_check;

/* As cli_fail(), with 2 where a person must change the settings or the set-up: ERR_HOST, and a
 * login that was refused. */
int cli_fail_setup(const struct cli *c, const struct err *e);

/* A number as the listings show it. False: c->status is set and the error printed. */
bool cli_id(struct cli *c, const char *what, const char *text, int64_t *ret) must_check;
/* All of c->argv; c->argc of them, allocated. */
bool cli_ids(struct cli *c, const char *what, int64_t **ret) must_check;

/* "2026-11-21", RFC 3339, or a span that counts back from now ("2h") as RFC 3339; NULL stays NULL. */
bool cli_since(struct cli *c, const char *text, char out[TIME_TEXT_MAX],
	       const char **ret) must_check;

/* A status of evaluations, or NULL. False: c->status is set and the error printed. */
bool cli_status(struct cli *c, const char *text) must_check;

/* JSON from a file, or from standard input for "-". */
int cli_read_json(const char *file, json_t **ret, struct err *e) must_check;
/* A JSON object from a file, or from standard input for "-". */
int cli_read_object(const char *file, json_t **ret, struct err *e) must_check;

/* "user@host" of the caller, for the record of who did it. */
const char *cli_caller(const struct settings *s, char *out, size_t size);
/* The caller's login name. */
const char *cli_user(char *out, size_t size);

#endif

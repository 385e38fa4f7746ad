/* SPDX-License-Identifier: MIT */
/*
 * The schema and its migrations, which are part of the program. Versions are MMmm (major, minor):
 * programs refuse another major and an older minor than their own, and work with a newer minor.
 * Only `zr db:migrate` changes a schema; there is no way back.
 */
#ifndef ZR_STORE_SCHEMA_H
#define ZR_STORE_SCHEMA_H

#include "store/db.h"
#include "store/db_pipe.h"

struct schema_step {
	int version;
	const char *name; /* "tables" */
	const char *sql;
	size_t len;
};
/* Ends with a version of 0; ascending. */
const struct schema_step *schema_steps(void);
int schema_newest(void);

typedef void (*schema_step_fn)(void *user, const struct schema_step *step);

/* Applies what is missing, a transaction per step, under an advisory lock; `fn` hears of each step
 * when it is committed. Returns the number of steps. */
int schema_migrate(struct db *d, schema_step_fn fn, void *user, struct err *e) must_check;

/* 0 for a database without our schema. */
int schema_version(struct db *d, int *ret, struct err *e) must_check;

/* Judges a version number: 0, or -EPROTO, ERR_HOST with one line that says what to do. */
int schema_judge(int version, struct err *e) must_check;
/* Both. */
int schema_check(struct db *d, struct err *e) must_check;

/* For db_pipe: one row with the version; DB_SETUP with SQLSTATE 42P01 if there is no schema. */
extern const struct db_stmt schema_version_stmt;

#endif

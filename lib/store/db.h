/* SPDX-License-Identifier: MIT */
/*
 * PostgreSQL, synchronous: for `zr` and for tests. One function runs every statement; SQL text is
 * always a constant, values always travel as parameters. No call waits longer than its deadline, and
 * no error text contains the password. Daemons use db_pipe.h, which shares everything below but
 * db_open() and db_query().
 */
#ifndef ZR_STORE_DB_H
#define ZR_STORE_DB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/str.h"
#include "base/time.h"

/* What a failure asks for (SQLSTATE in brackets). The err_kind that goes with it is in the comment. */
enum db_class {
	DB_OK,
	DB_CONNECTION, /* TRANSIENT: no connection [08, 57P0x]; reconnect and apply again */
	DB_READ_ONLY,  /* TRANSIENT: a standby [25006]; reconnect, looking for the primary */
	DB_CONFLICT,   /* TRANSIENT: serialization, deadlock [40]; again at once */
	DB_RESOURCES,  /* TRANSIENT: disk, memory, connections [53]; again much later */
	DB_TIMEOUT,    /* TRANSIENT: statement timeout [57014], or our own deadline */
	DB_LOCKED,  /* TRANSIENT: lock timeout [55P03]; somebody holds a row or a table for long */
	DB_DATA,    /* INPUT: the values are at fault [22, 23] */
	DB_SETUP,   /* HOST: schema, rights, password, name of the database [28, 3D, 42]: stop */
	DB_UNKNOWN, /* TRANSIENT: a few times, then stop */
	DB_CLASS_N,
};
enum db_class db_classify(const char *sqlstate);
const char *db_class_name(enum db_class c);

/* Parameters $1, $2, … in order. Text and JSON stay the caller's until the statement is sent. */
#define DB_ARGS_MAX 24
struct db_args {
	int n;
	const char *value[DB_ARGS_MAX];
	int len[DB_ARGS_MAX];
	int binary[DB_ARGS_MAX];
	char num[DB_ARGS_MAX][24];
};
void db_arg_text(struct db_args *a, const char *s); /* NULL is SQL NULL */
void db_arg_int(struct db_args *a, int64_t v);
void db_arg_id(struct db_args *a, int64_t v); /* 0 and less are SQL NULL */
void db_arg_bytes(struct db_args *a, const void *data, size_t n);

/* An answer. Getters take a NULL field as "", 0, false. Text lives as long as the rows. */
struct db_rows;
void db_rows_free(struct db_rows *r);
DEFINE_AUTO(db_rows);
int db_rows_n(const struct db_rows *r);
bool db_is_null(const struct db_rows *r, int row, int col);
const char *db_text(const struct db_rows *r, int row, int col);
int64_t db_int(const struct db_rows *r, int row, int col);
bool db_bool(const struct db_rows *r, int row, int col);
/* Appends a bytea field. */
int db_bytes(const struct db_rows *r, int row, int col, struct buf *b, struct err *e) must_check;
/* A json or jsonb field as a new reference. */
int db_json(const struct db_rows *r, int row, int col, json_t **ret, struct err *e) must_check;
/* Rows affected by an insert, update or delete. */
int64_t db_changed(const struct db_rows *r);

struct db;

/* Connects and sets the session's timeouts. ERR_TRANSIENT: not reachable now. ERR_HOST: wrong URL,
 * password or database name; the text says what to do. */
int db_open(const char *url, uint64_t timeout_usec, struct db **ret, struct err *e) must_check;
void db_close(struct db *d);
static inline void db_free(struct db *d)
{
	db_close(d);
}
DEFINE_AUTO(db);

/* Of the last failed call, for callers that treat classes differently. */
enum db_class db_last_class(const struct db *d);
/* The deadline of every later statement; 15 s at first. */
void db_set_timeout(struct db *d, uint64_t timeout_usec);

/*
 * Runs one statement as its own transaction, or as a part of the one opened by db_begin(). `a` and
 * `ret` may be NULL. After a lost connection every call fails with DB_CONNECTION: whether the
 * statement was committed is then unknown.
 */
int db_query(struct db *d, const char *sql, const struct db_args *a, struct db_rows **ret,
	     struct err *e) must_check;

int db_begin(struct db *d, struct err *e) must_check;
int db_commit(struct db *d, struct err *e) must_check;
void db_rollback(struct db *d);

/* A file of SQL without parameters (migrations, which are constants of the program). */
int db_script(struct db *d, const char *sql, struct err *e) must_check;

#endif

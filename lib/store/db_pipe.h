/* SPDX-License-Identifier: MIT */
/*
 * PostgreSQL on the event loop: one connection in pipeline mode, prepared statements, batches that
 * commit together. It connects, and connects again with jittered back-off, by itself. A batch is
 * answered exactly once: with the rows of each of its statements after the commit, or with a
 * failure. After DB_CONNECTION and DB_TIMEOUT the outcome is unknown: send it again. The name of a
 * host is looked up by libpq, which blocks; an address is not.
 */
#ifndef ZR_STORE_DB_PIPE_H
#define ZR_STORE_DB_PIPE_H

#include "base/loop.h"
#include "store/db.h"

/* A constant; `name` is unique in the program. Prepared at its first use on a connection. */
struct db_stmt {
	const char *name, *sql;
};

struct db_outcome {
	enum db_class class;
	int failed; /* index of the statement at fault, -1 if unknown */
	struct err err;
	struct db_rows **rows; /* when DB_OK one per statement; gone after the callback */
	size_t n;
};
typedef void (*db_done_fn)(void *user, const struct db_outcome *o);

struct db_pipe;
struct db_pipe_conf {
	const char *url; /* copied */
	const char *application;
	uint64_t statement_usec; /* server side statement_timeout; the client's is 1.5 × */
	uint64_t backoff_min, backoff_max; /* µs; 0: 100 ms, 5 s */
	void (*on_up)(void *user);         /* a new session: statements may be sent */
	void (*on_down)(void *user, enum db_class c,
			const struct err *e);               /* once per loss or failed try */
	void (*on_notify)(void *user, const char *channel); /* may be NULL */
	void *user;
};

/* Starts to connect. ERR_HOST: the URL cannot be understood. */
int db_pipe_new(struct loop *l, const struct db_pipe_conf *conf, struct db_pipe **ret,
		struct err *e) must_check;
/* Pending batches are answered first, with DB_CONNECTION. May be called inside callbacks. */
void db_pipe_free(struct db_pipe *p);
DEFINE_AUTO(db_pipe);

bool db_pipe_up(const struct db_pipe *p);
/* Batches sent and not yet answered. */
size_t db_pipe_pending(const struct db_pipe *p);

/* The statements added until db_pipe_sync() are one transaction. -ENOTCONN: not connected. */
int db_pipe_add(struct db_pipe *p, const struct db_stmt *s, const struct db_args *a,
		struct err *e) must_check;
int db_pipe_sync(struct db_pipe *p, db_done_fn done, void *user, struct err *e) must_check;
/* Both, for a single statement. */
int db_pipe_send(struct db_pipe *p, const struct db_stmt *s, const struct db_args *a,
		 db_done_fn done, void *user, struct err *e) must_check;

#endif

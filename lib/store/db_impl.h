/* SPDX-License-Identifier: MIT */
/* What db.c and db_pipe.c share of libpq; not for others. */
#ifndef ZR_STORE_DB_IMPL_H
#define ZR_STORE_DB_IMPL_H

#include <libpq-fe.h>

#include "store/db.h"
#include "store/db_hosts.h"

/* Where a connection goes, and what must never be printed. */
struct db_target {
	char *url;
	char *password; /* NULL: none in the URL */
	char *place;    /* "host:port/dbname", for people */
	char *hosts;    /* with names to be looked up; NULL: there is none */
	char *ports;
};
int db_target_init(struct db_target *t, const char *url, struct err *e) must_check;
void db_target_done(struct db_target *t);

/* PQconnectStart() with our timeouts as defaults that the URL may override. Addresses NULL: libpq
 * looks them up itself, and blocks. NULL: no memory. */
PGconn *db_connect_start(const struct db_target *t, const char *application,
			 const struct db_addresses *a);
/* Words and class of a connection that failed. Returns -code. */
int db_connect_failed(const struct db_target *t, PGconn *c, enum db_class *ret, struct err *e);

/* The same for a statement; `r` may be NULL when the connection is gone. */
int db_result_failed(const PGresult *r, PGconn *c, enum db_class *ret, struct err *e);

/* The session's own limits: a statement without parameters. */
extern const char db_session_sql[];
void db_session_args(struct db_args *a, uint64_t statement_usec);

struct db_rows *db_rows_new(PGresult *r); /* takes r; NULL: no memory, r is cleared */

#endif

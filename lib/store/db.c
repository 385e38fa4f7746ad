/* SPDX-License-Identifier: MIT */
#include "store/db.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"
#include "store/db_impl.h"

/* --- parameters ------------------------------------------------------------------------------ */

static int arg_slot(struct db_args *a)
{
	/* A statement with more parameters than fit is a mistake in the program. */
	if (a->n >= DB_ARGS_MAX)
		abort();
	return a->n++;
}

void db_arg_text(struct db_args *a, const char *s)
{
	a->value[arg_slot(a)] = s;
}

void db_arg_int(struct db_args *a, int64_t v)
{
	int i = arg_slot(a);

	snprintf(a->num[i], sizeof(a->num[i]), "%lld", (long long)v);
	a->value[i] = a->num[i];
}

void db_arg_id(struct db_args *a, int64_t v)
{
	if (v > 0)
		db_arg_int(a, v);
	else
		db_arg_text(a, NULL);
}

void db_arg_bytes(struct db_args *a, const void *data, size_t n)
{
	int i = arg_slot(a);

	a->value[i] = n ? data : "";
	a->len[i] = (int)n;
	a->binary[i] = 1;
}

/* --- rows ------------------------------------------------------------------------------------ */

struct db_rows {
	PGresult *res;
};

struct db_rows *db_rows_new(PGresult *res)
{
	struct db_rows *r = calloc(1, sizeof(*r));

	if (!r)
		PQclear(res);
	else
		r->res = res;
	return r;
}

void db_rows_free(struct db_rows *r)
{
	if (!r)
		return;
	PQclear(r->res);
	free(r);
}

int db_rows_n(const struct db_rows *r)
{
	return PQntuples(r->res);
}

bool db_is_null(const struct db_rows *r, int row, int col)
{
	return PQgetisnull(r->res, row, col);
}

const char *db_text(const struct db_rows *r, int row, int col)
{
	return PQgetvalue(r->res, row, col);
}

int64_t db_int(const struct db_rows *r, int row, int col)
{
	int64_t v = 0;

	return str_i64(db_text(r, row, col), &v) < 0 ? 0 : v;
}

bool db_bool(const struct db_rows *r, int row, int col)
{
	return db_text(r, row, col)[0] == 't';
}

int db_bytes(const struct db_rows *r, int row, int col, struct buf *b, struct err *e)
{
	size_t n = 0;
	/* In the text form that every answer comes in. */
	unsigned char *data =
		PQunescapeBytea((const unsigned char *)PQgetvalue(r->res, row, col), &n);
	int done = data ? buf_add(b, data, n) : -ENOMEM;

	PQfreemem(data);
	return done < 0 ? err_nomem(e) : 0;
}

int db_json(const struct db_rows *r, int row, int col, json_t **ret, struct err *e)
{
	struct err why = { 0 };

	if (db_is_null(r, row, col)) {
		*ret = json_null();
		return 0;
	}
	/* Written by PostgreSQL from what passed our own limits; it prints 1e308 as an integer. */
	if (js_parse_numeric(db_text(r, row, col), (size_t)PQgetlength(r->res, row, col), ret,
			     &why) < 0)
		return err_set(e, EPROTO, ERR_HOST, "JSON from the database: %s", why.msg);
	return 0;
}

int64_t db_changed(const struct db_rows *r)
{
	int64_t v = 0;

	return str_i64(PQcmdTuples(r->res), &v) < 0 ? 0 : v;
}

/* --- failures -------------------------------------------------------------------------------- */

static const struct {
	const char *prefix;
	enum db_class class;
} classes[] = {
	/* The longer prefix first. */
	{ "57014", DB_TIMEOUT },
	{ "55P03", DB_LOCKED },
	{ "25006", DB_READ_ONLY },
	{ "57P01", DB_CONNECTION },
	{ "57P02", DB_CONNECTION },
	{ "57P03", DB_CONNECTION },
	{ "57P05", DB_CONNECTION },
	{ "25P03", DB_CONNECTION },
	{ "08", DB_CONNECTION },
	{ "40", DB_CONFLICT },
	/* A prepared statement that its aborted batch did not make. */
	{ "26000", DB_CONFLICT },
	{ "53", DB_RESOURCES },
	{ "22", DB_DATA },
	{ "23", DB_DATA },
	{ "28", DB_SETUP },
	{ "3D", DB_SETUP },
	{ "3F", DB_SETUP },
	{ "42", DB_SETUP },
	{ "0A", DB_SETUP },
};

enum db_class db_classify(const char *sqlstate)
{
	for (size_t i = 0; i < ARRAY_LEN(classes); i++)
		if (str_starts(sqlstate, classes[i].prefix))
			return classes[i].class;
	return DB_UNKNOWN;
}

const char *db_class_name(enum db_class c)
{
	static const char *const names[DB_CLASS_N] = {
		[DB_OK] = "ok",
		[DB_CONNECTION] = "connection",
		[DB_READ_ONLY] = "read-only",
		[DB_CONFLICT] = "conflict",
		[DB_RESOURCES] = "resources",
		[DB_TIMEOUT] = "timeout",
		[DB_LOCKED] = "locked",
		[DB_DATA] = "data",
		[DB_SETUP] = "setup",
		[DB_UNKNOWN] = "unknown",
	};

	return c < DB_CLASS_N ? names[c] : "?";
}

static enum err_kind class_kind(enum db_class c)
{
	return c == DB_DATA ? ERR_INPUT : c == DB_SETUP ? ERR_HOST : ERR_TRANSIENT;
}

static int class_errno(enum db_class c)
{
	switch (c) {
	case DB_TIMEOUT:
	case DB_LOCKED:
		return ETIMEDOUT;
	case DB_DATA:
		return EINVAL;
	case DB_SETUP:
		return EPROTO;
	case DB_CONNECTION:
	case DB_READ_ONLY:
		return ECONNRESET;
	case DB_OK:
	case DB_CONFLICT:
	case DB_RESOURCES:
	case DB_UNKNOWN:
	case DB_CLASS_N:
		break;
	}
	return EAGAIN;
}

/* The first line of libpq's text, without its prefix. */
static void first_line(char out[256], const char *text)
{
	size_t n = strcspn(text, "\n");

	str_escape(out, 256, text, n);
}

int db_result_failed(const PGresult *r, PGconn *c, enum db_class *ret, struct err *e)
{
	const char *state = r ? PQresultErrorField(r, PG_DIAG_SQLSTATE) : NULL;
	const char *words = r ? PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY) : NULL;
	char line[256];

	if (!state) {
		*ret = DB_CONNECTION;
		first_line(line, c ? PQerrorMessage(c) : "closed after a missed deadline");
		return err_set(e, ECONNRESET, ERR_TRANSIENT,
			       "the connection to the database is lost%s%s", line[0] ? ": " : "",
			       line);
	}
	*ret = db_classify(state);
	first_line(line, words ? words : "no words");
	return err_set(e, class_errno(*ret), class_kind(*ret), "%s (SQLSTATE %s)", line, state);
}

/* --- where to ------------------------------------------------------------------------------- */

static const char *option(const PQconninfoOption *o, const char *key)
{
	for (; o->keyword; o++)
		if (str_eq(o->keyword, key))
			return o->val && *o->val ? o->val : NULL;
	return NULL;
}

static int target_from(struct db_target *t, const PQconninfoOption *o, struct err *e)
{
	const char *host = option(o, "host"), *port = option(o, "port"),
		   *name = option(o, "dbname"), *password = option(o, "password");

	if (host && strchr(host, '@'))
		return err_set(e, EINVAL, ERR_HOST,
			       "database_url: a '@' in the password must be written as %%40");
	if (password) {
		t->password = strdup(password);
		if (!t->password)
			return err_nomem(e);
	}
	if (host && !option(o, "hostaddr") && db_hosts_named(host)) {
		t->hosts = strdup(host);
		t->ports = strdup(port ? port : "");
		if (!t->hosts || !t->ports)
			return err_nomem(e);
	}
	return str_fmt(&t->place, "%s%s%s/%s", host ? host : "the local socket", port ? ":" : "",
		       port ? port : "", name ? name : "") < 0
		       ? err_nomem(e)
		       : 0;
}

int db_target_init(struct db_target *t, const char *url, struct err *e)
{
	PQconninfoOption *o;
	int r;

	*t = (struct db_target){ 0 };
	if (!url || !*url)
		return err_set(e, EINVAL, ERR_HOST,
			       "no database: set database_url in zr.conf, or DATABASE_URL");
	/* libpq's own words quote pieces of the URL, and so of the password. */
	o = PQconninfoParse(url, NULL);
	if (!o)
		return err_set(e, EINVAL, ERR_HOST,
			       "database_url is not a PostgreSQL URL "
			       "(postgresql://user:password@host:port/name)");
	t->url = strdup(url);
	r = t->url ? target_from(t, o, e) : err_nomem(e);
	PQconninfoFree(o);
	if (r < 0)
		db_target_done(t);
	return r;
}

static void forget(char *secret)
{
	if (secret)
		explicit_bzero(secret, strlen(secret));
	free(secret);
}

void db_target_done(struct db_target *t)
{
	forget(t->url);
	forget(t->password);
	free(t->place);
	free(t->hosts);
	free(t->ports);
	*t = (struct db_target){ 0 };
}

/* Notices would go to stderr; a library does not log. */
static void hush(unused_arg void *user, unused_arg const char *message) {}

PGconn *db_connect_start(const struct db_target *t, const char *application,
			 const struct db_addresses *a)
{
	/* `dbname` expands to the URL: what stands before are defaults, what follows wins over it. */
	static const char *const keys[] = {
		"application_name",
		"connect_timeout",
		"keepalives_idle",
		"keepalives_interval",
		"keepalives_count",
		"tcp_user_timeout",
		"target_session_attrs",
		"client_encoding",
		"dbname",
		"host",
		"hostaddr",
		"port",
		NULL,
	};
	const char *const values[] = {
		application,
		"10",
		"30",
		"10",
		"3",
		"30000",
		"read-write",
		"UTF8",
		t->url,
		/* An empty one counts as not given. */
		a ? a->host.data : "",
		a ? a->hostaddr.data : "",
		a ? a->port.data : "",
		NULL,
	};
	PGconn *c = PQconnectStartParams(keys, values, 1);

	PQsetNoticeProcessor(c, hush, NULL);
	/* So that the text of a refused connection carries its SQLSTATE. */
	PQsetErrorVerbosity(c, PQERRORS_VERBOSE);
	return c;
}

/* "FATAL:  28P01: password …": the code, or "". */
static void find_sqlstate(char out[6], const char *text)
{
	out[0] = 0;
	for (const char *p = strstr(text, ":  "); p; p = strstr(p + 1, ":  ")) {
		const char *s = p + 3;

		if (strspn(s, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5 && s[5] == ':') {
			snprintf(out, 6, "%.5s", s);
			return;
		}
	}
}

static const char *connect_cure(const char *state)
{
	if (str_starts(state, "28"))
		return ": check user and password in database_url";
	if (str_starts(state, "3D"))
		return ": create the database, or check its name in database_url";
	return "";
}

int db_connect_failed(const struct db_target *t, PGconn *c, enum db_class *ret, struct err *e)
{
	const char *text = c ? PQerrorMessage(c) : "out of memory";
	char state[6], line[256];

	find_sqlstate(state, text);
	*ret = state[0] ? db_classify(state) : DB_CONNECTION;
	first_line(line, text);
	if (t->password && strstr(line, t->password))
		snprintf(line, sizeof(line), "refused");
	return err_set(e, class_errno(*ret), class_kind(*ret), "database at %s: %s%s", t->place,
		       line, connect_cure(state));
}

const char db_session_sql[] =
	"select set_config('statement_timeout', $1, false), set_config('lock_timeout', $2, false),"
	" set_config('idle_in_transaction_session_timeout', '60000', false),"
	" set_config('standard_conforming_strings', 'on', false),"
	/* Our statements are short: what compiling saves, it costs many times over. */
	" set_config('jit', 'off', false)";

void db_session_args(struct db_args *a, uint64_t statement_usec)
{
	db_arg_int(a, (int64_t)(statement_usec / USEC_PER_MSEC));
	db_arg_int(a, (int64_t)(statement_usec / 2 / USEC_PER_MSEC));
}

/* --- synchronous ----------------------------------------------------------------------------- */

struct db {
	PGconn *conn;
	struct db_target target;
	uint64_t timeout_usec;
	enum db_class class;
};

static int wait_fd(struct db *d, bool write, uint64_t deadline)
{
	struct pollfd p = { PQsocket(d->conn), (short)(POLLIN | (write ? POLLOUT : 0)), 0 };
	uint64_t now = time_mono_usec();
	int r;

	if (now >= deadline)
		return -ETIMEDOUT;
	r = poll(&p, 1, (int)((deadline - now) / USEC_PER_MSEC) + 1);
	if (r < 0 && errno != EINTR)
		return -errno;
	return r == 0 && time_mono_usec() >= deadline ? -ETIMEDOUT : 0;
}

static int connect_wait(struct db *d, uint64_t deadline, struct err *e)
{
	PostgresPollingStatusType s = PGRES_POLLING_WRITING;

	while (s != PGRES_POLLING_OK) {
		if (s == PGRES_POLLING_FAILED || PQstatus(d->conn) == CONNECTION_BAD)
			return db_connect_failed(&d->target, d->conn, &d->class, e);
		if (wait_fd(d, s == PGRES_POLLING_WRITING, deadline) == -ETIMEDOUT) {
			d->class = DB_TIMEOUT;
			return err_set(e, ETIMEDOUT, ERR_TRANSIENT,
				       "database at %s: no answer in time", d->target.place);
		}
		s = PQconnectPoll(d->conn);
	}
	PQsetErrorVerbosity(d->conn, PQERRORS_DEFAULT);
	return PQsetnonblocking(d->conn, 1) == 0 ? 0 : err_nomem(e);
}

static int session_begin(struct db *d, uint64_t timeout_usec, struct err *e)
{
	struct db_args a = { 0 };
	int r = connect_wait(d, time_mono_usec() + timeout_usec, e);

	if (r < 0)
		return r;
	db_session_args(&a, timeout_usec);
	return db_query(d, db_session_sql, &a, NULL, e);
}

int db_open(const char *url, uint64_t timeout_usec, struct db **ret, struct err *e)
{
	auto_obj(db) d = calloc(1, sizeof(*d));
	int r;

	if (!d)
		return err_nomem(e);
	r = db_target_init(&d->target, url, e);
	if (r < 0)
		return r;
	d->timeout_usec = timeout_usec;
	d->conn = db_connect_start(&d->target, "zr", NULL);
	if (!d->conn)
		return err_nomem(e);
	r = session_begin(d, timeout_usec, e);
	if (r < 0)
		return r;
	*ret = take_ptr(d);
	return 0;
}

void db_close(struct db *d)
{
	if (!d)
		return;
	PQfinish(d->conn);
	db_target_done(&d->target);
	free(d);
}

enum db_class db_last_class(const struct db *d)
{
	return d->class;
}

void db_set_timeout(struct db *d, uint64_t timeout_usec)
{
	d->timeout_usec = timeout_usec;
}

static int gone(struct db *d, struct err *e)
{
	return db_result_failed(NULL, d->conn, &d->class, e);
}

/* A connection that answers late is of no further use: the answer may come to the next question. */
static int too_late(struct db *d, struct err *e)
{
	PQfinish(d->conn);
	d->conn = NULL;
	d->class = DB_TIMEOUT;
	return err_set(e, ETIMEDOUT, ERR_TRANSIENT, "database at %s: no answer within %llu s",
		       d->target.place, (unsigned long long)(d->timeout_usec / USEC_PER_SEC));
}

/* Sends what is buffered and reads until an answer is complete. */
static int exchange(struct db *d, struct err *e)
{
	uint64_t deadline = time_mono_usec() + d->timeout_usec;

	for (;;) {
		int more = PQflush(d->conn);

		if (more < 0)
			return gone(d, e);
		if (more == 0 && !PQisBusy(d->conn))
			return 0;
		if (wait_fd(d, more > 0, deadline) == -ETIMEDOUT)
			return too_late(d, e);
		if (!PQconsumeInput(d->conn))
			return gone(d, e);
	}
}

static bool good(const PGresult *r)
{
	ExecStatusType s = PQresultStatus(r);

	return s == PGRES_TUPLES_OK || s == PGRES_COMMAND_OK || s == PGRES_EMPTY_QUERY;
}

/* Reads all answers of one question; keeps the last good one, fails with the first bad one. */
static int collect(struct db *d, struct db_rows **ret, struct err *e)
{
	PGresult *last = NULL, *r;
	int failed = 0;

	for (;;) {
		int x = exchange(d, failed ? NULL : e);

		if (x < 0) {
			PQclear(last);
			return failed ? failed : x;
		}
		r = PQgetResult(d->conn);
		if (!r)
			break;
		if (!good(r) && !failed)
			failed = db_result_failed(r, d->conn, &d->class, e);
		PQclear(last);
		last = r;
	}
	if (failed || !last || !ret) {
		PQclear(last);
		return failed;
	}
	*ret = db_rows_new(last);
	return *ret ? 0 : err_nomem(e);
}

int db_query(struct db *d, const char *sql, const struct db_args *a, struct db_rows **ret,
	     struct err *e)
{
	static const struct db_args none;

	a = a ? a : &none;
	if (!PQsendQueryParams(d->conn, sql, a->n, NULL, a->value, a->len, a->binary, 0))
		return gone(d, e);
	return collect(d, ret, e);
}

int db_script(struct db *d, const char *sql, struct err *e)
{
	if (!PQsendQuery(d->conn, sql))
		return gone(d, e);
	return collect(d, NULL, e);
}

int db_begin(struct db *d, struct err *e)
{
	return db_query(d, "begin", NULL, NULL, e);
}

int db_commit(struct db *d, struct err *e)
{
	return db_query(d, "commit", NULL, NULL, e);
}

void db_rollback(struct db *d)
{
	if (PQtransactionStatus(d->conn) != PQTRANS_IDLE &&
	    db_query(d, "rollback", NULL, NULL, NULL) < 0)
		return; /* the connection is gone, and the transaction with it */
}

/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. A batch is what lies between two syncs: the server runs it as one
 * transaction, and answers statement by statement, then the sync. Batches wait in `batches` in the
 * order in which they were sent; libpq hands the answers out in the same order, so the head of the
 * list is always the one that is being answered. Losing the connection fails them all: what was
 * committed then is not known, and the callers apply again.
 */
#include "store/db_pipe.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/random.h>

#include "base/str.h"
#include "store/db_impl.h"

#define STMTS_MAX    64
#define CONNECT_USEC (15 * USEC_PER_SEC)

/* One message to the server that gets an answer of its own. */
struct op {
	const struct db_stmt *stmt;
	bool prepare;
};

struct batch {
	TAILQ_ENTRY(batch) link;
	struct op *ops; /* the sync follows them */
	size_t n_ops, at;
	struct db_outcome out;
	unsigned stray; /* answers beyond the last statement that were not the sync */
	uint64_t deadline;
	db_done_fn done;
	void *user;
};
TAILQ_HEAD(batch_list, batch);

enum pipe_state {
	PIPE_WAITING, /* for the next try */
	PIPE_CONNECTING,
	PIPE_SETUP, /* connected, the session's limits are being set */
	PIPE_UP,
};

struct db_pipe {
	struct loop *loop;
	struct db_pipe_conf conf;
	char *application;
	struct db_target target;
	enum pipe_state state;
	struct db_hosts *hosts; /* being looked up */
	PGconn *conn;
	struct loop_src *io;
	int io_fd;
	struct loop_src *timer;    /* next try, or end of patience with connecting */
	struct loop_src *deadline; /* of the head */
	uint64_t backoff;
	const struct db_stmt *prepared[STMTS_MAX];
	size_t n_prepared;
	struct batch_list batches;
	struct batch *open; /* being filled */
	unsigned depth;     /* callbacks that are running */
	bool closing;
	struct err fault; /* what broke while sending; the deadline timer ends the connection */
};

/* --- batches --------------------------------------------------------------------------------- */

static void batch_free(struct batch *b)
{
	if (!b)
		return;
	for (size_t i = 0; i < b->out.n; i++)
		db_rows_free(b->out.rows[i]);
	free(b->out.rows);
	free(b->ops);
	free(b);
}

/* Room for one more: the capacity is the next power of two. */
static int batch_grow(struct batch *b)
{
	struct op *ops;

	if (b->n_ops & (b->n_ops - 1))
		return 0;
	ops = reallocarray(b->ops, b->n_ops ? b->n_ops * 2 : 1, sizeof(*ops));
	if (!ops)
		return -ENOMEM;
	b->ops = ops;
	return 0;
}

static void batch_fail(struct batch *b, enum db_class class, int failed, const struct err *e)
{
	if (b->out.class != DB_OK)
		return;
	b->out.class = class;
	b->out.failed = failed;
	b->out.err = *e;
}

/* Statements before this op: the index that callers count in. */
static int stmt_index(const struct batch *b)
{
	int n = 0;

	for (size_t i = 0; i < b->at; i++)
		n += !b->ops[i].prepare;
	return n;
}

/* --- life ------------------------------------------------------------------------------------ */

static void connect_try(void *user);
static void on_deadline(void *user);

static void release(struct db_pipe *p)
{
	batch_free(p->open);
	loop_src_free(p->io);
	loop_src_free(p->timer);
	loop_src_free(p->deadline);
	db_hosts_free(p->hosts);
	PQfinish(p->conn);
	db_target_done(&p->target);
	free(p->application);
	free(p);
}

static void answer(struct db_pipe *p, struct batch *b);

/* Whoever waits for an answer may hold memory until it comes. */
static void close_pipe(struct db_pipe *p)
{
	struct err e = { 0 };
	struct batch *b;

	(void)err_set(&e, ECONNRESET, ERR_TRANSIENT, "the connection was closed");
	p->depth++;
	while ((b = TAILQ_FIRST(&p->batches))) {
		batch_fail(b, DB_CONNECTION, -1, &e);
		answer(p, b);
	}
	p->depth--;
	release(p);
}

void db_pipe_free(struct db_pipe *p)
{
	if (!p || p->closing)
		return;
	p->closing = true;
	if (p->depth == 0)
		close_pipe(p);
}

static void enter(struct db_pipe *p)
{
	p->depth++;
}

static void leave(struct db_pipe *p)
{
	if (--p->depth == 0 && p->closing)
		close_pipe(p);
}

int db_pipe_new(struct loop *l, const struct db_pipe_conf *conf, struct db_pipe **ret,
		struct err *e)
{
	auto_obj(db_pipe) p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return err_nomem(e);
	TAILQ_INIT(&p->batches);
	p->loop = l;
	p->conf = *conf;
	p->conf.url = NULL;
	if (!p->conf.backoff_min)
		p->conf.backoff_min = 100 * USEC_PER_MSEC;
	if (!p->conf.backoff_max)
		p->conf.backoff_max = 5 * USEC_PER_SEC;
	if (!p->conf.statement_usec)
		p->conf.statement_usec = 20 * USEC_PER_SEC;
	p->backoff = p->conf.backoff_min;
	p->application = strdup(conf->application ? conf->application : "zr");
	if (!p->application)
		return err_nomem(e);
	r = db_target_init(&p->target, conf->url, e);
	if (r == 0)
		r = loop_timer(l, 0, connect_try, p, &p->timer, e);
	if (r == 0)
		r = loop_timer(l, USEC_INFINITY, on_deadline, p, &p->deadline, e);
	if (r < 0)
		return r;
	*ret = take_ptr(p);
	return 0;
}

bool db_pipe_up(const struct db_pipe *p)
{
	return p->state == PIPE_UP;
}

size_t db_pipe_pending(const struct db_pipe *p)
{
	const struct batch *b;
	size_t n = 0;

	TAILQ_FOREACH (b, &p->batches, link)
		n++;
	return n;
}

/* --- losing the connection ------------------------------------------------------------------- */

/* Half of the back-off is chance, so that a fleet does not come back in step. */
static uint64_t next_try(struct db_pipe *p)
{
	uint64_t half = p->backoff / 2, chance = 0;

	(void)!getrandom(&chance, sizeof(chance), GRND_NONBLOCK);
	p->backoff = p->backoff * 2 > p->conf.backoff_max ? p->conf.backoff_max : p->backoff * 2;
	return half + chance % (half + 1);
}

static void answer(struct db_pipe *p, struct batch *b)
{
	TAILQ_REMOVE(&p->batches, b, link);
	if (b->done)
		b->done(b->user, &b->out);
	batch_free(b);
}

static void lose(struct db_pipe *p, enum db_class class, const struct err *e)
{
	struct batch_list lost = TAILQ_HEAD_INITIALIZER(lost);
	struct batch *b;

	enter(p);
	p->state = PIPE_WAITING;
	p->io = loop_src_free(p->io);
	loop_timer_set(p->deadline, USEC_INFINITY);
	p->hosts = db_hosts_free(p->hosts);
	PQfinish(p->conn);
	p->conn = NULL;
	p->n_prepared = 0;
	p->fault.code = 0;
	batch_free(p->open);
	p->open = NULL;
	loop_timer_set(p->timer, next_try(p));
	/* A callback may not find its own batch among those that are still waiting. */
	TAILQ_CONCAT(&lost, &p->batches, link);
	while ((b = TAILQ_FIRST(&lost))) {
		TAILQ_REMOVE(&lost, b, link);
		batch_fail(b, class, -1, e);
		TAILQ_INSERT_HEAD(&p->batches, b, link);
		answer(p, b);
	}
	if (p->conf.on_down && !p->closing)
		p->conf.on_down(p->conf.user, class, e);
	leave(p);
}

static void lose_conn(struct db_pipe *p)
{
	enum db_class class = DB_CONNECTION;
	struct err e = { 0 };

	(void)db_result_failed(NULL, p->conn, &class, &e);
	lose(p, class, &e);
}

static void on_deadline(void *user)
{
	struct db_pipe *p = user;
	struct err e = p->fault;

	if (e.code) {
		lose(p, DB_CONNECTION, &e);
		return;
	}
	(void)err_set(&e, ETIMEDOUT, ERR_TRANSIENT, "database at %s: no answer in time",
		      p->target.place);
	lose(p, DB_TIMEOUT, &e);
}

static void set_deadline(struct db_pipe *p)
{
	const struct batch *b = TAILQ_FIRST(&p->batches);
	uint64_t now = time_mono_usec();

	if (p->fault.code)
		return;
	if (!b)
		loop_timer_set(p->deadline, USEC_INFINITY);
	else
		loop_timer_set(p->deadline, b->deadline > now ? b->deadline - now : 0);
}

/* --- answers --------------------------------------------------------------------------------- */

static void forget_stmt(struct db_pipe *p, const struct db_stmt *s)
{
	for (size_t i = 0; i < p->n_prepared; i++)
		if (p->prepared[i] == s)
			p->prepared[i] = p->prepared[--p->n_prepared];
}

static void op_failed(struct db_pipe *p, struct batch *b, const PGresult *r)
{
	enum db_class class = DB_UNKNOWN;
	struct err e = { 0 };

	(void)db_result_failed(r, p->conn, &class, &e);
	batch_fail(b, class, b->at < b->n_ops ? stmt_index(b) : -1, &e);
}

static void op_result(struct db_pipe *p, struct batch *b, PGresult *r)
{
	const struct op *op = b->at < b->n_ops ? &b->ops[b->at] : NULL;
	ExecStatusType s = PQresultStatus(r);
	struct err e = { 0 };

	if (s == PGRES_TUPLES_OK || s == PGRES_COMMAND_OK) {
		if (!op || op->prepare || b->out.n == b->n_ops) {
			PQclear(r);
			return;
		}
		b->out.rows[b->out.n] = db_rows_new(r);
		if (b->out.rows[b->out.n])
			b->out.n++;
		else
			batch_fail(b, DB_RESOURCES, -1, (err_nomem(&e), &e));
		return;
	}
	if (op && op->prepare)
		forget_stmt(p, op->stmt);
	if (s != PGRES_PIPELINE_ABORTED)
		op_failed(p, b, r);
	PQclear(r);
}

/* One answer of libpq: a result, NULL at the end of a statement, or the sync. */
static void take_answer(struct db_pipe *p, struct batch *b, PGresult *r)
{
	if (!r) {
		if (b->at < b->n_ops)
			b->at++;
		else
			b->stray++; /* one follows a commit that failed; more means a dead connection */
		return;
	}
	if (PQresultStatus(r) != PGRES_PIPELINE_SYNC) {
		op_result(p, b, r);
		return;
	}
	PQclear(r);
	if (p->state == PIPE_UP && b->out.class == DB_OK)
		p->backoff = p->conf.backoff_min;
	answer(p, b);
}

static void read_answers(struct db_pipe *p)
{
	struct batch *b;
	PGnotify *n;

	while (!p->closing && p->conn && (b = TAILQ_FIRST(&p->batches)) && b->stray < 3 &&
	       !PQisBusy(p->conn))
		take_answer(p, b, PQgetResult(p->conn));
	while (!p->closing && p->conn && (n = PQnotifies(p->conn))) {
		if (p->conf.on_notify)
			p->conf.on_notify(p->conf.user, n->relname);
		PQfreemem(n);
	}
	if (!p->closing && p->conn)
		set_deadline(p);
}

static int flush(struct db_pipe *p)
{
	int r = PQflush(p->conn);

	if (r < 0)
		return -ECONNRESET;
	return loop_fd_events(p->io, EPOLLIN | (r > 0 ? (uint32_t)EPOLLOUT : 0));
}

static bool broken(const struct db_pipe *p)
{
	const struct batch *b = TAILQ_FIRST(&p->batches);

	return PQstatus(p->conn) != CONNECTION_OK || (b && b->stray >= 3);
}

static void on_io(void *user, unused_arg int fd, uint32_t events)
{
	struct db_pipe *p = user;
	bool good = true;

	enter(p);
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		good = PQconsumeInput(p->conn);
	/* What came before the end of the connection is read first. */
	read_answers(p);
	if (!p->closing && p->conn && (!good || broken(p) || flush(p) < 0))
		lose_conn(p);
	leave(p);
}

/* --- connecting ------------------------------------------------------------------------------ */

static void on_session(void *user, const struct db_outcome *o)
{
	struct db_pipe *p = user;

	if (o->class != DB_OK) {
		if (p->conn && !p->closing)
			lose(p, o->class, &o->err);
		return;
	}
	p->state = PIPE_UP;
	loop_timer_set(p->timer, USEC_INFINITY);
	if (p->conf.on_up)
		p->conf.on_up(p->conf.user);
}

static int session_begin(struct db_pipe *p, struct err *e)
{
	static const struct db_stmt session = { "", db_session_sql };
	struct db_args a = { 0 };
	int r;

	PQsetErrorVerbosity(p->conn, PQERRORS_DEFAULT);
	if (PQsetnonblocking(p->conn, 1) != 0 || !PQenterPipelineMode(p->conn))
		return err_set(e, EIO, ERR_TRANSIENT, "database: no pipeline mode");
	r = loop_fd(p->loop, PQsocket(p->conn), EPOLLIN, on_io, p, &p->io, e);
	if (r < 0)
		return r;
	p->state = PIPE_SETUP;
	db_session_args(&a, p->conf.statement_usec);
	r = db_pipe_add(p, &session, &a, e);
	return r < 0 ? r : db_pipe_sync(p, on_session, p, e);
}

static void connect_failed(struct db_pipe *p)
{
	enum db_class class = DB_CONNECTION;
	struct err e = { 0 };

	(void)db_connect_failed(&p->target, p->conn, &class, &e);
	lose(p, class, &e);
}

static void connect_step(struct db_pipe *p, PostgresPollingStatusType s);

static void on_connect_io(void *user, unused_arg int fd, unused_arg uint32_t events)
{
	struct db_pipe *p = user;

	enter(p);
	connect_step(p, PQconnectPoll(p->conn));
	leave(p);
}

/* libpq may use a new socket at any step (the next address, the next host): the source is made anew. */
static void connect_step(struct db_pipe *p, PostgresPollingStatusType s)
{
	struct err e = { 0 };
	int r;

	p->io = loop_src_free(p->io);
	if (s == PGRES_POLLING_FAILED) {
		connect_failed(p);
		return;
	}
	r = s == PGRES_POLLING_OK ? session_begin(p, &e)
				  : loop_fd(p->loop, PQsocket(p->conn),
					    s == PGRES_POLLING_READING ? EPOLLIN : EPOLLOUT,
					    on_connect_io, p, &p->io, &e);
	if (r < 0)
		lose(p, DB_UNKNOWN, &e);
}

static void connect_to(struct db_pipe *p, const struct db_addresses *a)
{
	p->conn = db_connect_start(&p->target, p->application, a);
	if (!p->conn || PQstatus(p->conn) == CONNECTION_BAD)
		connect_failed(p);
	else
		connect_step(p, PGRES_POLLING_WRITING);
}

static void on_hosts(void *user, const struct db_addresses *a, const struct err *why)
{
	struct db_pipe *p = user;
	struct err e = { 0 };

	enter(p);
	if (a) {
		connect_to(p, a);
		p->hosts = db_hosts_free(p->hosts);
	} else {
		(void)err_set(&e, EHOSTUNREACH, ERR_TRANSIENT, "database at %s: %s",
			      p->target.place, why->msg);
		lose(p, DB_CONNECTION, &e);
	}
	leave(p);
}

/* The timer: time for a try, or no patience any more with the one under way. */
static void connect_try(void *user)
{
	struct db_pipe *p = user;
	struct err e = { 0 };

	enter(p);
	if (p->state != PIPE_WAITING) {
		(void)err_set(&e, ETIMEDOUT, ERR_TRANSIENT, "database at %s: no answer in time",
			      p->target.place);
		lose(p, DB_TIMEOUT, &e);
		leave(p);
		return;
	}
	p->state = PIPE_CONNECTING;
	loop_timer_set(p->timer, CONNECT_USEC);
	if (!p->target.hosts)
		connect_to(p, NULL);
	else if (db_hosts_start(p->loop, p->target.hosts, p->target.ports, on_hosts, p, &p->hosts,
				&e) < 0)
		lose(p, DB_CONNECTION, &e);
	leave(p);
}

/* --- sending --------------------------------------------------------------------------------- */

/* Half a batch may be on its way: the connection is of no further use. */
static int send_failed(struct db_pipe *p, struct err *e)
{
	const char *text = PQerrorMessage(p->conn);
	char line[160];

	str_escape(line, sizeof(line), text, strcspn(text, "\n"));
	(void)err_set(&p->fault, ENOTCONN, ERR_TRANSIENT, "send to the database: %s", line);
	loop_timer_set(p->deadline, 0);
	return err_set(e, ENOTCONN, ERR_TRANSIENT, "%s", p->fault.msg);
}

static bool usable(const struct db_pipe *p)
{
	return p->state >= PIPE_SETUP && !p->fault.code && !p->closing;
}

static bool is_prepared(const struct db_pipe *p, const struct db_stmt *s)
{
	for (size_t i = 0; i < p->n_prepared; i++)
		if (p->prepared[i] == s)
			return true;
	return false;
}

static int add_op(struct db_pipe *p, const struct db_stmt *s, bool prepare, struct err *e)
{
	struct batch *b = p->open;

	if (batch_grow(b) < 0)
		return send_failed(p, e);
	b->ops[b->n_ops++] = (struct op){ s, prepare };
	return 0;
}

static int prepare(struct db_pipe *p, const struct db_stmt *s, struct err *e)
{
	/* The programs have a few dozen statements; more is a mistake in them. */
	if (p->n_prepared == STMTS_MAX)
		abort();
	if (!PQsendPrepare(p->conn, s->name, s->sql, 0, NULL))
		return send_failed(p, e);
	p->prepared[p->n_prepared++] = s;
	return add_op(p, s, true, e);
}

static int send_stmt(struct db_pipe *p, const struct db_stmt *s, const struct db_args *a,
		     struct err *e)
{
	int ok, r;

	if (s->name[0] && !is_prepared(p, s)) {
		r = prepare(p, s, e);
		if (r < 0)
			return r;
	}
	ok = s->name[0]
		     ? PQsendQueryPrepared(p->conn, s->name, a->n, a->value, a->len, a->binary, 0)
		     : PQsendQueryParams(p->conn, s->sql, a->n, NULL, a->value, a->len, a->binary,
					 0);
	return ok ? add_op(p, s, false, e) : send_failed(p, e);
}

int db_pipe_add(struct db_pipe *p, const struct db_stmt *s, const struct db_args *a, struct err *e)
{
	static const struct db_args none;

	if (!usable(p))
		return err_set(e, ENOTCONN, ERR_TRANSIENT, "not connected to the database");
	if (!p->open)
		p->open = calloc(1, sizeof(*p->open));
	if (!p->open)
		return err_nomem(e);
	return send_stmt(p, s, a ? a : &none, e);
}

int db_pipe_sync(struct db_pipe *p, db_done_fn done, void *user, struct err *e)
{
	struct batch *b = p->open;

	if (!usable(p) || !b)
		return err_set(e, ENOTCONN, ERR_TRANSIENT, "not connected to the database");
	b->out.failed = -1;
	b->out.rows = calloc(b->n_ops + 1, sizeof(struct db_rows *));
	if (!b->out.rows || !PQpipelineSync(p->conn) || flush(p) < 0)
		return send_failed(p, e);
	b->done = done;
	b->user = user;
	b->deadline = time_mono_usec() + p->conf.statement_usec * 3 / 2;
	p->open = NULL;
	TAILQ_INSERT_TAIL(&p->batches, b, link);
	if (TAILQ_FIRST(&p->batches) == b)
		set_deadline(p);
	return 0;
}

int db_pipe_send(struct db_pipe *p, const struct db_stmt *s, const struct db_args *a,
		 db_done_fn done, void *user, struct err *e)
{
	int r = db_pipe_add(p, s, a, e);

	return r < 0 ? r : db_pipe_sync(p, done, user, e);
}

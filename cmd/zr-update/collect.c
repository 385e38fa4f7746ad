/* SPDX-License-Identifier: MIT */
#include "collect.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/json.h"
#include "base/log.h"
#include "base/str.h"
#include "boards.h"
#include "empty.h"
#include "leader.h"
#include "messaging/message.h"
#include "messaging/topology.h"
#include "outlet.h"
#include "puller.h"
#include "store/results.h"
#include "transfer/manifest.h"

#define DUE_MAX     256 /* rows of one look */
#define QUEUE_MAX   64  /* of a host */
#define BACKOFF_MIN USEC_PER_SEC
#define BACKOFF_MAX (300 * USEC_PER_SEC)
#define PERSON_USEC (300 * USEC_PER_SEC) /* for what only a person can mend */
#define FORGET_USEC (120 * USEC_PER_SEC) /* a host with nothing to do */

struct pull {
	TAILQ_ENTRY(pull) link;
	struct result_due due; /* its texts are ours */
	char *texts[4];
};
TAILQ_HEAD(pulls, pull);

struct host {
	TAILQ_ENTRY(host) link;
	struct collect *collect;
	char *name;
	struct pulls queue; /* the head is the one being pulled, if `busy` */
	size_t n;
	bool busy;      /* at the puller or at the database */
	bool recording; /* at the database */
	bool trouble;   /* said in the log */
	struct puller *puller;
	struct loop_src *timer; /* end of the back-off, or time to be forgotten */
	uint64_t backoff, not_before;
};
TAILQ_HEAD(hosts, host);

struct collect {
	struct update *update;
	struct hosts hosts;
	bool looking, look_again;
	bool look_was_full;  /* there may be more than the last look found */
	bool empty_trouble;  /* said in the log */
	uint64_t generation; /* answers of an older one are not for us */
};

static void run(struct host *h);

/* --- hosts and pulls ------------------------------------------------------------------------- */

static void pull_free(struct pull *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < ARRAY_LEN(p->texts); i++)
		free(p->texts[i]);
	free(p);
}
DEFINE_AUTO(pull);

static struct pull *pull_new(const struct result_due *d)
{
	auto_obj(pull) p = calloc(1, sizeof(*p));
	const char *texts[] = { d->attempt_id, d->host, d->root_hash, d->path };

	if (!p)
		return NULL;
	for (size_t i = 0; i < ARRAY_LEN(p->texts); i++)
		if (!texts[i] || !(p->texts[i] = strdup(texts[i])))
			return NULL;
	p->due = *d;
	p->due.attempt_id = p->texts[0];
	p->due.host = p->texts[1];
	p->due.root_hash = p->texts[2];
	p->due.path = p->texts[3];
	return take_ptr(p);
}

static void host_free(struct host *h)
{
	struct pull *p;

	if (!h)
		return;
	puller_free(h->puller);
	while ((p = TAILQ_FIRST(&h->queue))) {
		TAILQ_REMOVE(&h->queue, p, link);
		pull_free(p);
	}
	loop_src_free(h->timer);
	free(h->name);
	free(h);
}
DEFINE_AUTO(host);

static void drop_host(struct host *h)
{
	TAILQ_REMOVE(&h->collect->hosts, h, link);
	host_free(h);
}

static bool in_backoff(const struct host *h)
{
	return time_mono_usec() < h->not_before;
}

static void on_host_timer(void *user)
{
	struct host *h = user;

	if (TAILQ_EMPTY(&h->queue) && !h->busy && !in_backoff(h) && !h->trouble)
		drop_host(h);
	else if (TAILQ_EMPTY(&h->queue))
		collect_poke(h->collect);
	else
		run(h);
}

static struct host *find_host(struct collect *c, const char *name)
{
	struct host *h;

	TAILQ_FOREACH (h, &c->hosts, link)
		if (str_eq(h->name, name))
			return h;
	return NULL;
}

static struct host *add_host(struct collect *c, const char *name)
{
	auto_obj(host) h = calloc(1, sizeof(*h));

	if (!h)
		return NULL;
	TAILQ_INIT(&h->queue);
	h->collect = c;
	h->name = strdup(name);
	if (!h->name ||
	    loop_timer(c->update->loop, FORGET_USEC, on_host_timer, h, &h->timer, NULL) < 0)
		return NULL;
	TAILQ_INSERT_TAIL(&c->hosts, h, link);
	return take_ptr(h);
}

static bool has_pull(const struct host *h, const struct result_due *d)
{
	const struct pull *p;

	TAILQ_FOREACH (p, &h->queue, link)
		if (p->due.evaluation == d->evaluation && str_eq(p->due.attempt_id, d->attempt_id))
			return true;
	return false;
}

static void pull_over(struct host *h, struct pull *p)
{
	TAILQ_REMOVE(&h->queue, p, link);
	h->n--;
	pull_free(p);
	h->busy = h->recording = false;
	loop_timer_set(h->timer, FORGET_USEC);
	if (TAILQ_EMPTY(&h->queue))
		collect_poke(h->collect);
	else
		run(h);
}

/* Others go on; this host is tried again. */
static void pause_host(struct host *h, uint64_t usec, const char *why)
{
	if (!h->trouble)
		log_warning("results of %s wait: %s", h->name, why);
	else
		log_debug("results of %s wait: %s", h->name, why);
	h->trouble = true;
	h->busy = false;
	h->not_before = time_mono_usec() + usec;
	loop_timer_set(h->timer, usec);
}

/* The next try is another result, if there is one: the fault may lie in this one alone. */
static void back_off(struct host *h, const char *why)
{
	struct pull *p = TAILQ_FIRST(&h->queue);

	TAILQ_REMOVE(&h->queue, p, link);
	TAILQ_INSERT_TAIL(&h->queue, p, link);
	h->backoff = h->backoff ? h->backoff * 2 : BACKOFF_MIN;
	if (h->backoff > BACKOFF_MAX)
		h->backoff = BACKOFF_MAX;
	pause_host(h, h->backoff, why);
}

/* --- the end of a pull ----------------------------------------------------------------------- */

struct ending {
	struct collect *collect;
	uint64_t generation;
	char *host, *body;
	char message_id[UUID_LEN + 1], key[MESSAGE_KEY_MAX];
	bool refused;
};

static void ending_free(struct ending *x)
{
	if (!x)
		return;
	free(x->host);
	free(x->body);
	free(x);
}
DEFINE_AUTO(ending);

static void on_recorded(void *user, const struct db_outcome *o)
{
	auto_obj(ending) x = user;
	struct host *h = find_host(x->collect, x->host);
	bool ours = x->generation == x->collect->generation && h && h->recording;

	FAILPOINT("collect.recorded");
	if (o->class != DB_OK) {
		(void)update_failed(x->collect->update, "record a result", o);
		/* It is pending still: pulled again, and found to be there already. */
		if (ours) {
			h->recording = false;
			pause_host(h, USEC_PER_SEC, o->err.msg);
		}
		return;
	}
	if (!x->refused && !db_is_null(o->rows[0], 0, 0))
		outlet_row(x->collect->update->outlet, db_int(o->rows[0], 0, 0), TOPOLOGY_EXCHANGE,
			   x->key, x->message_id, x->body);
	if (x->refused)
		boards_poke(x->collect->update->boards);
	if (ours)
		pull_over(h, TAILQ_FIRST(&h->queue));
}

static int write_release(struct ending *x, const struct result_due *d, struct err *e)
{
	char evaluation[24];
	struct message m = { .type = MESSAGE_CONTROL };
	size_t n;

	snprintf(evaluation, sizeof(evaluation), "%lld", (long long)d->evaluation);
	m.control = (struct message_control){ .id = id_uuid7(x->message_id),
					      .kind = MESSAGE_RELEASE,
					      .evaluation = evaluation,
					      .attempt_id = d->attempt_id,
					      .by = "zr-update" };
	(void)message_key(x->key, &m);
	return message_encode(&m, &x->body, &n, e);
}

/* `refused` NULL: it is here. */
static int record(struct host *h, const struct result_due *d, const char *refused, struct err *e)
{
	auto_obj(ending) x = calloc(1, sizeof(*x));
	struct outbox_msg release = { 0 };
	struct db_args a = { 0 };
	int r;

	if (!x || !(x->host = strdup(h->name)))
		return err_nomem(e);
	x->collect = h->collect;
	x->generation = h->collect->generation;
	x->refused = refused != NULL;
	r = refused ? 0 : write_release(x, d, e);
	if (r < 0)
		return r;
	release = (struct outbox_msg){ .exchange = TOPOLOGY_EXCHANGE,
				       .routing_key = x->key,
				       .message_id = x->message_id,
				       .body = x->body };
	results_done_args(&a, d, refused, refused ? NULL : &release);
	r = db_pipe_send(h->collect->update->work, &results_done_stmt, &a, on_recorded, x, e);
	if (r == 0)
		x = NULL;
	return r;
}

static void end_pull(struct host *h, const struct pull *p, const char *refused)
{
	struct err e = { 0 };

	FAILPOINT("collect.here");
	h->backoff = 0;
	if (h->trouble)
		log_notice("results of %s come again", h->name);
	h->trouble = false;
	if (refused)
		log_err("result of evaluation %lld, attempt %d on %s is refused: %s",
			(long long)p->due.evaluation, p->due.attempt, h->name, refused);
	h->recording = true;
	if (record(h, &p->due, refused, &e) < 0) {
		h->recording = false;
		pause_host(h, USEC_PER_SEC, e.msg);
	}
}

static void on_answer(void *user, const json_t *answer, const char *why)
{
	struct host *h = user;
	struct pull *p = TAILQ_FIRST(&h->queue);
	const char *class = json_string_value(json_object_get(answer, "class"));
	const char *detail = json_string_value(json_object_get(answer, "detail"));
	char text[400];

	detail = STR_ESC(detail ? detail : why ? why : "no reason given");
	snprintf(text, sizeof(text), "%s", detail);
	if (json_is_true(json_object_get(answer, "ok")))
		end_pull(h, p, NULL);
	else if (str_eq(class, "input") || str_eq(class, "changed"))
		end_pull(h, p, text);
	else if (str_eq(class, "permanent"))
		pause_host(h, PERSON_USEC, text);
	else
		back_off(h, text);
}

/* --- the start of a pull --------------------------------------------------------------------- */

/* A host of the settings is reached over SSH; our own name without a section is this very host. */
static int command(const struct host *h, const struct result_due *d, json_t **ret, struct err *e)
{
	const struct settings *s = h->collect->update->settings;
	const struct settings_host *sh = settings_find_host(s, h->name);
	auto_free char *dir = NULL, *target = NULL;
	json_auto_t *o = NULL;

	if (!sh && !str_eq(h->name, s->host))
		return err_set(e, ENOENT, ERR_HOST, "zr.conf has no section host \"%s\"", h->name);
	if (str_fmt(&dir, "%s/sealed/%s", sh ? sh->state_dir : s->state_dir, d->attempt_id) < 0 ||
	    str_fmt(&target, "%s/%s", s->results_dir, d->path) < 0)
		return err_nomem(e);
	o = json_pack("{s:s, s:I, s:s, s:s, s:s, s:s, s:b}", "op", "pull", "id",
		      (json_int_t)d->evaluation, "remote_dir", dir, "root_hash", d->root_hash,
		      "target", target, "name", "result", "keep_manifest", 1);
	if (!o ||
	    (sh && json_object_set_new(o, "host",
				       json_pack("{s:s, s:i, s:s}", "address", sh->address, "port",
						 (int)sh->port, "user", sh->user)) < 0))
		return err_nomem(e);
	*ret = json_incref(o);
	return 0;
}

/* <results_dir>/<evaluation>, and the fetcher's staging folder on the same file system. */
static int make_folders(const struct host *h, const struct result_due *d, struct err *e)
{
	const char *results = h->collect->update->settings->results_dir;
	auto_free char *staging = NULL, *parent = NULL;
	int r;

	if (str_fmt(&staging, "%s/.staging/%s", results, h->name) < 0 ||
	    str_fmt(&parent, "%s/%lld", results, (long long)d->evaluation) < 0)
		return err_nomem(e);
	r = fd_mkdirs(staging, 0700, e);
	return r < 0 ? r : fd_mkdirs(parent, 0755, e);
}

static int start_pull(struct host *h, const struct pull *p, struct err *e)
{
	struct update *u = h->collect->update;
	json_auto_t *o = NULL;
	int r = command(h, &p->due, &o, e);

	if (r == 0)
		r = make_folders(h, &p->due, e);
	if (r == 0 && !h->puller)
		r = puller_new(u->loop, u->settings, h->name, on_answer, h, &h->puller, e);
	FAILPOINT("collect.ask");
	return r < 0 ? r : puller_send(h->puller, o, e);
}

static void run(struct host *h)
{
	struct pull *p = TAILQ_FIRST(&h->queue);
	struct err e = { 0 };

	if (h->busy || !p || in_backoff(h) || !leader_is_me(h->collect->update->leader))
		return;
	h->busy = true;
	if (start_pull(h, p, &e) == 0)
		return;
	if (e.code == ENOENT)
		pause_host(h, PERSON_USEC, e.msg);
	else
		back_off(h, e.msg);
}

/* --- looking --------------------------------------------------------------------------------- */

static void take_due(struct collect *c, const struct result_due *d)
{
	struct host *h = find_host(c, d->host);
	struct pull *p;

	if (!*d->path) {
		log_err("evaluation %lld, attempt %d: the database names no place for its result, "
			"which waits; run 'zr db:migrate'",
			(long long)d->evaluation, d->attempt);
		return;
	}
	/* It becomes part of paths. */
	if (!id_valid(d->host)) {
		log_err("evaluation %lld: a host of that name cannot be: %s",
			(long long)d->evaluation, STR_ESC(d->host));
		return;
	}
	if (!h)
		h = add_host(c, d->host);
	if (!h || h->n >= QUEUE_MAX || has_pull(h, d))
		return;
	p = pull_new(d);
	if (!p)
		return;
	TAILQ_INSERT_TAIL(&h->queue, p, link);
	h->n++;
	run(h);
}

static void on_empty_recorded(void *user, const struct db_outcome *o)
{
	struct collect *c = user;

	if (o->class != DB_OK)
		(void)update_failed(c->update, "record empty results", o);
	else if (c->look_was_full)
		collect_poke(c);
}

/* What cannot be made now is found by the next look again. */
static void publish_empty(struct collect *c, const struct db_rows *rows)
{
	struct err e = { 0 };
	int r = empty_publish(c->update, rows, on_empty_recorded, c, &e);

	if (r < 0 && !c->empty_trouble)
		log_warning("empty results wait: %s", e.msg);
	else if (r == 0 && c->empty_trouble)
		log_notice("empty results are stored again");
	c->empty_trouble = r < 0;
}

static void on_due(void *user, const struct db_outcome *o)
{
	struct collect *c = user;
	bool empty = false;

	c->looking = false;
	if (o->class != DB_OK) {
		(void)update_failed(c->update, "look for results", o);
		return;
	}
	c->look_was_full = db_rows_n(o->rows[0]) == DUE_MAX;
	for (int i = 0; i < db_rows_n(o->rows[0]); i++) {
		struct result_due d;

		results_due_row(o->rows[0], i, &d);
		if (empty_is(&d))
			empty = true;
		else
			take_due(c, &d);
	}
	if (empty)
		publish_empty(c, o->rows[0]);
	if (c->look_again)
		collect_poke(c);
}

/* Hosts that would take nothing now: their rows must not fill the answer. */
static char *hosts_to_skip(const struct collect *c)
{
	json_auto_t *list = json_array();
	const struct host *h;

	TAILQ_FOREACH (h, &c->hosts, link)
		if (h->n >= QUEUE_MAX || in_backoff(h))
			(void)json_array_append_new(list, json_string(h->name));
	return js_text(list);
}

void collect_poke(struct collect *c)
{
	auto_free char *skip = NULL;
	struct db_args a = { 0 };

	if (c->update->draining || !leader_is_me(c->update->leader))
		return;
	c->look_again = c->looking;
	if (c->looking)
		return;
	skip = hosts_to_skip(c);
	if (!skip)
		return;
	db_arg_text(&a, skip);
	db_arg_int(&a, DUE_MAX);
	db_arg_text(&a, MANIFEST_EMPTY_RESULT);
	c->looking = db_pipe_send(c->update->work, &results_due_stmt, &a, on_due, c, NULL) == 0;
}

void collect_reset(struct collect *c)
{
	c->generation++;
	while (!TAILQ_EMPTY(&c->hosts))
		drop_host(TAILQ_FIRST(&c->hosts));
}

int collect_new(struct update *u, struct collect **ret, struct err *e)
{
	struct collect *c = calloc(1, sizeof(*c));

	if (!c)
		return err_nomem(e);
	c->update = u;
	TAILQ_INIT(&c->hosts);
	*ret = c;
	return 0;
}

void collect_free(struct collect *c)
{
	if (!c)
		return;
	collect_reset(c);
	free(c);
}

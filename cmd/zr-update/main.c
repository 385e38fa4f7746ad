/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * zr-update writes what eval hosts report into the database, brings their results here and keeps the
 * leaderboards true. The supervisor (no --worker) holds no connection; it starts N workers and
 * replaces them (base/super). A worker is one event loop:
 *
 *	intake    queue zr.update -> window -> batches -> one transaction each -> acknowledged
 *	leader    one worker of all is the leader (a row with a term), and does the rest:
 *	collect   results that are pending: a zr-fetch for each eval host -> published -> `stored`,
 *	          and in the same transaction the message that lets the host delete its copy
 *	boards    leaderboards that are older than the truth, bursts coalesced
 *	outlet    what is owed to the broker: the outbox, dead messages
 *	resend    requests that have disappeared from the broker
 *	seek      events that have disappeared from the broker
 *	prune     events that are older than they need be kept
 *	audit     workers that were not heard of for longer than their lease: what they hold ends
 *
 * Everything may be done twice and nothing is lost. An event is acknowledged after its transaction is
 * committed; the inbox (its natural key) makes a repeat a no-op. What follows from an event is
 * written with it, as a state: a result is `pending`, a board is marked, a message lies in the
 * outbox. The leader works these states off, so that a crash between any two steps costs only time:
 * whoever leads next finds them.
 *
 * Without the database nothing is acknowledged; after half a minute the window goes back to the
 * broker, which is made for keeping it. Without the broker nothing arrives, and results already
 * announced are still collected.
 *
 * SIGTERM: no further events, what is at the database is finished, exit; fetches are given up and
 * begun anew later from where they were. A second SIGTERM: exit at once. SIGHUP: settings that may
 * change are read again (base/settings).
 */
#include <stdio.h>
#include <string.h>

#include "audit.h"
#include "base/daemon.h"
#include "base/log.h"
#include "base/str.h"
#include "base/super.h"
#include "boards.h"
#include "collect.h"
#include "intake.h"
#include "leader.h"
#include "outlet.h"
#include "prune.h"
#include "resend.h"
#include "seek.h"
#include "update.h"

#define EXIT_USAGE   2
#define PREFETCH     512
#define PREFETCH_MAX 10000
#define LOOK_USEC    (5 * USEC_PER_SEC)
#define DRAIN_USEC   (10 * USEC_PER_SEC)
#define DRAIN_LOOK   (20 * USEC_PER_MSEC)

/* --- one worker ------------------------------------------------------------------------------ */

struct worker {
	struct update up; /* first: parts know only it */
	struct super_link *link;
	struct loop_src *signals[3];
	struct loop_src *look, *drained;
	bool ready, work_down_said;
	uint64_t leave_at; /* draining: at the latest */
};

static struct worker *worker_of(struct update *u)
{
	return (struct worker *)u;
}

void update_ready(struct update *u)
{
	struct worker *w = worker_of(u);

	if (w->ready || !intake_is_up(u->intake))
		return;
	w->ready = true;
	log_info("applying events, a window of %u", u->prefetch);
	super_link_ready(w->link);
}

void update_stop(struct update *u, int status)
{
	loop_exit(u->loop, status);
}

void update_database(struct update *u)
{
	leader_connected(u->leader, intake_has_schema(u->intake) && db_pipe_up(u->work));
}

void update_changed(struct update *u, bool ended, bool collect)
{
	if (!leader_is_me(u->leader)) {
		leader_tell(u->leader);
		return;
	}
	if (ended)
		boards_poke(u->boards);
	if (collect)
		collect_poke(u->collect);
}

void update_look(struct update *u)
{
	if (u->draining || !leader_is_me(u->leader))
		return;
	boards_poke(u->boards);
	collect_poke(u->collect);
	outlet_sweep(u->outlet);
	prune_poke(u->prune);
	resend_poke(u->resend);
	seek_poke(u->seek);
}

bool update_failed(struct update *u, const char *what, const struct db_outcome *o)
{
	/* A lost connection is said once, where it is lost. */
	if (o->class == DB_CONNECTION)
		return true;
	log_err("%s: %s", what, o->err.msg);
	if (o->class != DB_SETUP && o->class != DB_DATA)
		return true;
	if (o->class == DB_SETUP)
		update_stop(u, EXIT_USAGE);
	return false;
}

static void on_look(void *user)
{
	struct worker *w = user;

	loop_timer_set(w->look, LOOK_USEC);
	update_look(&w->up);
}

static void on_closed(void *user)
{
	struct worker *w = user;

	loop_exit(w->up.loop, 0);
}

static void on_drained(void *user)
{
	struct worker *w = user;
	const struct update *u = &w->up;
	bool idle = intake_is_idle(u->intake) && outlet_is_idle(u->outlet) &&
		    db_pipe_pending(u->work) == 0;

	if (!idle && time_mono_usec() < w->leave_at) {
		loop_timer_set(w->drained, DRAIN_LOOK);
		return;
	}
	if (!idle)
		log_warning("leaving with work that is not committed: it comes again");
	intake_close(u->intake, on_closed, w);
}

static void drain(struct worker *w)
{
	enum super_word word = super_link_told(w->link);

	if (word == SUPER_SAME)
		return;
	if (word == SUPER_LEAVE) {
		log_notice("told twice: leaving at once");
		loop_exit(w->up.loop, 0);
		return;
	}
	log_notice("draining: no new events");
	w->up.draining = true;
	w->leave_at = time_mono_usec() + DRAIN_USEC;
	collect_reset(w->up.collect);
	intake_drain(w->up.intake);
	leader_resign(w->up.leader);
	loop_timer_set(w->drained, 0);
}

/* Processes that fetch have read the old ones. */
static void let_go(void *user)
{
	collect_reset(user);
}

static void reload(struct update *u)
{
	if (daemon_reload(u->settings, u->conf, let_go, u->collect))
		update_look(u);
}

static void on_signal(void *user, int signo)
{
	struct worker *w = user;

	if (signo == SIGHUP)
		reload(&w->up);
	else
		drain(w);
}

static void on_supervisor_lost(void *user)
{
	struct worker *w = user;

	log_err("the supervisor has gone: leaving");
	loop_exit(w->up.loop, 1);
}

static void on_work_up(void *user)
{
	struct worker *w = user;

	w->work_down_said = false;
	update_database(&w->up);
}

/* The intake says the same of its connection; this one's loss by itself is odd. */
static void on_work_down(void *user, unused_arg enum db_class class, const struct err *e)
{
	struct worker *w = user;

	if (!w->work_down_said)
		log_debug("second connection: %s", e->msg);
	w->work_down_said = true;
	leader_connected(w->up.leader, false);
}

static void on_work_notify(void *user, unused_arg const char *channel)
{
	struct worker *w = user;

	update_look(&w->up);
}

static int open_work(struct worker *w, struct err *e)
{
	auto_free char *name = NULL;
	struct db_pipe_conf conf = {
		.url = w->up.settings->database_url,
		.on_up = on_work_up,
		.on_down = on_work_down,
		.on_notify = on_work_notify,
		.user = w,
	};

	if (str_fmt(&name, "zr-update %s", w->up.name) < 0)
		return err_nomem(e);
	conf.application = name;
	return db_pipe_new(w->up.loop, &conf, &w->up.work, e);
}

static int watch_signals(struct worker *w, struct err *e)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP };
	int r = 0;

	for (size_t i = 0; i < ARRAY_LEN(signals) && r == 0; i++)
		r = loop_signal(w->up.loop, signals[i], on_signal, w, &w->signals[i], e);
	return r;
}

static int open_parts(struct worker *w, struct err *e)
{
	struct update *u = &w->up;
	int r = open_work(w, e);

	if (r == 0)
		r = leader_new(u, &u->leader, e);
	if (r == 0)
		r = boards_new(u, &u->boards, e);
	if (r == 0)
		r = collect_new(u, &u->collect, e);
	if (r == 0)
		r = outlet_new(u, &u->outlet, e);
	if (r == 0)
		r = prune_new(u, &u->prune, e);
	if (r == 0)
		r = audit_new(u, &u->audit, e);
	if (r == 0)
		r = resend_new(u, &u->resend, e);
	if (r == 0)
		r = seek_new(u, &u->seek, e);
	return r < 0 ? r : intake_new(u, &u->intake, e);
}

static int worker_init(struct worker *w, struct err *e)
{
	int r = loop_new(&w->up.loop, e);

	if (r == 0)
		r = watch_signals(w, e);
	if (r == 0)
		r = super_link_new(w->up.loop, SUPER_FD, on_supervisor_lost, w, &w->link, e);
	if (r == 0)
		r = loop_timer(w->up.loop, LOOK_USEC, on_look, w, &w->look, e);
	if (r == 0)
		r = loop_timer(w->up.loop, USEC_INFINITY, on_drained, w, &w->drained, e);
	return r < 0 ? r : open_parts(w, e);
}

/* Connections first: what they would answer is freed after them. */
static void worker_done(struct worker *w)
{
	struct update *u = &w->up;

	db_pipe_free(u->work);
	intake_free(u->intake);
	collect_free(u->collect);
	boards_free(u->boards);
	outlet_free(u->outlet);
	prune_free(u->prune);
	audit_free(u->audit);
	resend_free(u->resend);
	seek_free(u->seek);
	leader_free(u->leader);
	loop_src_free(w->look);
	loop_src_free(w->drained);
	for (size_t i = 0; i < ARRAY_LEN(w->signals); i++)
		loop_src_free(w->signals[i]);
	super_link_free(w->link);
	loop_free(u->loop);
}
DEFINE_AUTO_DONE(worker);

static int run_worker(const struct daemon_options *o, struct settings *s, struct err *e)
{
	auto_done(worker) w = { .up = { .settings = s,
					.conf = o->conf,
					.number = o->worker,
					.prefetch = o->prefetch } };
	int r;

	snprintf(w.up.name, sizeof(w.up.name), "%s/%u", s->host, o->worker);
	r = worker_init(&w, e);
	return r < 0 ? r : loop_run(w.up.loop, e);
}

static int check_settings(unused_arg struct daemon_options *o, struct settings *s, struct err *e)
{
	if (!s->amqp_url)
		return err_input(e, "%s: 'amqp_url' is not set (or set AMQP_URL)", s->file);
	if (!s->database_url)
		return err_input(e, "%s: 'database_url' is not set (or set DATABASE_URL)", s->file);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct daemon_spec spec = {
		.name = "zr-update",
		.purpose = "Applies events to the database, has results collected, rebuilds "
			   "leaderboards.",
		.prefetch = PREFETCH,
		.prefetch_max = PREFETCH_MAX,
		.check = check_settings,
		.run = run_worker,
	};

	return daemon_main(argc, argv, &spec);
}

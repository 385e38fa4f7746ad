/* SPDX-License-Identifier: MIT */
/*
 * One row says who leads, and until when, by the clock of the database. The holder renews it every
 * 5 s and stops by its own monotonic clock a second before the row can run out, counted from before
 * the renewal was sent: a process that was frozen stops before it does anything.
 */
#include "leader.h"

#include <stdlib.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "collect.h"

#define RENEW_USEC (5 * USEC_PER_SEC)
#define TERM_USEC  (15 * USEC_PER_SEC) /* as in the statement */
#define EARLY_USEC USEC_PER_SEC

struct leader {
	struct update *update;
	struct loop_src *timer;
	char holder[UPDATE_NAME_MAX + 32];
	int lock; /* this name is ours on this host; -1: it is not, and the name got a number */
	uint64_t asked_at, until;
	bool connected, asking, was_me;
};

static const struct db_stmt elect_stmt = {
	"leader_elect",
	"insert into leader as l (name, holder, expires_at)"
	" values ('update', $1, now() + interval '15 seconds')"
	" on conflict (name) do update set holder = excluded.holder, expires_at = "
	"excluded.expires_at"
	" where l.holder = excluded.holder or l.expires_at < now() returning 1",
};
static const struct db_stmt resign_stmt = {
	"leader_resign",
	"delete from leader where name = 'update' and holder = $1",
};
static const struct db_stmt listen_stmt = { "leader_listen", "listen zr_update" };
static const struct db_stmt notify_stmt = { "leader_notify", "notify zr_update" };

bool leader_is_me(const struct leader *l)
{
	return time_mono_usec() < l->until;
}

const char *leader_name(const struct leader *l)
{
	return l->holder;
}

static void judge(struct leader *l)
{
	bool me = leader_is_me(l);

	if (me == l->was_me)
		return;
	log_info(me ? "leading: collecting results, building boards" : "not leading");
	l->was_me = me;
	if (me)
		update_look(l->update);
	else
		collect_reset(l->update->collect);
}

static void on_elected(void *user, const struct db_outcome *o)
{
	struct leader *l = user;

	l->asking = false;
	if (o->class != DB_OK) {
		(void)update_failed(l->update, "elect a leader", o);
		return;
	}
	l->until = db_rows_n(o->rows[0]) ? l->asked_at + TERM_USEC - EARLY_USEC : 0;
	judge(l);
}

static void ask(struct leader *l)
{
	struct db_args a = { 0 };

	if (!l->connected || l->asking || l->update->draining)
		return;
	l->asked_at = time_mono_usec();
	db_arg_text(&a, l->holder);
	l->asking = db_pipe_send(l->update->work, &elect_stmt, &a, on_elected, l, NULL) == 0;
}

static void on_timer(void *user)
{
	struct leader *l = user;

	loop_timer_set(l->timer, RENEW_USEC);
	judge(l);
	ask(l);
}

static void on_done(void *user, const struct db_outcome *o)
{
	struct leader *l = user;

	if (o->class != DB_OK)
		(void)update_failed(l->update, "listen", o);
}

void leader_connected(struct leader *l, bool up)
{
	if (l->connected == up)
		return;
	l->connected = up;
	if (!up)
		return;
	(void)!db_pipe_send(l->update->work, &listen_stmt, NULL, on_done, l, NULL);
	ask(l);
}

/* A lost hint costs as long as the leader's own looking around. */
void leader_tell(struct leader *l)
{
	(void)!db_pipe_send(l->update->work, &notify_stmt, NULL, on_done, l, NULL);
}

void leader_resign(struct leader *l)
{
	struct db_args a = { 0 };

	db_arg_text(&a, l->holder);
	if (leader_is_me(l))
		(void)!db_pipe_send(l->update->work, &resign_stmt, &a, on_done, l, NULL);
	l->until = 0;
}

/* After a crash the same name may lead at once; two services under one name may not. */
static int choose_name(struct leader *l, struct err *e)
{
	const struct update *u = l->update;
	auto_free char *name = NULL;
	auto_close int dir = -1;
	int r = fd_make_dir(u->settings->run_dir, 0755, &dir, e);

	if (r < 0)
		return r;
	if (str_fmt(&name, "zr-update.%u.lock", u->number) < 0)
		return err_nomem(e);
	r = fd_lock(dir, name, false, &l->lock, e);
	if (r == 0)
		snprintf(l->holder, sizeof(l->holder), "%s", u->name);
	else if (r == -EWOULDBLOCK)
		snprintf(l->holder, sizeof(l->holder), "%s#%d", u->name, (int)getpid());
	return r == -EWOULDBLOCK ? 0 : r;
}

int leader_new(struct update *u, struct leader **ret, struct err *e)
{
	auto_obj(leader) l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return err_nomem(e);
	l->update = u;
	l->lock = -1;
	r = choose_name(l, e);
	if (r == 0)
		r = loop_timer(u->loop, RENEW_USEC, on_timer, l, &l->timer, e);
	if (r == 0)
		*ret = take_ptr(l);
	return r;
}

void leader_free(struct leader *l)
{
	if (!l)
		return;
	loop_src_free(l->timer);
	if (l->lock >= 0)
		close(l->lock);
	free(l);
}

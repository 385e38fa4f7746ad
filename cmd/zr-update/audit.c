/* SPDX-License-Identifier: MIT */
#include "audit.h"

#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/id.h"
#include "base/log.h"
#include "intake.h"
#include "leader.h"
#include "messaging/message.h"
#include "outlet.h"
#include "store/workers.h"

#define LISTEN_USEC USEC_PER_SEC
#define TICK_USEC   (1500 * USEC_PER_MSEC) /* with every second answer */
/* A process that slept longer than this between two looks has messages in its socket that it has not
 * seen. */
#define AWAKE_USEC   (3 * USEC_PER_SEC)
#define FAILED_USEC  (10 * USEC_PER_SEC)
#define PATIENCE_MIN (60 * USEC_PER_SEC)

struct audit {
	struct update *update;
	struct loop_src *timer;
	uint64_t since_wall_usec;
	char boot_id[UUID_LEN + 1];
	/* The last answer of the database, and when it came here (monotonic; 0: none that counts). */
	char answer[TIME_TEXT_MAX];
	uint64_t answered_usec;
	uint64_t next_tick, next_look;
	bool asking, looking;
};

static bool leads(const struct audit *a)
{
	return !a->update->draining && leader_is_me(a->update->leader);
}

/* --- ticks ----------------------------------------------------------------------------------- */

static bool send_tick(struct audit *a)
{
	const struct update *u = a->update;
	char name[ID_MAX + 8], key[MESSAGE_KEY_MAX];
	struct message m = {
		.type = MESSAGE_WORKER,
		.worker = { .host = u->settings->host,
			    .worker = name,
			    .pid = getpid(),
			    .boot_id = a->boot_id,
			    .since_wall_usec = a->since_wall_usec,
			    .state = MESSAGE_IDLE,
			    .role = MESSAGE_ROLE_UPDATE },
	};
	auto_free char *text = NULL;
	struct err e = { 0 };
	size_t n;

	/* 0 is no eval worker: update workers of before knew nothing of roles. */
	snprintf(name, sizeof(name), "%s/0", u->settings->host);
	if (time_parse(a->answer, &m.worker.at_wall_usec) < 0 ||
	    message_encode(&m, &text, &n, &e) < 0) {
		log_err("no ticks, so nobody is ever lost: %s", e.msg);
		a->next_tick = time_mono_usec() + FAILED_USEC;
		return false;
	}
	if (!outlet_tick(u->outlet, message_key(key, &m), text, n))
		return false;
	a->next_tick = time_mono_usec() + TICK_USEC;
	return true;
}

/* --- what lost workers hold ------------------------------------------------------------------ */

static void tell(const struct worker_lost *l)
{
	const struct log_ctx ctx = { .evaluation = l->evaluation, .attempt_id = l->attempt_id };
	char next[48] = "";

	if (l->again)
		snprintf(next, sizeof(next), ", attempt %d will follow", l->again);
	log_ctx(&ctx, LOG_NOTICE, "evaluation %s: attempt %d is lost, %s%s", l->evaluation,
		l->attempt, l->detail, next);
}

void audit_ended(struct update *u, const struct db_outcome *o)
{
	auto_buf struct buf again = { 0 };
	bool ended = false;

	for (int i = 0; i < db_rows_n(o->rows[0]); i++) {
		struct worker_lost l;

		workers_lost(o->rows[0], i, &l);
		tell(&l);
		ended |= l.ended;
		if (l.again)
			(void)!buf_fmt(&again, "%c%s", again.len ? ',' : '{', l.evaluation);
	}
	if (ended)
		update_changed(u, true, false);
	/* What is left out for want of memory is swept. */
	if (again.len && buf_str(&again, "}") == 0)
		outlet_again(u->outlet, again.data);
}

static void on_looked(void *user, const struct db_outcome *o)
{
	struct audit *a = user;

	a->looking = false;
	if (o->class == DB_OK) {
		audit_ended(a->update, o);
		return;
	}
	a->next_look = time_mono_usec() + FAILED_USEC;
	(void)update_failed(a->update, "look for lost workers", o);
}

static void look(struct audit *a)
{
	const struct settings *s = a->update->settings;
	/* Without a pause: there was one already, of a whole lease. */
	const struct event_policy policy = {
		.infrastructure_retries = s->infrastructure_retries,
	};
	/* As long as a broker needs to notice, and then some. */
	uint64_t patience_usec = 4 * s->amqp_heartbeat_usec;
	struct db_args args = { 0 };

	if (a->looking || time_mono_usec() < a->next_look)
		return;
	a->next_look = time_mono_usec() + TICK_USEC;
	workers_audit_args(&args, patience_usec > PATIENCE_MIN ? patience_usec : PATIENCE_MIN,
			   &policy);
	a->looking =
		db_pipe_send(a->update->work, &workers_audit_stmt, &args, on_looked, a, NULL) == 0;
}

/* --- every process --------------------------------------------------------------------------- */

static void on_answer(void *user, const struct db_outcome *o)
{
	struct audit *a = user;

	a->asking = false;
	if (o->class != DB_OK) {
		a->answered_usec = 0;
		(void)update_failed(a->update, "say that events are taken", o);
		return;
	}
	snprintf(a->answer, sizeof(a->answer), "%s", db_text(o->rows[0], 0, 0));
	a->answered_usec = time_mono_usec();
	if (!leads(a))
		return;
	/* The answer is from before this moment, and so is the time in the tick. The next answer finds it
	 * back: that is when to look. */
	if (a->answered_usec < a->next_tick || !send_tick(a))
		look(a);
}

/* What this process knows is only good for the time of an earlier answer: the database takes this one
 * later than it is sent. */
static void say(struct audit *a)
{
	const struct update *u = a->update;
	struct db_args args = { 0 };
	bool clear = a->answered_usec && time_mono_usec() < a->answered_usec + AWAKE_USEC &&
		     intake_is_clear(u->intake, a->answered_usec);

	db_arg_text(&args, leader_name(u->leader));
	db_arg_text(&args, clear ? a->answer : NULL);
	a->asking = db_pipe_send(u->work, &workers_listen_stmt, &args, on_answer, a, NULL) == 0;
}

static void on_timer(void *user)
{
	struct audit *a = user;
	const struct update *u = a->update;

	loop_timer_set(a->timer, LISTEN_USEC);
	if (!a->asking && !u->draining && db_pipe_up(u->work) && intake_has_schema(u->intake))
		say(a);
}

int audit_new(struct update *u, struct audit **ret, struct err *e)
{
	struct audit *a = calloc(1, sizeof(*a));
	int r;

	if (!a)
		return err_nomem(e);
	a->update = u;
	a->since_wall_usec = time_wall_usec();
	r = id_boot(a->boot_id, e);
	if (r == 0)
		r = loop_timer(u->loop, LISTEN_USEC, on_timer, a, &a->timer, e);
	if (r < 0) {
		audit_free(a);
		return r;
	}
	*ret = a;
	return 0;
}

void audit_free(struct audit *a)
{
	if (!a)
		return;
	loop_src_free(a->timer);
	free(a);
}

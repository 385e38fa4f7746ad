/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Pairs of folders in which messages are pairs of files, zr-channel(7), dialect pike. A pair that
 * asks for an evaluation stays where it is until there is a place for it; then it becomes a task: its
 * code is written, a record of it is kept (piketask.h), the pair is deleted, and the worker gets a
 * request for the evaluator `pike` with the task's words as its arguments. The terminal event becomes
 * the answer: its text is written into the output folder, the event goes into the stash, and when
 * that is on disk the word that the answer is there follows. Whatever is killed in between, the next
 * worker finds the record and goes on; a record ends with its answer, so that there is one.
 *
 * Handshakes and the word to close are answered when they are seen, whatever else goes on
 * (pikeside.h).
 */
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <syslog.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/pyjson.h"
#include "base/str.h"
#include "messaging/channel.h"
#include "messaging/dirfile.h"
#include "messaging/dirwatch.h"
#include "messaging/pikeclean.h"
#include "messaging/pikefile.h"
#include "messaging/pikelines.h"
#include "messaging/pikesides.h"
#include "messaging/piketask.h"
#include "messaging/stash.h"
#include "messaging/tellings.h"

#define CLOSED_FILE "../closed" /* seen from the records */
/* Whoever asked so long ago may have gone. */
#define OLD_USEC (3600 * USEC_PER_SEC)

struct channel_request {
	TAILQ_ENTRY(channel_request) entry;
	struct pike *c;
	struct piketask *task; /* NULL: answered meanwhile */
};

struct pike {
	struct channel channel;
	struct loop *loop;
	const struct channel_ops *ops;
	void *user;
	const struct settings *settings;
	const struct pike_conf *conf;
	unsigned worker;

	struct pikesides sides;
	struct pikedirs dirs;
	struct dirwatch *watch;
	uint64_t cursor;

	struct piketask_list tasks; /* not answered */
	TAILQ_HEAD(, channel_request) requests;
	struct tellings tellings;
	struct pikelines lines;
	uint64_t next_n, started_wall_usec;
	unsigned want;

	struct loop_src *leaving;
	bool up, close_said, undelivered;
	void (*left)(void *user);
	void *left_user;
};

printf_like(3, 4) static void report(const struct pike *p, int level, const char *fmt, ...)
{
	char text[640];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (p->ops->on_report)
		p->ops->on_report(p->user, level, text);
}

/* --- closing ------------------------------------------------------------------------------- */

static bool owes(const struct pike *p, const struct pikeside *s)
{
	const struct piketask *t;

	TAILQ_FOREACH (t, &p->tasks, entry)
		if (t->side == s)
			return true;
	return false;
}

static bool is_done(const struct pike *p, const struct pikeside *s)
{
	return s->closing && TAILQ_EMPTY(&s->pairs.queue) && !owes(p, s);
}

/* When all drivers have closed the worker ends. */
static void check_closed(struct pike *p)
{
	bool all = true, changed = false;
	struct err e = { 0 };

	if (p->close_said)
		return;
	for (size_t i = 0; i < p->sides.n; i++) {
		struct pikeside *s = p->sides.side[i];

		if (!s->input)
			continue;
		s->closed = is_done(p, s);
		all = all && s->closed;
		changed = changed || s->closed != s->marked;
		if (s->closed)
			loop_timer_set(s->drain, USEC_INFINITY);
	}
	if (changed && pikesides_write_mark(&p->sides, p->dirs.tasks, CLOSED_FILE, &e) < 0)
		report(p, LOG_WARNING, "%s", e.msg);
	p->close_said = all;
	if (all)
		p->ops->on_close(p->user);
}

static void on_side_close(void *user, struct pikeside *s)
{
	const struct pike *p = user;

	loop_timer_set(s->drain, p->conf->drain_usec);
}

/* Nobody waits for ever: what has not begun is answered so, what runs is ended. */
static void on_drain(void *user)
{
	struct pikeside *s = user;
	struct pike *p = s->user;
	struct piketask *t;

	loop_timer_set(s->drain, USEC_PER_SEC);
	pikeside_refuse_all(s, "the worker was closed before it began");
	TAILQ_FOREACH (t, &p->tasks, entry)
		if (t->side == s)
			p->ops->on_control(
				p->user, &(struct message){
						 .type = MESSAGE_CONTROL,
						 .control = { .kind = MESSAGE_CANCEL,
							      .evaluation = t->evaluation,
							      .by = "close",
							      .at_wall_usec = time_wall_usec() } });
	check_closed(p);
}

/* --- tasks --------------------------------------------------------------------------------- */

static struct piketask *find_task(struct pike *p, const char *evaluation)
{
	struct piketask *t;

	TAILQ_FOREACH (t, &p->tasks, entry)
		if (str_eq(t->evaluation, evaluation))
			return t;
	return NULL;
}

static uint64_t free_number(struct pike *p)
{
	const struct piketask *t;

	do {
		TAILQ_FOREACH (t, &p->tasks, entry)
			if (t->n == p->next_n)
				break;
		p->next_n++;
	} while (t);
	return p->next_n - 1;
}

static void hand_out(struct pike *p, struct piketask *t, bool redelivered)
{
	struct channel_request *q = calloc(1, sizeof(*q));
	json_auto_t *args = json_pack("[s, s, s, s]", t->level, t->task, "", t->mode);
	char number[24];
	const struct message m = { .type = MESSAGE_REQUEST,
				   .request = { .id = t->request,
						.evaluation = t->evaluation,
						.submission = "pike",
						.digest = PIKE_DIGEST,
						.source = "incoming:",
						.evaluator = PIKE_EVALUATOR,
						.args = args,
						.attempt = 1,
						.created_wall_usec = t->asked_wall_usec } };

	snprintf(number, sizeof(number), "%llu", (unsigned long long)t->n);
	if (!q || !args || json_array_set_new(args, 2, json_string(number)) < 0) {
		free(q);
		return;
	}
	*q = (struct channel_request){ .c = p, .task = t };
	TAILQ_INSERT_TAIL(&p->requests, q, entry);
	t->handed_out = true;
	p->want--;
	p->ops->on_request(p->user, q, &m, redelivered);
}

/* Tasks that were accepted and have no job. */
static void take_again(struct pike *p)
{
	struct piketask *t, *next;

	for (t = TAILQ_FIRST(&p->tasks); t && p->want; t = next) {
		next = TAILQ_NEXT(t, entry);
		if (t->state == PIKE_REQ && !t->handed_out)
			hand_out(p, t, true);
	}
}

static unsigned count_tasks(const struct pike *p)
{
	const struct piketask *t;
	unsigned n = 0;

	TAILQ_FOREACH (t, &p->tasks, entry)
		n++;
	return n;
}

/* From here on it is ours: the record, then the end of the pair. */
static int accept_task(struct pike *p, struct pikeside *s, struct pair *a, struct piketask *t,
		       const struct buf *code, struct err *e)
{
	int r;

	t->n = free_number(p);
	t->side = s;
	t->output = strdup(s->output);
	if (!t->output)
		return err_nomem(e);
	r = pikedirs_check(&p->dirs, e);
	if (r == 0)
		r = piketask_accept(&p->dirs, t, code, e);
	if (r < 0) {
		piketask_forget(&p->dirs, t, false);
		p->next_n = t->n;
		return r;
	}
	FAILPOINT("pike.accepted");
	TAILQ_INSERT_TAIL(&p->tasks, t, entry);
	pikeside_finish(s, a);
	FAILPOINT("pike.removed");
	pikelines_received(&p->lines, t->id, t->n, count_tasks(p));
	hand_out(p, t, false);
	return 0;
}

/* By the clock of whoever asked: one that is ahead makes it new. */
static int check_age(const struct pike *p, const struct pair *a, uint64_t at, struct err *e)
{
	uint64_t now = time_wall_usec(), age = now > at ? now - at : 0;

	if (at < p->started_wall_usec || age > OLD_USEC)
		report(p, LOG_NOTICE, "task %s %s: it is %llu s old", STR_ESC(a->stem),
		       at < p->started_wall_usec ? "was left from before this worker's start"
						 : "has waited for long",
		       (unsigned long long)(age / USEC_PER_SEC));
	if (!p->conf->age_max_usec || age <= p->conf->age_max_usec)
		return 0;
	return err_input(e, "it is %llu s old, and this worker runs nothing older than %llu s",
			 (unsigned long long)(age / USEC_PER_SEC),
			 (unsigned long long)(p->conf->age_max_usec / USEC_PER_SEC));
}

static void take_pair(struct pike *p, struct pikeside *s, struct pair *a)
{
	uint64_t at = (uint64_t)a->mtime.tv_sec * USEC_PER_SEC + (uint64_t)a->mtime.tv_nsec / 1000;
	auto_buf struct buf b = { 0 }, code = { 0 };
	auto_obj(piketask) t = NULL;
	struct pj m = { 0 }, id = { 0 };
	struct err e = { 0 };
	int r = pikefile_read(s->in, a->stem, &b, &e);

	if (r == 0)
		r = pj_check(b.data ? b.data : "", b.len, &m, &e);
	/* Somebody else has been here. */
	if (r == -ENOENT || r == -EINVAL || r == -EILSEQ) {
		pikepairs_drop(&s->pairs, a);
		return;
	}
	if (r == 0)
		r = check_age(p, a, at, &e);
	if (r == 0)
		r = piketask_read(m, a->stem, at, &t, &code, &e);
	if (r == -EINVAL && pj_member(m, "id", &id)) {
		pikeside_refuse(s, a, id, e.msg);
		return;
	}
	if (r == 0 && accept_task(p, s, a, t, &code, &e) == 0) {
		t = NULL;
		return;
	}
	report(p, LOG_WARNING, "tasks wait: %s; trying again", e.msg);
	s->stalled = true;
}

static void take_all(struct pike *p, bool scan)
{
	struct pikeside *s;

	if (scan)
		take_again(p);
	while (p->up && p->want && (s = pikesides_next(&p->sides)))
		take_pair(p, s, TAILQ_FIRST(&s->pairs.queue));
}

/* --- settling ------------------------------------------------------------------------------ */

static void request_free(struct channel_request *q)
{
	TAILQ_REMOVE(&q->c->requests, q, entry);
	free(q);
}

static bool holds(unused_arg const struct channel *c, const struct channel_request *q)
{
	return q->task != NULL;
}

static int settle_ack(struct channel *c, struct channel_request *q)
{
	struct pike *p = (struct pike *)c;
	struct err e = { 0 };
	int r = q->task && q->task->state == PIKE_REQ
			? piketask_set_state(&p->dirs, q->task, PIKE_RUN, &e)
			: 0;

	if (r < 0)
		report(p, LOG_WARNING, "%s", e.msg);
	request_free(q);
	return r;
}

static int settle_back(unused_arg struct channel *c, struct channel_request *q)
{
	if (q->task)
		q->task->handed_out = false;
	request_free(q);
	return 0;
}

static void task_end(struct pike *p, struct piketask *t)
{
	struct channel_request *q;

	TAILQ_FOREACH (q, &p->requests, entry)
		if (q->task == t)
			q->task = NULL;
	piketask_forget(&p->dirs, t, p->conf->keep_files);
	TAILQ_REMOVE(&p->tasks, t, entry);
	piketask_free(t);
	check_closed(p);
}

static int settle_dead(struct channel *c, struct channel_request *q, unused_arg const char *reason,
		       const char *detail)
{
	struct pike *p = (struct pike *)c;
	auto_buf struct buf b = { 0 };
	struct piketask *t = q->task;
	int r = t ? piketask_refusal((struct pj){ t->id, strlen(t->id) }, detail, &b) : 0;

	if (t && r == 0)
		r = pikeside_answer(t->side, b.data, b.len, NULL);
	request_free(q);
	if (t && r == 0) {
		pikelines_completed(&p->lines, t->id, 0);
		task_end(p, t);
	}
	return r;
}

/* --- the end of a task --------------------------------------------------------------------- */

/* 1: an answer of `evaluation` is written and not said yet. */
static int write_answer(struct pike *p, const json_t *event, struct err *e)
{
	const json_t *body = json_object_get(event, "body");
	struct pikeend end = {
		.attempt_id = json_string_value(json_object_get(event, "attempt_id")),
		.reason = json_string_value(json_object_get(body, "reason")),
		.detail = json_string_value(json_object_get(body, "detail")),
	};
	struct piketask *t = find_task(p, json_string_value(json_object_get(event, "evaluation")));
	auto_buf struct buf b = { 0 };
	int r;

	if (!t || t->state == PIKE_ANSWERED)
		return 0;
	if (t->side->closing && str_eq(end.reason, "canceled"))
		end.detail = "the worker was closed before it was done";
	/* The output of a task is at its path, also where the folder is another one by now. */
	(void)!pikedirs_check_output(&p->dirs, NULL);
	r = piketask_answer(&p->dirs, t, &end, &b, e);
	return r < 0 ? r : pikefile_write(t->side->out, t->out, b.data, b.len, e);
}

static int send_event(struct channel *c, const char *key, const char *id, const void *body,
		      size_t n, bool durable, uint64_t *ret_id, struct err *e)
{
	struct pike *p = (struct pike *)c;
	json_auto_t *event = NULL;
	int r;

	if (!durable || !message_key_is_end(key))
		return 0;
	r = js_parse(body, n, MESSAGE_DEPTH, &event, e);
	if (r == 0)
		r = write_answer(p, event, e);
	FAILPOINT("pike.written");
	return r < 0 ? r : stash_event(p->channel.stash, key, id, body, n, ret_id, e);
}

static void forget_sealed(struct pike *p, const json_t *event)
{
	const struct message m = {
		.type = MESSAGE_CONTROL,
		.control = { .kind = MESSAGE_RELEASE,
			     .evaluation = json_string_value(json_object_get(event, "evaluation")),
			     .attempt_id = json_string_value(json_object_get(event, "attempt_id")),
			     .at_wall_usec = time_wall_usec() },
	};

	p->ops->on_control(p->user, &m);
}

/* Says that the answer is there. Whoever goes on after a crash in the middle says it, too. */
static int say(struct pike *p, struct piketask *t, struct err *e)
{
	int r = t->state == PIKE_ANSWERED ? 0 : piketask_set_state(&p->dirs, t, PIKE_ANSWERED, e);

	FAILPOINT("pike.answered");
	if (r == 0)
		r = pikefile_say(t->side->out, t->out, e);
	FAILPOINT("pike.said");
	if (r == 0)
		task_end(p, t);
	return r;
}

static int say_end(struct pike *p, struct piketask *t, const json_t *body, struct err *e)
{
	const json_t *usage = json_object_get(body, "usage");
	auto_free char *id = strdup(t->id);
	int r = id ? say(p, t, e) : err_nomem(e);

	if (r < 0)
		return r;
	if (str_eq(json_string_value(json_object_get(body, "reason")), "wall-limit"))
		pikelines_timed_out(&p->lines, id);
	pikelines_completed(&p->lines, id,
			    (uint64_t)json_integer_value(json_object_get(usage, "wall_usec")));
	return 0;
}

static int deliver(struct pike *p, const struct stash_record *rec, struct err *e)
{
	json_auto_t *event = NULL;
	struct piketask *t = NULL;
	int r;

	if (!rec->key || js_parse(rec->body, rec->n, MESSAGE_DEPTH, &event, NULL) < 0)
		return 0;
	t = find_task(p, json_string_value(json_object_get(event, "evaluation")));
	r = t ? say_end(p, t, json_object_get(event, "body"), e) : 0;
	if (r == 0)
		forget_sealed(p, event);
	return r;
}

/* One that cannot be told now keeps the others from nothing: they may be of another folder. */
static void pump(struct pike *p)
{
	struct stash_record rec;
	struct err e = { 0 };
	uint64_t id;
	int r;

	while (p->up) {
		id = p->cursor;
		r = stash_next(p->channel.stash, &id, &rec, &e);
		if (r == 1 && deliver(p, &rec, &e) < 0) {
			p->undelivered = true;
			p->cursor = id;
			report(p, LOG_WARNING, "an answer waits: %s; trying again", e.msg);
			continue;
		}
		if (r < 0)
			report(p, LOG_WARNING, "answers wait: %s; trying again", e.msg);
		if (r != 1)
			return;
		p->cursor = id;
		stash_drop(p->channel.stash, id);
		if (p->ops->on_confirmed)
			p->ops->on_confirmed(p->user, id);
	}
}

static void on_durable(void *user, uint64_t id)
{
	struct pike *p = user;

	p->ops->on_durable(p->user, id);
	pump(p);
}

/* --- looking ------------------------------------------------------------------------------- */

/* True: it is there. */
static bool look_at(struct pike *p, struct pikeside *s, struct err *e)
{
	bool was_up = s->up;

	s->up = pikeside_look(s, p->watch, e) == 0;
	if (!s->up && was_up)
		report(p, LOG_WARNING, "%s: the other folders are served", e->msg);
	return s->up;
}

/* --- the end of the worker's own folder ------------------------------------------------------ */

static bool records_are_gone(const struct pike *p)
{
	struct stat st;

	return fstat(p->dirs.tasks, &st) < 0 || st.st_nlink == 0;
}

/* A task, or whoever cleans up, has removed it. With the records went what a next worker would know. */
static void give_all_up(struct pike *p)
{
	static const char why[] = "the worker's own folder below scratch was removed";
	struct piketask *t;
	struct err e = { 0 };

	TAILQ_FOREACH (t, &p->tasks, entry)
		if (t->side && t->side->out >= 0)
			(void)!pikeside_give_up(t->side, t, why, &e);
	p->ops->on_lost(p->user, why);
}

static void look(struct pike *p, bool scan)
{
	bool was_up = p->up;
	uint64_t next = USEC_INFINITY;
	struct err e = { 0 }, why = { 0 };

	p->up = false;
	for (size_t i = 0; i < p->sides.n; i++) {
		struct pikeside *s = p->sides.side[i];
		uint64_t after = pikepairs_due(&s->pairs, scan);
		bool up;

		/* It is somebody else's, and would be made anew. */
		if (!s->input && !owes(p, s))
			continue;
		up = after ? s->up : look_at(p, s, &e);
		if (after && after < next)
			next = after;
		if (!up && s->input)
			why = e;
		p->up = p->up || (up && s->input);
	}
	if (next != USEC_INFINITY)
		dirwatch_later(p->watch, next);
	if (p->up != was_up || !p->up)
		p->ops->on_state(p->user, p->up, p->up ? NULL : &why);
}

static void on_look(void *user, enum dirwatch_why why)
{
	struct pike *p = user;
	bool scan = why == DIRWATCH_SCAN;

	if (scan && records_are_gone(p)) {
		give_all_up(p);
		return;
	}
	if (why != DIRWATCH_SOON)
		look(p, scan);
	if (!p->up)
		return;
	if (scan && p->undelivered) {
		p->undelivered = false;
		p->cursor = 0;
	}
	if (scan)
		pump(p);
	for (size_t i = 0; i < p->sides.n; i++) {
		struct pikeside *s = p->sides.side[i];

		s->stalled = s->stalled && !scan;
		if (s->up && pikeside_examine(s, p->conf->grace_usec, scan))
			dirwatch_soon(p->watch);
	}
	take_all(p, scan);
	check_closed(p);
}

static void set_want(struct channel *c, unsigned n)
{
	struct pike *p = (struct pike *)c;

	p->want = p->left ? 0 : n;
	if (p->want && p->up)
		dirwatch_soon(p->watch);
}

static bool is_idle(const struct channel *c)
{
	return TAILQ_EMPTY(&((const struct pike *)c)->requests);
}

/* --- the rest of the interface ------------------------------------------------------------- */

/* Nobody else takes work from here: the lease is the worker's own. */
static int tell(struct channel *c, unused_arg const char *key, unused_arg const char *id,
		unused_arg const void *body, unused_arg size_t n, channel_told_fn told, void *user,
		struct err *e)
{
	return tellings_add(&((struct pike *)c)->tellings, told, user, e);
}

static void on_leaving(void *user)
{
	struct pike *p = user;

	pikelines_end(&p->lines);
	p->left(p->left_user);
}

static void close_channel(struct channel *c, void (*done)(void *user), void *user)
{
	struct pike *p = (struct pike *)c;

	if (p->left)
		return;
	p->want = 0;
	p->left = done;
	p->left_user = user;
	loop_defer_arm(p->leaving);
}

static void pike_free(struct channel *c)
{
	struct pike *p = (struct pike *)c;
	struct channel_request *q;
	struct piketask *t;

	tellings_done(&p->tellings);
	p->up = false;
	stash_free(p->channel.stash);
	while ((q = TAILQ_FIRST(&p->requests)))
		request_free(q);
	while ((t = TAILQ_FIRST(&p->tasks))) {
		TAILQ_REMOVE(&p->tasks, t, entry);
		piketask_free(t);
	}
	pikesides_done(&p->sides);
	dirwatch_free(p->watch);
	loop_src_free(p->leaving);
	pikedirs_done(&p->dirs);
	free(p);
}

static const struct channel_type pike_type = {
	.name = "pike",
	.free = pike_free,
	.close = close_channel,
	.want = set_want,
	.holds = holds,
	.ack = settle_ack,
	.dead = settle_dead,
	.give_back = settle_back,
	.event = send_event,
	.tell = tell,
	.is_idle = is_idle,
};

/* --- what a former worker left ------------------------------------------------------------- */

static int load_task(struct pike *p, const char *name, struct err *e)
{
	auto_obj(piketask) t = NULL;
	struct err why = { 0 };
	int r;

	if (piketask_load(&p->dirs, name, &t, &why) < 0) {
		report(p, LOG_WARNING, "%s", why.msg);
		return 0;
	}
	r = pikesides_of(&p->sides, t->output, &t->side, e);
	if (r < 0)
		return r;
	/* The pair of a record is of no use; it may have been on its way to the end. */
	if (t->side->in >= 0)
		(void)pikefile_remove(t->side->in, t->stem, NULL);
	TAILQ_INSERT_TAIL(&p->tasks, t, entry);
	t = NULL;
	return 0;
}

static int load_tasks(struct pike *p, struct err *e)
{
	auto_strv char **names = NULL;
	int r = dirfile_list(p->dirs.tasks, "", &names, e);

	for (char **n = names; n && *n && r == 0; n++)
		r = load_task(p, *n, e);
	return r;
}

/* Answers whose text is there were not taken yet, so that the word may have been missing. */
static void finish_answers(struct pike *p)
{
	struct piketask *t, *next;
	struct err e = { 0 };

	for (t = TAILQ_FIRST(&p->tasks); t; t = next) {
		auto_buf struct buf b = { 0 };

		next = TAILQ_NEXT(t, entry);
		if (t->state != PIKE_ANSWERED || !t->side->up)
			continue;
		if (pikefile_read(t->side->out, t->out, &b, NULL) == -ENOENT)
			task_end(p, t);
		else if (say(p, t, &e) < 0)
			report(p, LOG_WARNING, "an answer waits: %s", e.msg);
	}
}

static int take_over(struct pike *p, struct err *e)
{
	auto_buf struct buf mark = { 0 };
	int r = load_tasks(p, e);

	if (r < 0)
		return r;
	pikesides_take_mark(p->dirs.tasks, CLOSED_FILE, &mark);
	finish_answers(p);
	pikeclean_scratch(&p->dirs, &p->tasks, p->conf->keep_files);
	p->next_n = p->conf->keep_files ? pikeclean_next_number(&p->dirs) : 0;
	for (size_t i = 0; i < p->sides.n && r == 0; i++)
		if (p->sides.side[i]->input)
			r = pikeclean_output(p->sides.side[i]->out, &p->tasks,
					     !pikesides_is_marked(&mark, p->sides.side[i]), e);
	return r;
}

/* --- opening ------------------------------------------------------------------------------- */

static void on_side_report(void *user, int level, const char *text)
{
	report(user, level, "%s", text);
}

static const struct pikeside_ops side_ops = {
	.on_close = on_side_close,
	.on_report = on_side_report,
};

static void on_warning(void *user, const char *text)
{
	report(user, LOG_WARNING, "%s", text);
}

static bool on_note(void *user, uint64_t id, const char *name, const void *body, size_t n)
{
	struct pike *p = user;

	return p->ops->on_kept && p->ops->on_kept(p->user, id, name, body, n);
}

static const struct stash_ops stash_calls = {
	.on_durable = on_durable,
	.on_warning = on_warning,
	.on_note = on_note,
};

static int open_stash(struct pike *p, uint64_t bytes_max, struct err *e)
{
	auto_free char *path = NULL;
	int r = stash_path(p->settings->state_dir, p->worker, &path, e);

	return r < 0 ? r
		     : stash_open(p->loop, path, bytes_max, &stash_calls, p, &p->channel.stash, e);
}

static int open_all(struct pike *p, uint64_t spool_max, struct err *e)
{
	bool notify = str_eq(p->settings->channel_watch, "inotify");
	int r = tellings_init(&p->tellings, p->loop, e);

	if (r == 0)
		r = loop_defer(p->loop, on_leaving, p, &p->leaving, e);
	if (r == 0)
		r = pikesides_open(&p->sides, p->conf, e);
	if (r == 0)
		r = pikedirs_open(p->conf->scratch, p->settings->state_dir, &p->dirs, e);
	p->dirs.own_locks = p->conf->own_locks;
	/* Before anything is touched that another worker may own. */
	if (r == 0)
		r = open_stash(p, spool_max, e);
	if (r == 0)
		pikelines_begin(&p->lines);
	if (r == 0)
		r = take_over(p, e);
	if (r == 0)
		r = dirwatch_new(p->loop, p->settings->channel_scan_usec, notify, on_look, p,
				 &p->watch, e);
	for (size_t i = 0; i < p->sides.n && r == 0; i++)
		if (p->sides.side[i]->input && dirwatch_add(p->watch, p->sides.side[i]->in, e) < 0)
			report(p, LOG_WARNING, "%s: looking every channel_scan only", e->msg);
	return r;
}

int channel_pike_new(struct loop *l, const struct channel_conf *conf, const struct channel_ops *ops,
		     void *user, struct channel **ret, struct err *e)
{
	struct pike *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return err_nomem(e);
	*p = (struct pike){ .channel = { &pike_type },
			    .loop = l,
			    .ops = ops,
			    .user = user,
			    .settings = conf->settings,
			    .conf = conf->pike,
			    .worker = conf->worker,
			    .started_wall_usec = time_wall_usec(),
			    .sides = { .loop = l,
				       .ops = &side_ops,
				       .user = p,
				       .lines = &p->lines,
				       .on_drain = on_drain },
			    .lines = { .line = ops->on_line, .user = user },
			    .dirs = PIKEDIRS_NONE };
	TAILQ_INIT(&p->tasks);
	TAILQ_INIT(&p->requests);
	r = open_all(p, conf->spool_max, e);
	if (r == -EACCES || r == -EPERM || r == -ENOTDIR || r == -EROFS)
		e->kind = ERR_INPUT;
	if (r < 0) {
		pike_free(&p->channel);
		return r;
	}
	*ret = &p->channel;
	return 0;
}

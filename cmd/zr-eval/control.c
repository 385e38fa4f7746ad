/* SPDX-License-Identifier: MIT */
#include "control.h"

#include <search.h>
#include <string.h>

#include "base/failpoint.h"
#include "base/id.h"
#include "base/log.h"
#include "base/str.h"
#include "job.h"

/* Older cancels are forgotten first; a canceled request that waits longer than this many cancels is
 * begun, and ended by the database's own record of the cancel. */
#define CANCELS_MAX 10000
/* A collected result that could not be removed is tried again after this. */
#define AGAIN_USEC USEC_PER_SEC

struct cancel {
	TAILQ_ENTRY(cancel) entry;
	char evaluation[ID_MAX + 1];
	char by[ID_MAX + 1];
	uint64_t at_wall_usec;
};

struct control {
	struct eval *ev;
	void *tree;                 /* of struct cancel, by evaluation: tsearch(3) */
	TAILQ_HEAD(, cancel) order; /* oldest first */
	size_t n;
	char **owed; /* attempts whose results are still to be removed */
	struct loop_src *again;
};

static int compare(const void *a, const void *b)
{
	return strcmp(((const struct cancel *)a)->evaluation,
		      ((const struct cancel *)b)->evaluation);
}

static void forget(struct control *c, struct cancel *k)
{
	tdelete(k, &c->tree, compare);
	TAILQ_REMOVE(&c->order, k, entry);
	free(k);
	c->n--;
}

static void remember(struct control *c, const struct message_control *m)
{
	struct cancel *k = calloc(1, sizeof(*k)), **found;

	if (!k)
		return;
	snprintf(k->evaluation, sizeof(k->evaluation), "%s", m->evaluation);
	snprintf(k->by, sizeof(k->by), "%s", m->by ? m->by : "somebody");
	k->at_wall_usec = m->at_wall_usec;
	found = tsearch(k, &c->tree, compare);
	if (!found || *found != k) {
		if (found && (*found)->at_wall_usec < k->at_wall_usec)
			(*found)->at_wall_usec = k->at_wall_usec;
		free(k);
		return;
	}
	TAILQ_INSERT_TAIL(&c->order, k, entry);
	if (++c->n > CANCELS_MAX)
		forget(c, TAILQ_FIRST(&c->order));
}

const char *control_canceled_by(const struct control *c, const char *evaluation,
				uint64_t created_wall_usec)
{
	struct cancel key = { 0 }, *const * found;

	snprintf(key.evaluation, sizeof(key.evaluation), "%s", evaluation);
	found = tfind(&key, &c->tree, compare);
	return found && (*found)->at_wall_usec >= created_wall_usec ? (*found)->by : NULL;
}

static void cancel(struct control *c, const struct message_control *m)
{
	struct job *j = job_find(c->ev, m->evaluation);

	remember(c, m);
	if (!j || (m->attempt_id && !str_eq(m->attempt_id, j->spec->attempt_id)))
		return;
	/* A cancel from before this attempt's claim meant an earlier one. */
	if (!m->attempt_id && m->at_wall_usec < j->requested_wall_usec)
		return;
	job_cancel(j, m->by ? m->by : "somebody");
}

static void remove_result(struct control *c, const char *attempt_id)
{
	struct log_ctx ctx = { .attempt_id = attempt_id };
	struct err e = { 0 };

	if (box_release_sealed(c->ev->settings->state_dir, attempt_id, &e) == 0)
		return;
	log_ctx(&ctx, LOG_WARNING, "collected result cannot be removed: %s", e.msg);
	if (e.kind == ERR_TRANSIENT && strv_add(&c->owed, attempt_id) == 0)
		loop_timer_set(c->again, AGAIN_USEC);
}

static void on_again(void *user)
{
	struct control *c = user;
	auto_strv char **owed = take_ptr(c->owed);

	for (size_t i = 0; owed && owed[i]; i++)
		remove_result(c, owed[i]);
}

static void release(struct control *c, const struct message_control *m)
{
	FAILPOINT("release.sealed");
	if (m->attempt_id)
		remove_result(c, m->attempt_id);
}

void control_message(struct control *c, const struct message *m)
{
	if (m->type != MESSAGE_CONTROL)
		return;
	if (m->control.kind == MESSAGE_CANCEL)
		cancel(c, &m->control);
	else if (m->control.kind == MESSAGE_RELEASE)
		release(c, &m->control);
}

int control_new(struct eval *ev, struct control **ret, struct err *e)
{
	struct control *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return err_nomem(e);
	c->ev = ev;
	TAILQ_INIT(&c->order);
	r = loop_timer(ev->loop, USEC_INFINITY, on_again, c, &c->again, e);
	if (r < 0) {
		control_free(c);
		return r;
	}
	*ret = c;
	return 0;
}

void control_free(struct control *c)
{
	if (!c)
		return;
	while (!TAILQ_EMPTY(&c->order))
		forget(c, TAILQ_FIRST(&c->order));
	strv_free(c->owed);
	loop_src_free(c->again);
	free(c);
}

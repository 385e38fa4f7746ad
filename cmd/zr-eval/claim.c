/* SPDX-License-Identifier: MIT */
#include "claim.h"

#include <string.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "base/id.h"
#include "base/json.h"
#include "base/log.h"
#include "base/str.h"
#include "control.h"
#include "exec/evaluator.h"
#include "gpus.h"
#include "job.h"
#include "ledger.h"
#include "pike.h"
#include "report.h"

/* A request whose answer or claim is on its way to disk. */
struct settling {
	struct eval *ev;
	struct channel_request *token;
};

/* A note that was found, until its box is adopted. */
struct found {
	TAILQ_ENTRY(found) entry;
	uint64_t note;
	char attempt_id[UUID_LEN + 1];
};

static struct log_ctx request_log(const struct message_request *rq)
{
	return (struct log_ctx){ .evaluation = rq->evaluation };
}

static void on_settled(void *user)
{
	struct settling *s = user;
	struct eval *ev = s->ev;

	(void)channel_ack(ev->channel, s->token);
	free(s);
	eval_update_intake(ev);
}

static struct settling *settling_new(struct eval *ev, struct channel_request *token)
{
	struct settling *s = calloc(1, sizeof(*s));

	if (s)
		*s = (struct settling){ .ev = ev, .token = token };
	return s;
}

/* Nothing is wrong with the request: another worker, or this one later, may do better. */
static void give_back(struct eval *ev, struct channel_request *token,
		      const struct message_request *rq, const char *why)
{
	struct log_ctx ctx = request_log(rq);

	log_ctx(&ctx, LOG_WARNING, "evaluation %s goes back to its queue: %s", rq->evaluation, why);
	(void)channel_return(ev->channel, token);
	eval_pause_intake(ev);
}

static void refuse(struct eval *ev, struct channel_request *token, const struct message_request *rq,
		   enum box_reason reason, const char *detail)
{
	struct log_ctx ctx = request_log(rq);
	struct settling *s = settling_new(ev, token);
	struct err e = { 0 };

	log_ctx(&ctx, LOG_NOTICE, "evaluation %s is not begun: %s", rq->evaluation, detail);
	if (!s) {
		give_back(ev, token, rq, "out of memory");
		return;
	}
	if (report_refused(ev, rq, reason, detail, on_settled, s, &e) < 0) {
		free(s);
		give_back(ev, token, rq, e.msg);
	}
}

/* The request's words as a vector. */
static int request_args(const struct message_request *rq, char ***ret, struct err *e)
{
	auto_strv char **args = calloc(1, sizeof(char *));
	const json_t *word;
	size_t i;

	if (!args)
		return err_nomem(e);
	json_array_foreach(rq->args, i, word) if (strv_add(&args, json_string_value(word)) <
						  0) return err_nomem(e);
	*ret = take_ptr(args);
	return 0;
}

static json_t *claim_notes(const struct message_request *rq)
{
	char at[TIME_TEXT_MAX];

	return json_pack("{s:s, s:s, s:{s:s, s:s, s:s}}", "request", rq->id, "requested_at",
			 time_text(at, rq->created_wall_usec), "submission", "id", rq->submission,
			 "digest", rq->digest, "source", rq->source);
}

static int plan(struct eval *ev, const struct message_request *rq, struct box_spec **ret,
		struct err *e)
{
	const struct evaluator *evaluator = NULL;
	auto_obj(evaluator) loaded = NULL;
	char attempt_id[UUID_LEN + 1];
	auto_free char *dir = NULL;
	auto_strv char **args = NULL;
	json_auto_t *notes = claim_notes(rq);
	const struct gpu_list *gpus = NULL;
	struct limits asked = { 0 };
	struct evaluator_job job = {
		.evaluation = rq->evaluation,
		.attempt = rq->attempt,
		.attempt_id = id_uuid7(attempt_id),
		.asked = rq->limits ? &asked : NULL,
		.cgroup = &ev->cgroup,
		.claim = notes,
	};
	int r = notes ? 0 : err_nomem(e);

	if (r == 0 && !ev->pike)
		r = evaluator_load(ev->settings->bin_dir, rq->evaluator, &loaded, e);
	if (r == 0 && !ev->pike)
		r = request_args(rq, &args, e);
	evaluator = ev->pike ? ev->pike->evaluator : loaded;
	if (r == 0 && rq->limits)
		r = limits_from_json(rq->limits, &asked, e);
	if (r == 0 && evaluator->gpus)
		r = gpus_list(ev->gpus, &gpus, e);
	if (r == 0)
		r = fetch_cache_dir(ev->settings, rq->digest, &dir, e);
	if (r < 0)
		return r;
	evaluator_job_settings(&job, ev->settings);
	job.lease_usec = ev->settings->lease_usec;
	job.args = args;
	job.submission = dir;
	job.gpus = gpus;
	r = evaluator_plan(evaluator, &job, ret, e);
	return r == 0 && ev->pike ? pike_command(ev->pike, rq->args, *ret, e) : r;
}

void claim_drop(struct eval *ev, struct box *box, uint64_t note)
{
	struct err e = { 0 };

	if (box_release(box, false, &e) < 0) {
		log_err("a box without a claim stays for the next start: %s", e.msg);
		box_free(box);
	}
	if (note)
		channel_forget(ev->channel, note);
}

/* Its box was made again from the note after a crash of the host, and ends as lost: another attempt follows. */
static bool ends_as_lost(struct eval *ev, const struct message_request *rq)
{
	const struct job *j = job_find(ev, rq->evaluation);

	return j && j->box && !box_is_of_this_boot(j->box) && (int)j->spec->attempt == rq->attempt;
}

void claim_request(struct eval *ev, struct channel_request *token, const struct message *m,
		   bool redelivered)
{
	const struct message_request *rq = &m->request;
	const char *by = control_canceled_by(ev->control, rq->evaluation, rq->created_wall_usec);
	auto_spec spec = NULL;
	auto_free char *detail = NULL;
	struct log_ctx ctx = request_log(rq);
	struct box *box = NULL;
	struct err e = { 0 };
	uint64_t note = 0;
	int r;

	if (redelivered && (ledger_has(ev->ledger, rq->id) || ends_as_lost(ev, rq))) {
		log_ctx(&ctx, LOG_NOTICE,
			"evaluation %s came again after it was claimed here, ignoring",
			rq->evaluation);
		(void)channel_ack(ev->channel, token);
		eval_update_intake(ev);
		return;
	}
	if (by && str_fmt(&detail, "canceled by %s before it started", by) >= 0) {
		refuse(ev, token, rq, BOX_CANCELED, detail);
		return;
	}
	r = plan(ev, rq, &spec, &e);
	if (r < 0 && e.kind != ERR_TRANSIENT) {
		refuse(ev, token, rq, BOX_SETUP, e.msg);
		return;
	}
	if (r == 0)
		r = box_prepare(ev->settings->state_dir, spec, &box, &e);
	if (r < 0 && e.kind != ERR_TRANSIENT) {
		refuse(ev, token, rq, BOX_INFRASTRUCTURE, e.msg);
		return;
	}
	if (r == 0) {
		const char *text = box_claim_text(box);

		FAILPOINT("claim.made");
		r = channel_keep(ev->channel, box_spec(box)->attempt_id, text, strlen(text), &note,
				 &e);
		if (r < 0)
			claim_drop(ev, box, 0);
	}
	if (r == 0) {
		FAILPOINT("claim.kept");
		r = job_take(ev, box, note, token, &e);
		if (r < 0)
			channel_forget(ev->channel, note);
	}
	if (r < 0)
		give_back(ev, token, rq, e.msg);
	else
		eval_intake_is_good(ev);
}

static const char *request_id(const struct box_spec *spec)
{
	const char *id = NULL;

	return js_opt_str(spec->claim, "request", UUID_LEN + 1, &id, NULL) == 1 ? id : NULL;
}

/* The ledger first: with it a lost acknowledgement is harmless, and without it a box that is found at
 * the next start was never acknowledged for this attempt. But not for a request that others have: they
 * would take it for done. */
bool claim_settle(struct eval *ev, const struct box_spec *spec, struct channel_request *token)
{
	struct log_ctx ctx = { .evaluation = spec->evaluation, .attempt_id = spec->attempt_id };
	const char *id = request_id(spec);
	struct err e = { 0 };

	FAILPOINT("claim.told");
	if (!channel_holds(ev->channel, token)) {
		(void)channel_return(ev->channel, token);
		return false;
	}
	if (id && ledger_add(ev->ledger, id, spec->attempt_id, &e) < 0)
		log_ctx(&ctx, LOG_WARNING, "%s, ignoring", e.msg);
	FAILPOINT("claim.ack");
	(void)channel_ack(ev->channel, token);
	FAILPOINT("claim.acked");
	return true;
}

int claim_adopt(struct eval *ev, struct box *box, uint64_t note, struct err *e)
{
	const struct box_spec *spec = box_spec(box);

	/* After a crash of the host its notes say what it had: this one was not begun, or its end was told. */
	if (!note && !box_is_of_this_boot(box)) {
		claim_drop(ev, box, 0);
		return 0;
	}
	if (box_state(box) != BOX_NEW || !request_id(spec) ||
	    ledger_has(ev->ledger, spec->attempt_id))
		return job_take(ev, box, note, NULL, e);
	claim_drop(ev, box, note);
	return 0;
}

/* --- after a restart ------------------------------------------------------------------------ */

bool claim_found(struct eval *ev, uint64_t note, const char *attempt_id, const void *text, size_t n)
{
	struct log_ctx ctx = { .attempt_id = attempt_id };
	struct found *f;
	struct err e = { 0 };
	int r = box_restore(ev->settings->state_dir, text, n, &e);

	if (r < 0)
		log_ctx(&ctx, LOG_ERR, "a claim cannot be looked into: %s", e.msg);
	if (r <= 0)
		return r < 0;
	f = calloc(1, sizeof(*f));
	/* Without it the note stays until the next start. */
	if (!f)
		return true;
	f->note = note;
	snprintf(f->attempt_id, sizeof(f->attempt_id), "%s", attempt_id);
	TAILQ_INSERT_TAIL(&ev->found, f, entry);
	return true;
}

uint64_t claim_note_of(struct eval *ev, const char *attempt_id)
{
	struct found *f;
	uint64_t note = 0;

	TAILQ_FOREACH (f, &ev->found, entry)
		if (str_eq(f->attempt_id, attempt_id))
			break;
	if (!f)
		return 0;
	note = f->note;
	TAILQ_REMOVE(&ev->found, f, entry);
	free(f);
	return note;
}

static bool box_is_there(const struct eval *ev, const char *attempt_id)
{
	auto_free char *path = NULL;

	return str_fmt(&path, "%s/spool/boxes/%s", ev->settings->state_dir, attempt_id) < 0 ||
	       access(path, F_OK) == 0;
}

void claim_sweep(struct eval *ev)
{
	struct found *f, *next;

	for (f = TAILQ_FIRST(&ev->found); f; f = next) {
		next = TAILQ_NEXT(f, entry);
		if (box_is_there(ev, f->attempt_id))
			continue;
		channel_forget(ev->channel, f->note);
		TAILQ_REMOVE(&ev->found, f, entry);
		free(f);
	}
}

void claim_done(struct eval *ev)
{
	struct found *f;

	while ((f = TAILQ_FIRST(&ev->found))) {
		TAILQ_REMOVE(&ev->found, f, entry);
		free(f);
	}
}

/* SPDX-License-Identifier: MIT */
#include "claim.h"

#include <string.h>

#include "base/id.h"
#include "base/json.h"
#include "base/log.h"
#include "base/str.h"
#include "control.h"
#include "exec/evaluator.h"
#include "job.h"
#include "ledger.h"
#include "report.h"

/* A request that is answered without a box, until the answer is on disk. */
struct refusal {
	struct eval *ev;
	struct channel_request *token;
};

static struct log_ctx request_log(const struct message_request *rq)
{
	return (struct log_ctx){ .evaluation = rq->evaluation };
}

static void on_refused(void *user)
{
	struct refusal *f = user;
	struct eval *ev = f->ev;

	(void)channel_ack(ev->channel, f->token);
	free(f);
	eval_update_intake(ev);
}

/* Nothing is wrong with the request: another worker, or this one later, may do better. */
static void give_back(struct eval *ev, struct channel_request *token,
		      const struct message_request *rq, const char *why)
{
	struct log_ctx ctx = request_log(rq);

	log_ctx(&ctx, LOG_WARNING, "evaluation %s goes back to its queue: %s", rq->evaluation, why);
	(void)channel_return(ev->channel, token);
	eval_update_intake(ev);
}

static void refuse(struct eval *ev, struct channel_request *token, const struct message_request *rq,
		   enum box_reason reason, const char *detail)
{
	struct log_ctx ctx = request_log(rq);
	struct refusal *f = calloc(1, sizeof(*f));
	struct err e = { 0 };

	log_ctx(&ctx, LOG_NOTICE, "evaluation %s is not begun: %s", rq->evaluation, detail);
	if (!f) {
		give_back(ev, token, rq, "out of memory");
		return;
	}
	*f = (struct refusal){ .ev = ev, .token = token };
	if (report_refused(ev, rq, reason, detail, on_refused, f, &e) < 0) {
		free(f);
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
	auto_obj(evaluator) evaluator = NULL;
	char attempt_id[UUID_LEN + 1];
	auto_free char *dir = NULL;
	auto_strv char **args = NULL;
	json_auto_t *notes = claim_notes(rq);
	struct limits asked = { 0 };
	int r = notes ? evaluator_load(ev->settings->bin_dir, rq->evaluator, &evaluator, e)
		      : err_nomem(e);

	if (r == 0)
		r = request_args(rq, &args, e);
	if (r == 0 && rq->limits)
		r = limits_from_json(rq->limits, &asked, e);
	if (r == 0)
		r = fetch_cache_dir(ev->settings, rq->digest, &dir, e);
	if (r < 0)
		return r;
	return evaluator_plan(evaluator,
			      &(struct evaluator_job){
				      .evaluation = rq->evaluation,
				      .attempt = rq->attempt,
				      .attempt_id = id_uuid7(attempt_id),
				      .args = args,
				      .asked = rq->limits ? &asked : NULL,
				      .submission = dir,
				      .state_dir = ev->settings->state_dir,
				      .log_cap = ev->settings->log_cap,
				      .term_grace_usec = ev->settings->term_grace_usec,
				      .cgroup = &ev->cgroup,
				      .claim = notes,
			      },
			      ret, e);
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
	int r;

	if (redelivered && ledger_has(ev->ledger, rq->id)) {
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
	if (r < 0) {
		give_back(ev, token, rq, e.msg);
		return;
	}
	/* Without the note a lost acknowledgement could run it twice, with it nothing else changes. */
	if (ledger_add(ev->ledger, rq->id, &e) < 0)
		log_ctx(&ctx, LOG_WARNING, "%s, ignoring", e.msg);
	(void)channel_ack(ev->channel, token);
	if (job_take(ev, box, &e) < 0)
		log_ctx(&ctx, LOG_ERR, "evaluation %s waits for the next start: %s", rq->evaluation,
			e.msg);
}

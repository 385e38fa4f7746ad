/* SPDX-License-Identifier: MIT */
#include "letters.h"

#include <string.h>

#include "base/str.h"
#include "messaging/topology.h"
#include "messaging/url.h"
#include "remote.h"
#include "transfer/push.h"

void letter_done(struct letter *l)
{
	free(l->body);
	l->body = NULL;
}

static int finish(const struct message *m, struct letter *ret, struct err *e)
{
	size_t n;
	int r = message_encode(m, &ret->body, &n, e);

	if (r < 0)
		return r;
	ret->msg = (struct outbox_msg){
		.exchange = TOPOLOGY_EXCHANGE,
		.routing_key = ret->key,
		.message_id = ret->id,
		.body = ret->body,
		.len = n,
	};
	return 0;
}

int letter_request(const struct order *o, struct letter *ret, struct err *e)
{
	char evaluation[24], submission[24];
	struct message m = { .type = MESSAGE_REQUEST };

	snprintf(evaluation, sizeof(evaluation), "%lld", (long long)o->evaluation);
	snprintf(submission, sizeof(submission), "%lld", (long long)o->submission);
	m.request = (struct message_request){
		.id = id_uuid7(ret->id),
		.evaluation = evaluation,
		.submission = submission,
		.digest = o->digest,
		.source = o->source,
		.evaluator = o->evaluator,
		.args = o->args,
		.limits = o->limits,
		.attempt = o->attempt,
		.high = o->high,
	};
	message_request_key(ret->key, o->pool, o->host, o->high);
	return finish(&m, ret, e);
}

int letter_cancel(int64_t evaluation, const char *by, struct letter *ret, struct err *e)
{
	char id[24];
	struct message m = { .type = MESSAGE_CONTROL };

	snprintf(id, sizeof(id), "%lld", (long long)evaluation);
	m.control = (struct message_control){
		.id = id_uuid7(ret->id),
		.kind = MESSAGE_CANCEL,
		.evaluation = id,
		.by = by,
	};
	message_key(ret->key, &m);
	return finish(&m, ret, e);
}

static int push(const struct settings *s, const char *host, const char *dir, struct err *e)
{
	auto_done(remote) m = { 0 };
	auto_free char *parent = NULL, *path = NULL;
	bool already;
	int r = remote_open(s, host, &m, e);

	if (r == 0 && str_fmt(&parent, "%s/incoming", m.host->state_dir) < 0)
		r = err_nomem(e);
	if (r == 0)
		r = push_object(m.ssh, dir, "submission", parent, &path, &already, e);
	return r < 0 ? err_wrap(e, "push to %s", STR_ESC(host)) : 0;
}

int letters_source(const struct settings *s, const char *host, int64_t submission, char **ret,
		   struct err *e)
{
	auto_free char *dir = NULL;
	int r;

	if (str_fmt(&dir, "%s/%lld", s->submissions_dir, (long long)submission) < 0)
		return err_nomem(e);
	if (!host)
		r = str_fmt(ret, "%s/%lld", s->submissions_url, (long long)submission);
	else if (str_eq(host, s->host))
		r = str_fmt(ret, "file://%s", dir);
	else {
		r = push(s, host, dir, e);
		if (r < 0)
			return r;
		r = str_fmt(ret, "incoming:");
	}
	return r < 0 ? err_nomem(e) : 0;
}

int letters_open(const struct settings *s, const char *name, uint64_t timeout_usec,
		 struct session **ret, struct err *e)
{
	auto_done(url) url = { 0 };
	int r;

	if (!s->amqp_url || !*s->amqp_url)
		return err_set(e, ENOENT, ERR_HOST,
			       "no broker is named: set amqp_url in %s, or AMQP_URL", s->file);
	r = url_parse(s->amqp_url, &url, e);
	if (r == 0)
		r = session_new(s, name, timeout_usec, ret, e);
	/* What the URL or a certificate lacks is for a person to mend. */
	if (r < 0 && e->kind == ERR_INPUT)
		e->kind = ERR_HOST;
	return r;
}

int letters_check_queue(struct session *b, const char *pool, const char *host, bool high,
			struct err *e)
{
	auto_free char *queue = NULL;
	struct broker_call call = { .type = BROKER_QUEUE_DECLARE, .passive = true };
	struct broker_reply reply = { 0 };
	int r = host ? str_fmt(&queue, "zr.host.%s", host)
		     : str_fmt(&queue, "zr.eval.%s%s", pool, high ? ".high" : "");

	if (r < 0)
		return err_nomem(e);
	call.queue = queue;
	r = session_call(b, &call, &reply, e);
	if (r < 0 || reply.code == 0)
		return r;
	if (reply.code != 404)
		return err_set(e, EIO, ERR_HOST, "the broker refuses to look at queue %s: %s",
			       STR_ESC(queue), STR_ESC(reply.text));
	return err_set(e, ENOENT, ERR_INPUT,
		       "the broker has no queue %s: if the %s's name is right, name it in "
		       "zr.conf and run 'zr topology:apply'",
		       STR_ESC(queue), host ? "host" : "pool");
}

int letter_send(struct session *b, struct db *d, const struct letter *l, int64_t outbox_id,
		struct err *e)
{
	const struct publication p = {
		.exchange = l->msg.exchange,
		.routing_key = l->msg.routing_key,
		.body = l->msg.body,
		.n = l->msg.len,
		.message_id = l->msg.message_id,
	};
	int r = session_publish(b, &p, 1, e);

	return r < 0 ? r : outbox_sent(d, outbox_id, e);
}

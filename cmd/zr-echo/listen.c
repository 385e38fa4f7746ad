/* SPDX-License-Identifier: MIT */
/* Following: a queue of our own, a live queue that is taken from, or a stream. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/str.h"
#include "echo.h"
#include "messaging/topology.h"

struct echo {
	const struct echo_conf *conf;
	struct loop *loop;
	struct broker *broker;
	struct broker_consumer *consumer;
	char own_queue[256]; /* its name, chosen by the broker */
	size_t bound;        /* patterns that are bound */
	uint64_t seen;
	bool ending, was_up;
	int status;
};

static void on_closed(void *user)
{
	struct echo *ec = user;

	loop_exit(ec->loop, ec->status);
}

/* What was printed is settled before we go. */
static void end(struct echo *ec, int status)
{
	if (ec->ending)
		return;
	ec->ending = true;
	ec->status = status;
	loop_notify("STOPPING=1");
	broker_close(ec->broker, on_closed, ec);
}

static void consume(struct echo *ec, const char *queue)
{
	const struct echo_conf *conf = ec->conf;
	struct broker_consume spec = {
		.queue = queue,
		.prefetch = (uint16_t)conf->prefetch,
		.stream_offset = conf->from,
	};
	struct err e = { 0 };

	if (conf->count && conf->count < spec.prefetch)
		spec.prefetch = (uint16_t)conf->count;
	if (broker_consume(ec->broker, &spec, &ec->consumer, &e) < 0) {
		log_err("%s", e.msg);
		end(ec, ECHO_FAILED);
		return;
	}
	if (!ec->was_up)
		log_notice("listening to %s", conf->queue ? conf->queue : "what is published");
	ec->was_up = true;
	loop_notify("READY=1");
}

/* --- a queue of our own --- */

static void bind_next(struct echo *ec);

static bool refused(struct echo *ec, const struct broker_reply *r)
{
	if (r->code == 0 || r->code == 320)
		return r->code != 0;
	log_err("the broker refuses a queue to listen with: %d %s%s", r->code, r->text,
		r->code == 404 ? "; run 'zr topology:apply'" : "");
	end(ec, ECHO_FAILED);
	return true;
}

static void on_bound(void *user, const struct broker_reply *r)
{
	struct echo *ec = user;

	if (refused(ec, r))
		return;
	ec->bound++;
	bind_next(ec);
}

static void bind_next(struct echo *ec)
{
	const char *pattern = ec->conf->patterns[ec->bound];
	const struct broker_call call = { .type = BROKER_QUEUE_BIND,
					  .queue = ec->own_queue,
					  .exchange = TOPOLOGY_EXCHANGE,
					  .routing_key = pattern };

	if (!pattern)
		consume(ec, ec->own_queue);
	else
		(void)!broker_call(ec->broker, &call, on_bound, ec, NULL);
}

static void on_declared(void *user, const struct broker_reply *r)
{
	struct echo *ec = user;

	if (refused(ec, r))
		return;
	snprintf(ec->own_queue, sizeof(ec->own_queue), "%s", r->queue);
	ec->bound = 0;
	bind_next(ec);
}

/* --- the broker --- */

static void on_ready(void *user)
{
	static const struct broker_call own = {
		.type = BROKER_QUEUE_DECLARE, .queue = "", .exclusive = true, .auto_delete = true
	};
	struct echo *ec = user;

	if (ec->was_up)
		log_notice("connected again%s",
			   ec->conf->queue ? "" : "; what was sent meanwhile was not seen");
	if (!ec->conf->queue)
		(void)!broker_call(ec->broker, &own, on_declared, ec, NULL);
	else if (!ec->consumer)
		consume(ec, ec->conf->queue);
}

static void on_down(void *user, const struct err *why)
{
	struct echo *ec = user;

	if (why->kind == ERR_INPUT && !ec->was_up) {
		log_err("%s", why->msg);
		end(ec, ECHO_USAGE);
		return;
	}
	log_warning("%s; trying again", why->msg);
	/* Our own queue went with the connection. */
	if (!ec->conf->queue && ec->consumer) {
		broker_consumer_free(ec->consumer);
		ec->consumer = NULL;
	}
}

static void on_delivery(void *user, const struct delivery *d)
{
	struct echo *ec = user;

	if (ec->ending)
		return;
	if (!echo_print(d, ec->conf->json)) {
		end(ec, ECHO_FAILED);
		return;
	}
	(void)broker_ack(ec->broker, d->ref, false);
	if (ec->conf->count && ++ec->seen >= ec->conf->count)
		end(ec, ECHO_DONE);
}

static void on_consumer_lost(void *user, unused_arg struct broker_consumer *c, const char *why)
{
	struct echo *ec = user;

	log_err("queue %s: %s", ec->conf->queue ? ec->conf->queue : ec->own_queue, why);
	end(ec, ECHO_FAILED);
}

static void on_signal(void *user, unused_arg int signo)
{
	end(user, ECHO_DONE);
}

static int start(struct echo *ec, struct loop_src **signals, struct err *e)
{
	static const struct broker_ops ops = { .on_ready = on_ready,
					       .on_down = on_down,
					       .on_delivery = on_delivery,
					       .on_consumer_lost = on_consumer_lost };
	struct broker_conf conf;
	int r = loop_new(&ec->loop, e);

	if (r == 0)
		r = loop_signal(ec->loop, SIGTERM, on_signal, ec, &signals[0], e);
	if (r == 0)
		r = loop_signal(ec->loop, SIGINT, on_signal, ec, &signals[1], e);
	if (r == 0)
		r = loop_watchdog(ec->loop, e);
	broker_conf_init(&conf, ec->conf->settings, BROKER_CONSUME, "zr-echo");
	return r < 0 ? r : broker_new(ec->loop, &conf, &ops, ec, &ec->broker, e);
}

int echo_listen(const struct echo_conf *conf)
{
	struct echo ec = { .conf = conf };
	struct loop_src *signals[2] = { 0 };
	struct err e = { 0 };
	int r = start(&ec, signals, &e), status;

	status = r < 0 && e.kind == ERR_INPUT ? ECHO_USAGE : ECHO_FAILED;
	if (r == 0) {
		r = loop_run(ec.loop, &e);
		status = r < 0 ? ECHO_FAILED : r;
	}
	if (r < 0)
		log_err("%s", e.msg);
	broker_free(ec.broker);
	loop_src_free(signals[0]);
	loop_src_free(signals[1]);
	loop_free(ec.loop);
	return status;
}

/* SPDX-License-Identifier: MIT */
/* worker:run:*: the daemons, started by exec so that the service manager sees the program itself. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/daemon.h"
#include "base/id.h"
#include "base/proc.h"
#include "base/str.h"
#include "commands.h"
#include "letters.h"
#include "messaging/channel.h"
#include "messaging/message.h"
#include "messaging/session.h"
#include "messaging/topology.h"
#include "reach.h"

#define ECHO_TIMEOUT_USEC (10 * USEC_PER_SEC)
#define EVAL_OPTIONS_MAX  14

static int exec_daemon(const struct cli *c, const char *program, char **words)
{
	auto_strv char **argv = NULL;
	auto_free char *path = NULL;
	struct err e = { 0 };
	int r = proc_sister(program, &path, &e);

	if (r < 0)
		return cli_fail(c, &e);
	if (strv_add(&argv, program) < 0 ||
	    (c->conf && strv_addf(&argv, "--conf=%s", c->conf) < 0)) {
		err_nomem(&e);
		return cli_fail(c, &e);
	}
	for (char **w = words; w && *w; w++) {
		if (strv_add(&argv, *w) < 0) {
			err_nomem(&e);
			return cli_fail(c, &e);
		}
	}
	execv(path, argv);
	err_sys(&e, "start %s", path);
	return cli_fail(c, &e);
}

struct counts {
	uint64_t workers, prefetch;
};

#define COUNT_OPTS(n)                                                                              \
	{ "number-of-workers", 'w',          CLI_COUNT,                                            \
	  &(n).workers,        "NB_WORKERS", "Number of processes to allow for workers" },         \
	{                                                                                          \
		"prefetch-count", 0, CLI_COUNT, &(n).prefetch, "PREFETCH_COUNT",                   \
			"Number of simultaneous messages allowed to be pulled by one process"      \
	}

/* `words`: further options of the daemon. */
static int run_workers(const struct cli *c, const char *program, const struct counts *n,
		       char ***words)
{
	struct err e = { 0 };

	if (n->workers < 1 || n->workers > 256 || n->prefetch < 1 || n->prefetch > 1024)
		return cli_usage(c, "want 1 to 256 workers and a prefetch count of 1 to 1024");
	if (strv_addf(words, "--number-of-workers=%llu", (unsigned long long)n->workers) < 0 ||
	    strv_addf(words, "--prefetch-count=%llu", (unsigned long long)n->prefetch) < 0) {
		err_nomem(&e);
		return cli_fail(c, &e);
	}
	return exec_daemon(c, program, *words);
}

static int run_eval(struct cli *c)
{
	static const char *const original[] = { PIKE_ORIGINAL_OPTIONS, NULL };
	struct counts n = { .workers = 1, .prefetch = 1 };
	auto_strv char **words = NULL;
	/* zr-eval's own, which looks into them. */
	const char *given[EVAL_OPTIONS_MAX] = { NULL };
	auto_strv char **channels = NULL;
	struct err e = { 0 };
	const struct cli_opt opts[] = {
		COUNT_OPTS(n),
		{ "channel", 0, CLI_LIST, &channels, "CHANNEL",
		  "amqp, or dir:FOLDER: where requests come from; several with pike" },
		{ "dialect", 0, CLI_TEXT, &given[1], "DIALECT",
		  "native, or pike: how messages in a folder are written" },
		{ "input-dir", 0, CLI_TEXT, &given[2], "DIR", "pike: where requests come" },
		{ "output-dir", 0, CLI_TEXT, &given[3], "DIR", "pike: where answers go" },
		{ "scratch-dir", 0, CLI_TEXT, &given[4], "DIR", "pike: code, results and caches" },
		{ "arch", 0, CLI_TEXT, &given[5], "ARCH",
		  "pike: TORCH_CUDA_ARCH_LIST of the evaluations" },
		{ "max-active-tasks", 0, CLI_TEXT, &given[6], "N",
		  "pike: evaluations at once; default: 20" },
		{ "eval-script", 0, CLI_TEXT, &given[7], "FILE", "pike: default: scripts/eval.py" },
		{ "wall-limit", 0, CLI_TEXT, &given[8], "SPAN",
		  "pike: of one evaluation; default: 900s" },
		{ "grace", 0, CLI_TEXT, &given[9], "SPAN",
		  "pike: to wait for the text of a message; default: 60s" },
		{ "drain-limit", 0, CLI_TEXT, &given[10], "SPAN",
		  "pike: from close to the last answer; default: 60s" },
		{ "gpu-lock", 0, CLI_TEXT, &given[11], "WHO",
		  "pike: script or box: who takes the GPU; default: script" },
		{ "max-age", 0, CLI_TEXT, &given[12], "SPAN",
		  "pike: what has waited longer is not run" },
		{ "task-files", 0, CLI_TEXT, &given[13], "WHAT",
		  "pike: keep or remove a task's code and output; default: remove" },
		{ 0 },
	};

	daemon_spell(c->argc, c->argv, original);
	if (!cli_parse(c, opts, 0, 0))
		return c->status;
	for (const struct cli_opt *o = opts; o->name; o++) {
		const char *value = o->type == CLI_TEXT ? *(const char *const *)o->to : NULL;

		if (value && strv_addf(&words, "--%s=%s", o->name, value) < 0) {
			err_nomem(&e);
			return cli_fail(c, &e);
		}
	}
	for (char **channel = channels; channel && *channel; channel++)
		if (strv_addf(&words, "--channel=%s", *channel) < 0) {
			err_nomem(&e);
			return cli_fail(c, &e);
		}
	return run_workers(c, "zr-eval", &n, &words);
}

static int run_update(struct cli *c)
{
	/* Events that wait are applied together: a window of one would commit each by itself. */
	struct counts n = { .workers = 1, .prefetch = 512 };
	auto_strv char **words = NULL;
	const struct cli_opt opts[] = { COUNT_OPTS(n), { 0 } };

	if (!cli_parse(c, opts, 0, 0))
		return c->status;
	return run_workers(c, "zr-update", &n, &words);
}

/* Options and patterns are zr-echo's own; completion knows their names. */
static int run_echo(struct cli *c)
{
	static const struct cli_opt opts[] = {
		{ "queue", 0, CLI_TEXT, NULL, "NAME", "" },
		{ "consume", 0, CLI_FLAG, NULL, NULL, "" },
		{ "from", 0, CLI_TEXT, NULL, "OFFSET", "" },
		{ "count", 0, CLI_TEXT, NULL, "N", "" },
		{ "json", 0, CLI_FLAG, NULL, NULL, "" },
		{ "prefetch-count", 0, CLI_TEXT, NULL, "N", "" },
		{ "number-of-workers", 'w', CLI_TEXT, NULL, "N", "" },
		{ 0 },
	};

	if (c->completing)
		return cli_parse(c, opts, 0, 0) ? CLI_DONE : c->status;
	return exec_daemon(c, "zr-echo", c->argv + 1);
}

/* The whole way to whoever listens: exchange, routing, confirm. */
static int test_echo(struct cli *c)
{
	struct message m = { .type = MESSAGE_ECHO };
	struct publication pub = { .exchange = TOPOLOGY_EXCHANGE };
	auto_free char *body = NULL;
	auto_obj(settings) s = NULL;
	auto_obj(session) session = NULL;
	char key[MESSAGE_KEY_MAX], id[UUID_LEN + 1];
	const struct cli_opt opts[] = { { 0 } };
	struct err e = { 0 };
	int r;

	if (!cli_parse(c, opts, 1, 1) || !cli_settings(c, &s))
		return c->status;
	m.echo.message = c->argv[0];
	r = message_encode(&m, &body, &pub.n, &e);
	if (r == 0)
		r = letters_open(s, "zr worker:test:echo", ECHO_TIMEOUT_USEC, &session, &e);
	if (r == 0) {
		pub.routing_key = message_key(key, &m);
		pub.body = body;
		pub.message_id = id_uuid7(id);
		r = session_publish(session, &pub, 1, &e);
	}
	if (r == -EHOSTUNREACH && e.kind == ERR_INPUT) {
		cli_say("nobody listens: start 'zr worker:run:echo' first");
		return CLI_FAILED;
	}
	if (r < 0)
		return cli_fail_setup(c, &e);
	puts("Message delivered successfully !!");
	return CLI_DONE;
}

static const struct command commands[] = {
	{ "workers", "[--json]", "Show who is alive, where, doing what, since when", "zr workers",
	  cmd_workers, NULL },
	{ "worker:run:eval",
	  "[-w NB_WORKERS] [--prefetch-count PREFETCH_COUNT] [--channel dir:FOLDER]",
	  "Run evaluation task worker", "zr worker:run:eval -w 4 --prefetch-count 2", run_eval,
	  NULL },
	{ "worker:run:update", "[-w NB_WORKERS] [--prefetch-count PREFETCH_COUNT]",
	  "Run update task worker", "zr worker:run:update -w 1 --prefetch-count 512", run_update,
	  NULL },
	{ "worker:container", "--arch ARCH [OPTIONS]",
	  "Run an evaluation worker of the dialect pike in a container",
	  "zr worker:container --arch Hopper --worker-io-dir worker_io", cmd_worker_container,
	  "No network, a read-only root, no capabilities, and of the host its folders and GPUs\n"
	  "alone. Tells when the worker answers, and stays until the container has ended." },
	{ "worker:run:echo", "[OPTIONS] [PATTERN...]",
	  "Run echo task worker (used as debug worker)", "zr worker:run:echo 'event.#'", run_echo,
	  NULL },
	{ "worker:test:echo", "MESSAGE", "Send a message to the echo workers",
	  "zr worker:test:echo 'is anybody there?'", test_echo, NULL },
	{ 0 },
};

const struct command_group worker_group = { "workers", commands };

/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * zr-echo is the ear on the wire: it prints what passes and changes nothing. Usually it makes a
 * queue of its own, which only it can use and which goes with its connection, and binds it to the
 * exchange of zr with the given patterns: every message is copied to it, the others' copies are not
 * touched (listen.c). A live queue is only looked at: its messages are taken with basic.get, shown,
 * and given back (look.c), unless --consume says that they are to be taken out. A stream gives
 * everybody everything and is read from where --from says.
 *
 * Lines go to standard output, all else to the log.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/str.h"
#include "echo.h"
#include "messaging/topology.h"

#define PREFETCH_MAX     65535u
#define PREFETCH_DEFAULT 100

static void help(void)
{
	puts("usage: zr-echo [OPTIONS] [PATTERN...]\n"
	     "\n"
	     "Prints what is published to zr's exchange with a routing key that one of the\n"
	     "patterns matches ('*': one word, '#': any words; without patterns everything).\n"
	     "\n"
	     "  --queue NAME     show what waits in this queue instead, and put it back\n"
	     "  --consume        with --queue: take the messages out, and go on listening\n"
	     "  --from OFFSET    with --queue: it is a stream, read from 'first', 'last',\n"
	     "                   'next' or a number on\n"
	     "  --count N        end after N messages\n"
	     "  --json           one JSON object a line\n"
	     "  --prefetch-count N  messages on their way at a time (100)\n"
	     "  -w, --number-of-workers N  taken for compatibility: one process hears all\n"
	     "  --conf FILE      settings (ZR_CONF, /etc/zr/zr.conf)\n"
	     "  -n               check the settings and end\n"
	     "  -v               say more\n"
	     "  --help, --version\n"
	     "\n"
	     "Example: zr-echo 'event.completed.#' 'event.failed.#'\n"
	     "Manual: zr-echo(8).");
}

static int wrong(const char *what, const char *value)
{
	fprintf(stderr, "zr-echo: %s '%s'; see 'zr-echo --help'\n", what, STR_ESC(value));
	return ECHO_USAGE;
}

struct args {
	struct echo_conf echo;
	const char *conf;
	bool check_only, verbose;
};

static const struct option options[] = {
	{ "queue", required_argument, NULL, 'q' },
	{ "consume", no_argument, NULL, 'c' },
	{ "from", required_argument, NULL, 'o' },
	{ "count", required_argument, NULL, 'N' },
	{ "json", no_argument, NULL, 'j' },
	{ "prefetch-count", required_argument, NULL, 'p' },
	{ "number-of-workers", required_argument, NULL, 'w' },
	{ "conf", required_argument, NULL, 'f' },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ 0 },
};

static int number(const char *text, uint64_t min, uint64_t max, uint64_t *ret)
{
	return str_u64(text, ret) < 0 || *ret < min || *ret > max ? wrong("bad number", text) : -1;
}

/* -1: go on; else the exit status. */
static int take_option(struct args *a, int c)
{
	uint64_t n = 0;
	int r;

	switch (c) {
	case 'q':
		a->echo.queue = optarg;
		return -1;
	case 'c':
		a->echo.consume = true;
		return -1;
	case 'o':
		a->echo.from = optarg;
		return -1;
	case 'N':
		return number(optarg, 1, UINT64_MAX, &a->echo.count);
	case 'j':
		a->echo.json = true;
		return -1;
	case 'p':
		r = number(optarg, 1, PREFETCH_MAX, &n);
		a->echo.prefetch = (unsigned)n;
		return r;
	case 'w':
		return number(optarg, 1, 256, &n);
	case 'f':
		a->conf = optarg;
		return -1;
	case 'n':
		a->check_only = true;
		return -1;
	case 'v':
		a->verbose = true;
		return -1;
	case 'h':
		help();
		return ECHO_DONE;
	case 'V':
		puts("zr-echo " ZR_VERSION);
		return ECHO_DONE;
	default:
		fputs("see 'zr-echo --help'\n", stderr);
		return ECHO_USAGE;
	}
}

static int check_args(const struct args *a, int patterns)
{
	const struct echo_conf *e = &a->echo;
	uint64_t n;

	if (e->queue && patterns)
		return wrong("a queue and a pattern exclude each other:", e->patterns[0]);
	if (!e->queue && e->consume)
		return wrong("which queue? missing with", "--consume");
	if (!e->queue && e->from)
		return wrong("which stream? --queue is missing with --from", e->from);
	/* A stream cannot be looked at like a queue; the broker would hang up. */
	if (e->queue && !e->from &&
	    (str_eq(e->queue, TOPOLOGY_EVENTS) || str_eq(e->queue, TOPOLOGY_CONTROL)))
		return wrong("from where? --from first, last, next or a number is missing with the "
			     "stream",
			     e->queue);
	if (e->from && !str_eq(e->from, "first") && !str_eq(e->from, "last") &&
	    !str_eq(e->from, "next") && str_u64(e->from, &n) < 0)
		return wrong("--from takes first, last, next or a number, not", e->from);
	return -1;
}

static int take_args(struct args *a, int argc, char **argv)
{
	static char everything[] = "#";
	static char *all[] = { everything, NULL };
	int c, r;

	while ((c = getopt_long(argc, argv, "w:nvh", options, NULL)) != -1) {
		r = take_option(a, c);
		if (r >= 0)
			return r;
	}
	a->echo.patterns = optind < argc ? argv + optind : all;
	return check_args(a, argc - optind);
}

int main(int argc, char **argv)
{
	struct args a = { .echo.prefetch = PREFETCH_DEFAULT };
	auto_obj(settings) s = NULL;
	struct err e = { 0 };
	int status = take_args(&a, argc, argv);

	if (status >= 0)
		return status;
	log_init("zr-echo", a.verbose ? LOG_DEBUG : LOG_INFO);
	if (settings_load(a.conf, &s, &e) < 0) {
		log_err("%s", e.msg);
		return ECHO_USAGE;
	}
	if (a.check_only)
		return ECHO_DONE;
	a.echo.settings = s;
	if (a.echo.queue && !a.echo.consume && !a.echo.from)
		return echo_look(&a.echo);
	return echo_listen(&a.echo);
}

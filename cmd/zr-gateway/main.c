/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * zr-gateway lets clients that speak HTTP use a worker of the dialect pike. It is one event loop that
 * joins a small HTTP server (http.c, with libmicrohttpd) and the driver's side of the folder that it
 * shares with the worker (proxy.c). Answers are files until a day after they came. It holds no truth
 * of its own and no secret, and listens on the loopback interface only.
 */
#include <getopt.h>
#include <stdio.h>

#include "base/log.h"
#include "base/str.h"
#include "http.h"
#include "proxy.h"

#define EXIT_USAGE   2
#define PORT_DEFAULT 8000

struct args {
	uint64_t port;
	const char *worker_io;
	bool verbose;
};

static void help(void)
{
	puts("usage: zr-gateway [OPTIONS]\n"
	     "\n"
	     "Gives a worker of the dialect pike, with which it shares a folder, to HTTP clients.\n"
	     "\n"
	     "  --port N             on 127.0.0.1 (8000)\n"
	     "  --worker-io-dir DIR  the folder with input and output (worker_io)\n"
	     "  -v, --verbose        say more\n"
	     "  -h, --help           this text\n"
	     "  --version            version\n"
	     "\n"
	     "Manual: zr-gateway(8).");
}

/* -1: go on; else the exit status. */
static int take_args(struct args *a, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "port", required_argument, NULL, 'p' },
		{ "worker-io-dir", required_argument, NULL, 'd' },
		{ "verbose", no_argument, NULL, 'v' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "vh", longs, NULL)) != -1) {
		if (c == 'p' && (str_u64(optarg, &a->port) < 0 || !a->port || a->port > 65535)) {
			fprintf(stderr, "zr-gateway: bad port '%s' (want 1 to 65535)\n",
				STR_ESC(optarg));
			return EXIT_USAGE;
		}
		if (c == 'd')
			a->worker_io = optarg;
		a->verbose = a->verbose || c == 'v';
		if (c == 'h')
			help();
		if (c == 'V')
			puts("zr-gateway " ZR_VERSION);
		if (c == 'h' || c == 'V' || c == '?')
			return c == '?' ? EXIT_USAGE : 0;
	}
	if (optind == argc)
		return -1;
	fprintf(stderr, "zr-gateway: unexpected argument '%s'\n", STR_ESC(argv[optind]));
	return EXIT_USAGE;
}

static void on_signal(void *user, unused_arg int signo)
{
	loop_exit(user, 0);
}

static int serve(const struct args *a, struct err *e)
{
	auto_obj(loop) l = NULL;
	auto_obj(proxy) p = NULL;
	auto_obj(http) h = NULL;
	struct loop_src *term = NULL, *intr = NULL;
	int r = loop_new(&l, e);

	if (r == 0)
		r = loop_signal(l, SIGTERM, on_signal, l, &term, e);
	if (r == 0)
		r = loop_signal(l, SIGINT, on_signal, l, &intr, e);
	if (r == 0)
		r = proxy_new(l, a->worker_io, &p, e);
	if (r == 0)
		r = http_new(l, (uint16_t)a->port, proxy_handle, p, &h, e);
	if (r == 0) {
		log_info("serving %s on 127.0.0.1:%u", a->worker_io, (unsigned)a->port);
		loop_notify("READY=1");
		r = loop_run(l, e);
	}
	loop_src_free(term);
	loop_src_free(intr);
	return r;
}

int main(int argc, char **argv)
{
	struct args a = { .port = PORT_DEFAULT, .worker_io = "worker_io" };
	struct err e = { 0 };
	int r = take_args(&a, argc, argv);

	if (r >= 0)
		return r;
	log_init("zr-gateway", a.verbose ? LOG_DEBUG : LOG_INFO);
	r = serve(&a, &e);
	if (r < 0) {
		log_err("%s", e.msg);
		return 1;
	}
	puts("Exited cleanly");
	return 0;
}

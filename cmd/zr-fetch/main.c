/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * zr-fetch gets sealed objects from hosts that run strangers' code and publishes them here. It is
 * the only program that reads what such a host's SSH server and its archives send, so it holds
 * nothing worth stealing: no broker or database credentials, one private key, and after its first
 * command no way to anything but one host and two folders.
 *
 *	caller (zr-update, zr-eval, a person)
 *	  | commands and answers, one JSON line each (serve.c), or options and one line (--get)
 *	  v
 *	fetcher: libssh2, libzstd, libarchive (work.c, lib/transfer)      confined (confine.c)
 *	  | "connect"                    ^ a connected socket
 *	  v                              |
 *	connector: resolves and connects to that one host (connector.c)   reads no byte of it
 *	  | starts, for large packs on short lines
 *	  v
 *	ssh(1): the pack's bytes, deciphered, to the fetcher; optional
 *
 * The first command names the host. Then, in this order: the private key and known_hosts are read,
 * the connector is started, the fetcher is confined (limits, no_new_privs, Landlock, seccomp), and
 * only then the first connection is made. The session stays open for the next command. When the
 * caller's end of the socket closes, whatever is under way is given up.
 *
 * --prune is housekeeping of the folder that objects were published into (prune.c): it opens none of
 * their files, and is here because it may take long.
 */
#include <getopt.h>
#include <libssh2.h>
#include <locale.h>
#include <signal.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"
#include "base/time.h"
#include "fetcher.h"

static void help(void)
{
	puts("usage: zr-fetch --get SOURCE --root-hash HASH --name NAME --target DIR --staging "
	     "DIR\n"
	     "                [--ssh-key FILE --known-hosts FILE] [OPTIONS]\n"
	     "       zr-fetch --serve --staging DIR --root DIR --ssh-key FILE --known-hosts FILE\n"
	     "                [OPTIONS] 3<>SOCKET\n"
	     "       zr-fetch --prune DIR --limit-bytes SIZE [--keep HASH]... [--used-before "
	     "TIME]\n"
	     "\n"
	     "SOURCE is a folder, or ssh://USER@HOST[:PORT]/FOLDER, with NAME.tar.zst and\n"
	     "manifest.json in it. --prune removes what was not used for the longest time.\n"
	     "Options:\n"
	     "  --keep HASH           an object that stays\n"
	     "  --keep-after SPAN     keep what came after this time for a later try (30s)\n"
	     "  --keep-manifest       publish the manifest too, as .zr/manifest.json\n"
	     "  --limit-bytes SIZE    largest content in all, and of one file (64G)\n"
	     "  --limit-entries N     most files and folders (100000)\n"
	     "  --reserve SIZE        leave this much of the disk free (0)\n"
	     "  --stall SPAN          end a connection without a byte for this long (30s)\n"
	     "  --used-before TIME    what was used since then stays (now)\n"
	     "  --verbose             say on standard error what is not confined\n"
	     "\n"
	     "Example:\n"
	     "  zr-fetch --get ssh://zr@oberon/var/lib/zr/sealed/$ID --root-hash $HASH \\\n"
	     "    --name result --target ./result --staging ./.staging \\\n"
	     "    --ssh-key ~/.ssh/id_ed25519 --known-hosts ~/.ssh/known_hosts\n"
	     "\n"
	     "Manual: zr-fetch(8).");
}

static int wrong(const char *what, const char *value)
{
	fprintf(stderr, "zr-fetch: %s%s%s%s\nsee 'zr-fetch --help'\n", what, value ? " '" : "",
		value ? value : "", value ? "'" : "");
	return -EINVAL;
}

enum option_id {
	OPT_HELP = 256,
	OPT_VERSION,
	OPT_SERVE,
	OPT_GET,
	OPT_ROOT_HASH,
	OPT_NAME,
	OPT_TARGET,
	OPT_STAGING,
	OPT_ROOT,
	OPT_SSH_KEY,
	OPT_KNOWN_HOSTS,
	OPT_KEEP_AFTER,
	OPT_KEEP_MANIFEST,
	OPT_LIMIT_BYTES,
	OPT_LIMIT_ENTRIES,
	OPT_RESERVE,
	OPT_STALL,
	OPT_VERBOSE,
	OPT_PRUNE,
	OPT_KEEP,
	OPT_USED_BEFORE,
};

static const struct option options[] = {
	{ "help", no_argument, NULL, OPT_HELP },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ "serve", no_argument, NULL, OPT_SERVE },
	{ "get", required_argument, NULL, OPT_GET },
	{ "root-hash", required_argument, NULL, OPT_ROOT_HASH },
	{ "name", required_argument, NULL, OPT_NAME },
	{ "target", required_argument, NULL, OPT_TARGET },
	{ "staging", required_argument, NULL, OPT_STAGING },
	{ "root", required_argument, NULL, OPT_ROOT },
	{ "ssh-key", required_argument, NULL, OPT_SSH_KEY },
	{ "known-hosts", required_argument, NULL, OPT_KNOWN_HOSTS },
	{ "keep-after", required_argument, NULL, OPT_KEEP_AFTER },
	{ "keep-manifest", no_argument, NULL, OPT_KEEP_MANIFEST },
	{ "limit-bytes", required_argument, NULL, OPT_LIMIT_BYTES },
	{ "limit-entries", required_argument, NULL, OPT_LIMIT_ENTRIES },
	{ "reserve", required_argument, NULL, OPT_RESERVE },
	{ "stall", required_argument, NULL, OPT_STALL },
	{ "verbose", no_argument, NULL, OPT_VERBOSE },
	{ "prune", required_argument, NULL, OPT_PRUNE },
	{ "keep", required_argument, NULL, OPT_KEEP },
	{ "used-before", required_argument, NULL, OPT_USED_BEFORE },
	{ NULL, 0, NULL, 0 },
};

static const char **text_option(struct args *a, int id)
{
	switch (id) {
	case OPT_GET:
		return &a->get;
	case OPT_ROOT_HASH:
		return &a->root_hash;
	case OPT_NAME:
		return &a->name;
	case OPT_TARGET:
		return &a->target;
	case OPT_STAGING:
		return &a->staging;
	case OPT_ROOT:
		return &a->root;
	case OPT_SSH_KEY:
		return &a->ssh_key;
	case OPT_KNOWN_HOSTS:
		return &a->known_hosts;
	case OPT_PRUNE:
		return &a->prune;
	default:
		return NULL;
	}
}

static bool *flag_option(struct args *a, int id)
{
	switch (id) {
	case OPT_SERVE:
		return &a->serve;
	case OPT_KEEP_MANIFEST:
		return &a->keep_manifest;
	case OPT_VERBOSE:
		return &a->verbose;
	default:
		return NULL;
	}
}

static int number_option(struct args *a, int id, const char *value)
{
	switch (id) {
	case OPT_LIMIT_BYTES:
		if (str_size(value, &a->limits.bytes) < 0)
			return wrong("--limit-bytes wants a size like 2G, not", value);
		a->limits.file_bytes = a->limits.bytes;
		return 0;
	case OPT_LIMIT_ENTRIES:
		return str_u64(value, &a->limits.entries) < 0
			       ? wrong("--limit-entries wants a number, not", value)
			       : 0;
	case OPT_RESERVE:
		return str_size(value, &a->reserve_bytes) < 0
			       ? wrong("--reserve wants a size like 2G, not", value)
			       : 0;
	case OPT_USED_BEFORE:
		return time_parse(value, &a->used_before_usec) < 0
			       ? wrong("--used-before wants a time like 2026-11-21T23:00:00Z, not",
				       value)
			       : 0;
	case OPT_KEEP_AFTER:
		return str_span(value, &a->keep_after_usec) < 0
			       ? wrong("--keep-after wants a time span like 5s, not", value)
			       : 0;
	default:
		return str_span(value, &a->stall_usec) < 0
			       ? wrong("--stall wants a time span like 30s, not", value)
			       : 0;
	}
}

/* 0: go on. 1: done. */
static int parse_args(int argc, char **argv, struct args *a)
{
	int id;

	opterr = 0;
	while ((id = getopt_long(argc, argv, "", options, NULL)) != -1) {
		const char **text = text_option(a, id);
		bool *flag = flag_option(a, id);

		if (id == OPT_HELP) {
			help();
			return 1;
		}
		if (id == OPT_VERSION) {
			puts("zr-fetch " ZR_VERSION);
			return 1;
		}
		if (id == '?')
			return wrong("unknown option, or its argument is missing:",
				     argv[optind - 1]);
		if (id == OPT_KEEP && strv_add(&a->keep, optarg) < 0)
			return wrong("out of memory", NULL);
		if (id == OPT_KEEP)
			continue;
		if (text)
			*text = optarg;
		else if (flag)
			*flag = true;
		else if (number_option(a, id, optarg) < 0)
			return -EINVAL;
	}
	return optind < argc ? wrong("unexpected argument", argv[optind]) : 0;
}

static int check_args(const struct args *a)
{
	if (a->serve + (a->get != NULL) + (a->prune != NULL) != 1)
		return wrong("one of --get SOURCE, --serve and --prune DIR is needed", NULL);
	if (a->prune)
		return a->limits.bytes ? 0 : wrong("--prune needs --limit-bytes", NULL);
	if (a->serve)
		return a->staging && a->root ? 0
					     : wrong("--serve needs --staging and --root", NULL);
	if (!a->root_hash || !a->name || !a->target || !a->staging)
		return wrong("--get needs --root-hash, --name, --target and --staging", NULL);
	return 0;
}

static void args_done(struct args *a)
{
	strv_free(a->keep);
}
DEFINE_AUTO_DONE(args);

static int status_of(enum fetch_class c)
{
	if (c == FETCH_PERMANENT)
		return EXIT_USAGE;
	return c == FETCH_TRANSIENT || c == FETCH_HOST ? EXIT_AGAIN : EXIT_FAILED;
}

static int print_answer(const json_t *answer, int status)
{
	auto_free char *text = answer ? js_text(answer) : NULL;

	if (!text) {
		fprintf(stderr, "zr-fetch: out of memory\n");
		return EXIT_AGAIN;
	}
	if (puts(text) < 0 || fflush(stdout) != 0) {
		fprintf(stderr, "zr-fetch: write to standard output: %s\n", strerror(errno));
		return status ? status : EXIT_FAILED;
	}
	return status;
}

static int get(struct fetcher *f, const struct source *s)
{
	const struct args *a = f->args;
	struct ssh_host host = { .address = s->address, .port = s->port, .user = s->user };
	struct job j = {
		.host = s->remote ? &host : NULL,
		.dir = s->dir,
		.name = a->name,
		.root_hash = a->root_hash,
		.target = a->target,
		.keep_manifest = a->keep_manifest,
		.limits = a->limits,
	};
	enum fetch_class class = FETCH_HOST;
	json_auto_t *answer = NULL;
	bool ok;

	answer = fetcher_run(f, &j, &ok, &class);
	return print_answer(answer, ok ? 0 : status_of(class));
}

static int start_failed(const struct err *e)
{
	json_auto_t *answer = fetcher_failure(e);

	return print_answer(answer, status_of(fetch_class(e)));
}

static int run(struct fetcher *f)
{
	auto_done(source) s = { .remote = false };
	struct err e = { .code = 0 };

	if (f->args->staging && fetcher_open_staging(f, f->args->staging, &e) < 0) {
		if (!f->args->serve)
			return start_failed(&e);
		fprintf(stderr, "zr-fetch: staging: %s\n", e.msg);
		return EXIT_USAGE;
	}
	if (f->args->serve)
		return serve(f);
	if (source_parse(f->args->get, &s, &e) < 0) {
		fprintf(stderr, "zr-fetch: %s\n", e.msg);
		return EXIT_USAGE;
	}
	return get(f, &s);
}

int main(int argc, char **argv)
{
	auto_done(args) a = { .used_before_usec = UINT64_MAX };
	struct fetcher f = { .args = &a, .staging = -1, .connector = -1, .abort_fd = -1 };
	int r;

	signal(SIGPIPE, SIG_IGN);
	if (argc == 7 && str_eq(argv[1], "--connector"))
		return connector_main(argv + 2);
	r = parse_args(argc, argv, &a);
	if (r > 0)
		return 0;
	if (r < 0 || check_args(&a) < 0)
		return EXIT_USAGE;
	if (a.prune)
		return prune(&a);
	/* Before the confinement, since they read files: names in UTF-8, OpenSSL's settings. */
	(void)setlocale(LC_CTYPE, "C.UTF-8");
	if (libssh2_init(0) != 0) {
		fprintf(stderr, "zr-fetch: libssh2 does not start\n");
		return EXIT_FAILED;
	}
	r = run(&f);
	fetcher_done(&f);
	libssh2_exit();
	return r;
}

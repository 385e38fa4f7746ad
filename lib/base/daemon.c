/* SPDX-License-Identifier: MIT */
#include "base/daemon.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "base/log.h"
#include "base/str.h"
#include "base/super.h"

#define EXIT_USAGE  2
#define WORKERS_MAX 256
/* getopt_long() values of a daemon's own options. */
#define OWN_FIRST 256

static void on_report(int level, const char *text)
{
	log_ctx(NULL, level, "%s", text);
}

static size_t own_count(const struct daemon_spec *d)
{
	size_t n = 0;

	while (d->options && n < DAEMON_OPTIONS_MAX && d->options[n].name)
		n++;
	return n;
}

static int add_own(const struct daemon_spec *d, const struct daemon_options *o, char ***argv)
{
	for (size_t i = 0; i < own_count(d); i++) {
		if (o->given[i] && strv_addf(argv, "--%s=%s", d->options[i].name, o->given[i]) < 0)
			return -ENOMEM;
		for (size_t j = 0; d->options[i].many && j < o->n_more; j++)
			if (strv_addf(argv, "--%s=%s", d->options[i].name, o->more[j]) < 0)
				return -ENOMEM;
	}
	return 0;
}

static int run_supervisor(const struct daemon_spec *d, const struct daemon_options *o,
			  struct err *e)
{
	auto_strv char **argv = NULL;

	if (strv_add(&argv, d->name) < 0 ||
	    (o->conf && strv_addf(&argv, "--conf=%s", o->conf) < 0) ||
	    strv_addf(&argv, "--prefetch-count=%u", o->prefetch) < 0 ||
	    (o->verbose && strv_add(&argv, "--verbose") < 0) || add_own(d, o, &argv) < 0)
		return err_nomem(e);
	return super_run(
		&(struct super_spec){ .workers = o->workers, .argv = argv, .report = on_report },
		e);
}

static void print_help(const struct daemon_spec *d)
{
	printf("usage: %s [OPTIONS]\n\n%s\n\n", d->name, d->purpose);
	puts("  -w, --number-of-workers NB_WORKERS\n"
	     "                                Number of processes to allow for workers\n"
	     "      --prefetch-count PREFETCH_COUNT\n"
	     "                                Number of simultaneous messages allowed to be pulled "
	     "by one process\n"
	     "  -f, --conf FILE               settings, instead of $ZR_CONF or /etc/zr/zr.conf\n"
	     "  -n, --check                   check the settings, then exit\n"
	     "  -v, --verbose                 say more\n"
	     "  -h, --help                    this text\n"
	     "      --version                 version");
	for (size_t i = 0; i < own_count(d); i++)
		printf("      --%s %s\n                                %s\n", d->options[i].name,
		       d->options[i].arg, d->options[i].help);
	printf("\nManual: %s(8).\n", d->name);
}

/* -1: go on; else the exit status, as everywhere below. */
static int take_count(const struct daemon_spec *d, const char *option, unsigned max, unsigned *ret)
{
	uint64_t v;

	if (str_u64(optarg, &v) < 0 || v < 1 || v > max) {
		fprintf(stderr, "%s: bad value for --%s: '%s' (want 1 to %u)\n", d->name, option,
			STR_ESC(optarg), max);
		return EXIT_USAGE;
	}
	*ret = (unsigned)v;
	return -1;
}

static int take_own(const struct daemon_spec *d, const struct daemon_option *own,
		    const char **given, struct daemon_options *o)
{
	if (!own->many || !*given) {
		*given = optarg;
		return -1;
	}
	if (o->n_more == DAEMON_MORE_MAX) {
		fprintf(stderr, "%s: --%s may be given at most %d times\n", d->name, own->name,
			DAEMON_MORE_MAX + 1);
		return EXIT_USAGE;
	}
	o->more[o->n_more++] = optarg;
	return -1;
}

static int take_option(const struct daemon_spec *d, int key, struct daemon_options *o)
{
	if (key >= OWN_FIRST)
		return take_own(d, &d->options[key - OWN_FIRST], &o->given[key - OWN_FIRST], o);
	switch (key) {
	case 'w':
		return take_count(d, "number-of-workers", WORKERS_MAX, &o->workers);
	case 'P':
		return take_count(d, "prefetch-count", d->prefetch_max, &o->prefetch);
	case 'W':
		return take_count(d, "worker", WORKERS_MAX, &o->worker);
	case 'f':
		o->conf = optarg;
		return -1;
	case 'n':
		o->check = true;
		return -1;
	case 'v':
		o->verbose = true;
		return -1;
	case 'h':
		print_help(d);
		return 0;
	case 'V':
		printf("%s " ZR_VERSION "\n", d->name);
		return 0;
	default:
		return EXIT_USAGE;
	}
}

static int parse_options(const struct daemon_spec *d, int argc, char **argv,
			 struct daemon_options *o)
{
	static const struct option common[] = {
		{ "number-of-workers", required_argument, NULL, 'w' },
		{ "prefetch-count", required_argument, NULL, 'P' },
		{ "worker", required_argument, NULL, 'W' },
		{ "conf", required_argument, NULL, 'f' },
		{ "check", no_argument, NULL, 'n' },
		{ "verbose", no_argument, NULL, 'v' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
	};
	struct option longs[ARRAY_LEN(common) + DAEMON_OPTIONS_MAX + 1] = { 0 };
	int key, r = -1;

	memcpy(longs, common, sizeof(common));
	for (size_t i = 0; i < own_count(d); i++)
		longs[ARRAY_LEN(common) + i] =
			(struct option){ d->options[i].name, required_argument, NULL,
					 OWN_FIRST + (int)i };

	while (r < 0 && (key = getopt_long(argc, argv, "w:f:nvh", longs, NULL)) != -1)
		r = take_option(d, key, o);
	if (r >= 0 || optind == argc)
		return r;
	fprintf(stderr, "%s: unexpected argument '%s'; see %s --help\n", d->name,
		STR_ESC(argv[optind]), d->name);
	return EXIT_USAGE;
}

bool daemon_reload(struct settings *s, const char *conf, void (*before)(void *user), void *user)
{
	auto_done(settings_changes) c = { 0 };
	auto_obj(settings) fresh = NULL;
	struct err e = { 0 };
	int r = settings_load(conf, &fresh, &e);

	if (r == 0 && before)
		before(user);
	if (r == 0)
		r = settings_apply(s, fresh, &c, &e);
	if (r < 0) {
		log_err("settings stay as they are: %s", e.msg);
		return false;
	}
	log_notice("settings read again from %s: %s%s", fresh->file,
		   c.applied.data ? "new are " : "nothing to take over",
		   c.applied.data ? c.applied.data : "");
	if (c.restart.data)
		log_warning("changed too, and in force only after a restart: %s", c.restart.data);
	return true;
}

/* The one name that begins with these n bytes. */
static const char *complete(const char *const *names, const char *prefix, size_t n)
{
	const char *found = NULL;

	for (; n && *names; names++) {
		if (strncmp(*names, prefix, n) != 0)
			continue;
		if (found)
			return NULL;
		found = *names;
	}
	return found;
}

void daemon_spell(int argc, char **argv, const char *const *first)
{
	for (int i = 1; i < argc && !str_eq(argv[i], "--"); i++) {
		char *name = argv[i] + 2, *whole = NULL;
		const char *full;
		size_t n;

		if (!str_starts(argv[i], "--"))
			continue;
		n = strcspn(name, "=");
		for (size_t k = 0; k < n; k++)
			if (name[k] == '_')
				name[k] = '-';
		full = complete(first, name, n);
		if (full && n < strlen(full) && str_fmt(&whole, "--%s%s", full, name + n) >= 0)
			argv[i] = whole;
	}
}

int daemon_main(int argc, char **argv, const struct daemon_spec *d)
{
	struct daemon_options o = { .workers = 1, .prefetch = d->prefetch };
	auto_obj(settings) s = NULL;
	struct err e = { 0 };
	int r = parse_options(d, argc, argv, &o);

	if (r >= 0)
		return r;
	/* The passwords in our memory and environment are nobody's business. */
	prctl(PR_SET_DUMPABLE, 0);
	log_init(d->name, o.verbose ? LOG_DEBUG : LOG_INFO);
	r = settings_load(o.conf, &s, &e);
	if (r == 0)
		r = d->check(&o, s, &e);
	if (r < 0) {
		log_err("%s", e.msg);
		return EXIT_USAGE;
	}
	if (o.check)
		return 0;
	r = o.worker ? d->run(&o, s, &e) : run_supervisor(d, &o, &e);
	if (r >= 0)
		return r;
	log_err("%s", e.msg);
	return e.kind == ERR_INPUT ? EXIT_USAGE : 1;
}

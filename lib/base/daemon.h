/* SPDX-License-Identifier: MIT */
/*
 * main() of a daemon of equal workers: options, settings, log, then the supervisor, or with --worker
 * one of its workers. The one place of lib/ that speaks to a person.
 */
#ifndef ZR_BASE_DAEMON_H
#define ZR_BASE_DAEMON_H

#include <stdbool.h>

#include "base/err.h"
#include "base/settings.h"

/* Options that one daemon has beside those of all: --NAME=ARG. */
struct daemon_option {
	const char *name, *arg, *help; /* name NULL: the end of the table */
	bool many;                     /* may be given more than once */
};
#define DAEMON_OPTIONS_MAX 16
#define DAEMON_MORE_MAX    63

struct daemon_options {
	char *conf; /* --conf, or NULL */
	unsigned workers, prefetch;
	unsigned worker; /* 0: the supervisor */
	bool check, verbose;
	const char *given[DAEMON_OPTIONS_MAX]; /* by the daemon's own table; NULL: not given */
	/* Further values of the one that may be given more than once. */
	const char *more[DAEMON_MORE_MAX];
	size_t n_more;
};

struct daemon_spec {
	const char *name;    /* "zr-eval" */
	const char *purpose; /* a sentence for --help */
	unsigned prefetch, prefetch_max;
	const struct daemon_option *options; /* of its own, or NULL */
	/* Lets options have their say. ERR_INPUT: a setting that this daemon needs is missing. */
	int (*check)(struct daemon_options *o, struct settings *s, struct err *e);
	/* Runs one worker; returns its exit status, or -errno. */
	int (*run)(const struct daemon_options *o, struct settings *s, struct err *e);
};

/* Long options may be written with '_' for '-'; and what only one of the names in `first`, which NULL
 * ends, begins with is that one, whatever other options begin so. What is replaced in argv is not freed. */
void daemon_spell(int argc, char **argv, const char *const *first);

/* Returns the exit status: 2 for a wrong call or settings that cannot work. */
int daemon_main(int argc, char **argv, const struct daemon_spec *d);

/*
 * SIGHUP: reads the settings again from where they came and takes over what may change, and says what
 * changed and what of it needs a restart. `before` (may be NULL) is called when they are good, while
 * the old ones still hold: to let go of what was read from them. False: they stay as they are.
 */
bool daemon_reload(struct settings *s, const char *conf, void (*before)(void *user), void *user);

#endif

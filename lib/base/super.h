/* SPDX-License-Identifier: MIT */
/*
 * A daemon of N equal worker processes under a supervisor. The supervisor starts the program itself
 * again as `argv… --worker=N`, with a socket on descriptor SUPER_FD; over it a worker says that it is
 * ready and, every few seconds, that it is alive. A worker that ends or falls silent is replaced,
 * with a growing pause if it keeps failing. A worker whose supervisor is gone is told by its link.
 */
#ifndef ZR_BASE_SUPER_H
#define ZR_BASE_SUPER_H

#include "base/attr.h"
#include "base/err.h"
#include "base/loop.h"

#define SUPER_FD 3
/* A frozen worker is noticed well inside the default lease of 60 s. */
#define SUPER_BEAT_USEC    (5 * USEC_PER_SEC)
#define SUPER_SILENCE_USEC (25 * USEC_PER_SEC)

struct super_spec {
	unsigned workers;
	char *const *argv; /* NULL-terminated; argv[0] is a name, the file is /proc/self/exe */
	/* What the supervisor has to say; `level` is syslog's. */
	void (*report)(int level, const char *text);
	uint64_t silence_usec; /* 0: SUPER_SILENCE_USEC */
};

/*
 * Runs until every worker has ended after SIGTERM or SIGINT, which reach the workers as SIGTERM (the
 * second one too), as SIGHUP does. Says READY=1 when all workers are ready, serves the watchdog. A
 * worker's status 2 (configuration) ends the whole. Returns the exit status: the highest of the
 * workers that ended since the stop began.
 */
int super_run(const struct super_spec *spec, struct err *e) must_check;

/* The worker's end. `on_lost` is called once, when the supervisor has gone. */
struct super_link;
int super_link_new(struct loop *l, int fd, void (*on_lost)(void *user), void *user,
		   struct super_link **ret, struct err *e) must_check;
void super_link_free(struct super_link *k);
DEFINE_AUTO(super_link);
void super_link_ready(struct super_link *k);

/*
 * To be asked for every SIGTERM and SIGINT. Control-C and service managers tell all processes, and
 * the supervisor tells its workers once more: what comes soon after the first is the same word.
 */
enum super_word {
	SUPER_STOP,  /* the first: finish what is at hand */
	SUPER_SAME,  /* the first again: nothing new */
	SUPER_LEAVE, /* told twice: leave at once */
};
#define SUPER_TWICE_USEC (500 * USEC_PER_MSEC)
enum super_word super_link_told(struct super_link *k) must_check;

#endif

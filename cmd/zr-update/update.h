/* SPDX-License-Identifier: MIT */
/* The parts of zr-update and what they share; main.c has the theory of operation. */
#ifndef ZR_CMD_ZR_UPDATE_UPDATE_H
#define ZR_CMD_ZR_UPDATE_UPDATE_H

#include <stdbool.h>

#include "base/attr.h"
#include "base/loop.h"
#include "base/settings.h"
#include "store/db_pipe.h"

struct audit;
struct boards;
struct collect;
struct intake;
struct leader;
struct outlet;
struct prune;
struct resend;
struct seek;

#define UPDATE_NAME_MAX 300

struct update {
	struct loop *loop;
	struct settings *settings;
	const char *conf;           /* where they came from, or NULL */
	unsigned number, prefetch;  /* of this worker, from 1; window of unacknowledged events */
	char name[UPDATE_NAME_MAX]; /* "<host>/<number>" */

	struct intake *intake;
	struct outlet *outlet;
	/* One connection for events, in intake.c, so that nothing slow stands before a commit; this
	 * one for all else. */
	struct db_pipe *work;
	struct leader *leader;
	struct audit *audit;
	struct boards *boards;
	struct collect *collect;
	struct prune *prune;
	struct resend *resend;
	struct seek *seek;

	bool draining;
};

/* Committed: something changed that the leader acts on. This process may be it, or tells it. */
void update_changed(struct update *u, bool ended, bool collect);
/* The leader looks for itself: when it becomes the leader, when told, and every few seconds. */
void update_look(struct update *u);
/* The broker and the database answer; called once each way. */
void update_ready(struct update *u);
/* A connection to the database is up, or its schema is known to be ours. */
void update_database(struct update *u);
/* Something that retrying cannot cure. */
void update_stop(struct update *u, int status);

/* A failed batch of the connection `work`: words for the log, and the exit if it is for ever. True:
 * trying again makes sense. */
bool update_failed(struct update *u, const char *what, const struct db_outcome *o);

#endif

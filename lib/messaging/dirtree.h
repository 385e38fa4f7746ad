/* SPDX-License-Identifier: MIT */
/*
 * The folder of a directory channel, zr-channel(7), and the way of a request through it by renames:
 *
 *	requests/NAME.json                  waits
 *	claimed/HOST.N/UUID-NAME.json       taken by that worker, not looked into yet
 *	claimed/HOST.N/EV.ATT.UUID.req      it is a request, and not settled
 *	claimed/HOST.N/EV.ATT.UUID.run      settled: the worker owes its end
 *	(gone)                              its end is in events/
 *	claimed/HOST.N/EV.ATT.UUID.again    another attempt follows: the request for it, until its time
 *	claimed/HOST.N/EV.ATT.UUID.over     the one before: its end may be told again after a crash
 *	claimed/HOST.N/UUID.lost            taken from a worker that was lost, still its attempt
 *	dead/FILE, FILE.reason              refused, as it came, under its name in claimed, and why
 *
 * A rename succeeds for one of those who try it, so that a request has one owner at any moment.
 */
#ifndef ZR_MESSAGING_DIRTREE_H
#define ZR_MESSAGING_DIRTREE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"

#define DIRTREE_REQUEST ".json" /* in requests */
#define DIRTREE_TAKEN   ".json" /* in claimed/HOST.N */
#define DIRTREE_CLAIM   ".req"
#define DIRTREE_RUN     ".run"
#define DIRTREE_LOST    ".lost"
#define DIRTREE_AGAIN   ".again"
#define DIRTREE_OVER    ".over"

struct dirtree {
	char *path;
	char host[80], worker[96]; /* "oberon", "oberon.1" */
	int requests, claimed, mine, events, control, dead, workers, live;
};
/* No folder is open. */
#define DIRTREE_NONE                                                                               \
	((struct dirtree){ .requests = -1,                                                         \
			   .claimed = -1,                                                          \
			   .mine = -1,                                                             \
			   .events = -1,                                                           \
			   .control = -1,                                                          \
			   .dead = -1,                                                             \
			   .workers = -1,                                                          \
			   .live = -1 })

/* The folders are made if they are missing. */
int dirtree_open(const char *path, const char *host, unsigned worker, struct dirtree *ret,
		 struct err *e) must_check;
void dirtree_done(struct dirtree *t);
/* False: somebody has removed one of the folders, or another one is in the place of `requests`. */
bool dirtree_is_whole(const struct dirtree *t);
DEFINE_AUTO_DONE(dirtree);

/* All *ret are allocated names in `mine`. -ENOENT: somebody else has it now. */
int dirtree_take(const struct dirtree *t, const char *name, char **ret, struct err *e) must_check;
int dirtree_take_lost(const struct dirtree *t, const char *worker, const char *name, char **ret,
		      struct err *e) must_check;
int dirtree_claim(const struct dirtree *t, const char *taken, const char *evaluation, int attempt,
		  char **ret, struct err *e) must_check;
/* The next attempt of a request that was taken from a lost worker. */
int dirtree_again(const struct dirtree *t, const char *lost, const char *evaluation, int attempt,
		  const void *data, size_t n, char **ret, struct err *e) must_check;

int dirtree_settle(const struct dirtree *t, const char *claim, struct err *e) must_check;
/* Back to the requests, under `name` if that is free. */
int dirtree_give_back(const struct dirtree *t, const char *claim, const char *name,
		      struct err *e) must_check;
int dirtree_bury(const struct dirtree *t, const char *file, const char *name, const char *reason,
		 const char *detail, struct err *e) must_check;

/* True: another one has taken the place of the attempt. It is known for as long as its end may be told
 * again. */
bool dirtree_is_replaced(const struct dirtree *t, const char *evaluation, int attempt);
/* What a worker of this host holds of the attempt. -ENOENT: nothing. */
int dirtree_find(const struct dirtree *t, const char *evaluation, int attempt, int *ret_dirfd,
		 char **ret_name, struct err *e) must_check;
/* In its place comes the request for the next attempt; what was replaced is known by another name. */
int dirtree_replace(const struct dirtree *t, int dirfd, const char *name, const char *evaluation,
		    int next_attempt, const void *data, size_t n, char **ret_again, char **ret_over,
		    struct err *e) must_check;
/* The first joins the requests that wait, behind them; the second goes. */
int dirtree_let_go(const struct dirtree *t, const char *again, struct err *e) must_check;
/* One that a lost worker had. Under the same name. */
int dirtree_take_again(const struct dirtree *t, const char *worker, const char *name,
		       struct err *e) must_check;

/* Everything that any worker of this host holds of the attempt goes: its end is told. */
void dirtree_ended(const struct dirtree *t, const char *evaluation, int attempt);

/* What the former worker `number` of this host held is ours. */
int dirtree_inherit(const struct dirtree *t, const char *number, struct err *e) must_check;

/* What was renamed so far survives a crash. */
int dirtree_sync(const struct dirtree *t, struct err *e) must_check;

#endif

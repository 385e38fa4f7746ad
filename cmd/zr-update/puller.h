/* SPDX-License-Identifier: MIT */
/*
 * One `zr-fetch --serve` process, for one eval host: commands go in, answers come out, one JSON line
 * each, over a socket (zr-fetch(8)). The process is started by the first command.
 */
#ifndef ZR_CMD_ZR_UPDATE_PULLER_H
#define ZR_CMD_ZR_UPDATE_PULLER_H

#include <jansson.h>

#include "base/loop.h"
#include "base/settings.h"

struct puller;
/* The answer to the command; NULL: the process ended or fell silent, and `why` says how. Called once
 * for each command. */
typedef void (*puller_fn)(void *user, const json_t *answer, const char *why);

/* `name` is a safe file name. */
int puller_new(struct loop *l, const struct settings *s, const char *name, puller_fn fn, void *user,
	       struct puller **ret, struct err *e) must_check;
/* Ends the process; what it was doing is given up without an answer. */
void puller_free(struct puller *p);
DEFINE_AUTO(puller);

/* One command at a time. */
int puller_send(struct puller *p, const json_t *command, struct err *e) must_check;

#endif

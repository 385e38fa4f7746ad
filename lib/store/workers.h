/* SPDX-License-Identifier: MIT */
/* Who was heard of, and the evaluators they offer. */
#ifndef ZR_STORE_WORKERS_H
#define ZR_STORE_WORKERS_H

#include "store/db.h"

/* List of {worker, host, pid, state, alive, since, at, jobs: [{evaluation, attempt, phase, since}],
 * evaluators: […]}, by name. alive: heard of in the last 30 s and not gone. */
int workers_list(struct db *d, json_t **ret, struct err *e) must_check;
/* Forgets workers not heard of for so long; returns how many. */
int workers_forget(struct db *d, uint64_t older_usec, struct err *e) must_check;

/* What `evaluators:discover` found on a host: replaces that host's rows. `found` is a list of
 * {name, description, …}; the whole object is kept. */
int evaluators_set(struct db *d, const char *host, const json_t *found, struct err *e) must_check;
/* List of {name, host, description, seen_at, …}; of what only the host's workers told {name, host,
 * seen_at}. */
int evaluators_list(struct db *d, json_t **ret, struct err *e) must_check;

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Keeps the cache of submissions (fetch.h) under the setting cache_max: now and then, after something
 * was added, a zr-fetch removes what was not used for the longest time. What a box uses stays, and so
 * does what was used since the boxes were looked at: evict_use() notes that in the folder's mtime,
 * under a lock that the removal takes too.
 */
#ifndef ZR_CMD_ZR_EVAL_EVICT_H
#define ZR_CMD_ZR_EVAL_EVICT_H

#include <stdbool.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/loop.h"
#include "base/settings.h"

/* True: the folder is there and will stay for a job whose box was written before this call. */
bool evict_use(const char *dir);

struct evict;
/* `program` is zr-fetch; both strings must outlive the cache. */
int evict_new(struct loop *l, const struct settings *s, const char *program, struct evict **ret,
	      struct err *e) must_check;
void evict_free(struct evict *c);
DEFINE_AUTO(evict);

/* Something was added. */
void evict_grew(struct evict *c);

#endif

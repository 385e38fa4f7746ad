/* SPDX-License-Identifier: MIT */
/*
 * Submissions on this host. A submission lies unpacked in <state_dir>/cache/<root hash in hex>/files,
 * brought once by zr-fetch; its name is its content, so it is never out of date, and a copy that was
 * changed since is fetched again (cache.h). Jobs that want one that is on its way wait for the same
 * fetch. The cache stays under cache_max (evict.h).
 */
#ifndef ZR_CMD_ZR_EVAL_FETCH_H
#define ZR_CMD_ZR_EVAL_FETCH_H

#include <stdbool.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/loop.h"
#include "base/settings.h"

#define DIGEST_PREFIX "sha256:"

/* The folder of a submission, whether it is there or not. `digest` is "sha256:…". Allocated. */
int fetch_cache_dir(const struct settings *s, const char *digest, char **ret,
		    struct err *e) must_check;
/* True: it is there, whole, and stays for a job whose box was written before this call. A copy that was
 * changed is dropped, with a warning. */
bool fetch_is_cached(const char *dir);

struct fetcher;
int fetcher_new(struct loop *l, const struct settings *s, struct fetcher **ret,
		struct err *e) must_check;
void fetcher_free(struct fetcher *f);
DEFINE_AUTO(fetcher);

/* `why` NULL: it is in the cache. Else why it will never be, and whether this side is to blame. */
typedef void (*fetch_done_fn)(void *user, const char *why, bool ours);

struct fetch_wait;
/*
 * Gets the submission from `source`: file:///folder, ssh://HOST/folder (HOST: a `host` section of
 * the settings) or incoming: (pushed to this host). Failures that may pass are tried again for
 * FETCH_PATIENCE_USEC. `done` is called from the loop, once, unless fetch_wait_free() comes first.
 * ERR_INPUT: not a source.
 */
#define FETCH_PATIENCE_USEC (600 * USEC_PER_SEC)
int fetcher_get(struct fetcher *f, const char *digest, const char *source, fetch_done_fn done,
		void *user, struct fetch_wait **ret, struct err *e) must_check;
void fetch_wait_free(struct fetch_wait *w);

#endif

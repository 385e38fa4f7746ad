/* SPDX-License-Identifier: MIT */
/*
 * The addresses of the hosts that a database URL names. libpq would look them up itself, and block:
 * a name server that does not answer would stop the loop.
 */
#ifndef ZR_STORE_DB_HOSTS_H
#define ZR_STORE_DB_HOSTS_H

#include <stdbool.h>

#include "base/loop.h"
#include "base/str.h"

/* libpq's parameters `host`, `hostaddr` and `port`: lists, an entry for each address. */
struct db_addresses {
	struct buf host, hostaddr, port;
	size_t n;
};

/* Is there a name among these `hosts`, a list as libpq has it? NULL: no. */
bool db_hosts_named(const char *hosts);

struct db_hosts;

/* NULL addresses: no host has one, and `why` says so of the last. Called once, unless freed before;
 * may free it. */
typedef void (*db_hosts_fn)(void *user, const struct db_addresses *a, const struct err *why);

/* `ports` as libpq has it: NULL, one for all, or one for each host. db_hosts_named(hosts). A name that
 * has no address is left out if others have one. */
int db_hosts_start(struct loop *l, const char *hosts, const char *ports, db_hosts_fn fn, void *user,
		   struct db_hosts **ret, struct err *e) must_check;
struct db_hosts *db_hosts_free(struct db_hosts *h); /* takes NULL, returns NULL */

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Host names to addresses without blocking: getent(1) asks the resolver of the system, with all
 * sources of nsswitch.conf(5), in a process that may wait for a name server as long as it likes.
 */
#ifndef ZR_BASE_RESOLVE_H
#define ZR_BASE_RESOLVE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/loop.h"

enum {
	RESOLVE_MAX = 16
};

/* In the order in which they should be tried. */
struct resolve_addrs {
	size_t n;
	struct {
		struct sockaddr_storage sa;
		socklen_t len;
	} addr[RESOLVE_MAX];
};

/* False: `host` is no numeric address, so it must be looked up. */
bool resolve_numeric(const char *host, unsigned port, struct resolve_addrs *ret);

struct resolve;

/* NULL addresses: `why` says (ERR_TRANSIENT). Called once, unless freed before; may free it. */
typedef void (*resolve_fn)(void *user, const struct resolve_addrs *addrs, const struct err *why);

/* It has no deadline of its own. */
int resolve_start(struct loop *l, const char *host, unsigned port, resolve_fn fn, void *user,
		  struct resolve **ret, struct err *e) must_check;
struct resolve *resolve_free(struct resolve *r); /* takes NULL, returns NULL */

/* Adds what `getent ahosts` prints, as long as there is room: "ADDRESS  STREAM NAME", the same for other
 * types, which are left out as all other lines are. Cuts the text into words. */
void resolve_parse(char *text, unsigned port, struct resolve_addrs *to);

#endif

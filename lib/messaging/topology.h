/* SPDX-License-Identifier: MIT */
/*
 * The exchanges, queues and bindings of zr. `zr topology:apply` creates them; nothing else does: a
 * quorum queue younger than two seconds can lose confirmed messages when its broker is killed.
 */
#ifndef ZR_MESSAGING_TOPOLOGY_H
#define ZR_MESSAGING_TOPOLOGY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/settings.h"
#include "messaging/session.h"

#define TOPOLOGY_EXCHANGE "zr"
#define TOPOLOGY_DEAD     "zr.dead" /* exchange and queue */
#define TOPOLOGY_UPDATE   "zr.update"
#define TOPOLOGY_EVENTS   "zr.events"  /* stream */
#define TOPOLOGY_CONTROL  "zr.control" /* stream */

enum topology_kind {
	TOPOLOGY_EXCHANGE_KIND,
	TOPOLOGY_QUORUM,
	TOPOLOGY_STREAM,
};

/* One exchange or queue with what it is bound to. */
struct topology_item {
	enum topology_kind kind;
	char *name;
	const char *exchange_type;  /* of an exchange */
	char *bindings[8];          /* routing keys on TOPOLOGY_EXCHANGE; NULL ends */
	const char *binding_source; /* NULL: TOPOLOGY_EXCHANGE */
	bool work;                  /* holds requests */
};

/* What the settings ask for: their pools, this host and the hosts of their sections. */
int topology_list(const struct settings *s, struct topology_item **ret, size_t *ret_n,
		  struct err *e) must_check;
void topology_list_free(struct topology_item *items, size_t n);

/* Names of the work queues of one worker in the order in which they are served: to be freed with
 * strv_free(). */
int topology_work_queues(char *const *pools, const char *host, char ***ret,
			 struct err *e) must_check;

/* The name of the queue that requests with this routing key go to, to be freed. -EINVAL: it is none of a
 * request. */
int topology_request_queue(const char *routing_key, char **ret) must_check;

struct topology_state {
	const struct topology_item *item;
	bool present;
	bool ready;                   /* present, and as wanted as far as the broker tells */
	const char *problem;          /* sentence with the cure, or NULL */
	uint64_t messages, consumers; /* of a queue */
};
typedef void (*topology_fn)(void *user, const struct topology_state *st);

/* Creates what is missing and leaves what is there; `fn` (may be NULL) hears of every item. The
 * first item that exists with other properties is the error, ERR_INPUT, with the cure. */
int topology_apply(struct session *s, const struct topology_item *items, size_t n, topology_fn fn,
		   void *user, struct err *e) must_check;
/* Only looks. Returns how many items are missing or have other properties than wanted. */
int topology_check(struct session *s, const struct topology_item *items, size_t n, topology_fn fn,
		   void *user, struct err *e) must_check;

#endif

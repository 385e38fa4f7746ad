/* SPDX-License-Identifier: MIT */
/*
 * A non-blocking byte stream to a server, plain TCP or TLS, on the event loop; the look-up of the
 * host's name does not block either.
 *
 * TLS: version 1.2 or later, the server's certificate and its name or address are verified.
 */
#ifndef ZR_MESSAGING_TRANSPORT_H
#define ZR_MESSAGING_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/loop.h"
#include "base/str.h"

struct transport;
struct transport_tls; /* authorities and certificates, shared by connections */

/* NULL files: the system's authorities, no client certificate. INPUT: a file is unusable. */
int transport_tls_new(const char *ca_file, const char *cert_file, const char *key_file,
		      struct transport_tls **ret, struct err *e) must_check;
void transport_tls_free(struct transport_tls *t);

struct transport_ops {
	void (*on_open)(void *user);
	/* `in` has grown; take bytes from its front. */
	void (*on_data)(void *user, struct buf *in);
	/* Broken or closed by the server; nothing is called afterwards. */
	void (*on_broken)(void *user, const struct err *why);
};

/* `tls` NULL: plain TCP. An error now is one that on_broken would have said. */
int transport_new(struct loop *l, const char *host, unsigned port, struct transport_tls *tls,
		  const struct transport_ops *ops, void *user, struct transport **ret,
		  struct err *e) must_check;
/* May be called from within its callbacks. What waits is not sent. */
void transport_free(struct transport *t);

/* Append here, then transport_kick(): sent at the end of this turn of the loop. */
struct buf *transport_out(struct transport *t);
void transport_kick(struct transport *t);
/* Gives the kernel what it takes, now. */
void transport_flush(struct transport *t);
/* Bytes ever received: for heartbeats. */
uint64_t transport_received(const struct transport *t);

#endif

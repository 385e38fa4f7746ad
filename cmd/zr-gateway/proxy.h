/* SPDX-License-Identifier: MIT */
/*
 * The driver's side of the dialect pike (zr-channel(7)) for clients that speak HTTP: requests become
 * pairs in the input folder, pairs of the output folder become answers, which are kept in the folder
 * `gateway` beside the two, under a hash of their id, so that a restart loses none.
 */
#ifndef ZR_CMD_ZR_GATEWAY_PROXY_H
#define ZR_CMD_ZR_GATEWAY_PROXY_H

#include "base/attr.h"
#include "base/err.h"
#include "base/loop.h"
#include "http.h"

struct proxy;
/* Empties the input folder, as whoever writes to one does at its start. */
int proxy_new(struct loop *l, const char *worker_io, struct proxy **ret, struct err *e) must_check;
void proxy_free(struct proxy *p);
DEFINE_AUTO(proxy);

/* An http_fn. */
void proxy_handle(void *user, const struct http_request *rq, struct http_reply *reply);

#endif

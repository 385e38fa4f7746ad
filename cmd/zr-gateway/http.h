/* SPDX-License-Identifier: MIT */
/* A small HTTP server on the event loop: whole requests come, whole replies go, connections close. */
#ifndef ZR_CMD_ZR_GATEWAY_HTTP_H
#define ZR_CMD_ZR_GATEWAY_HTTP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/loop.h"
#include "base/str.h"

#define HTTP_BODY_MAX (64u << 20)

struct http_request {
	const char *method, *path; /* without the query */
	const char *id;            /* of the query, decoded; NULL: none */
	const char *body;
	size_t n;
};

struct http_reply {
	unsigned status;
	const char *type; /* NULL: no Content-Type */
	struct buf body;  /* freed by the server */
	bool hang_up;     /* no reply at all */
};

typedef void (*http_fn)(void *user, const struct http_request *rq, struct http_reply *reply);

struct http;
/* On 127.0.0.1 alone: there is no authentication. */
int http_new(struct loop *l, uint16_t port, http_fn fn, void *user, struct http **ret,
	     struct err *e) must_check;
void http_free(struct http *h);
DEFINE_AUTO(http);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * amqp://user:password@host:port/vhost and amqps://…: user, password, host and vhost percent-encoded,
 * IPv6 addresses in brackets. Errors never quote the URL: it holds a password.
 */
#ifndef ZR_MESSAGING_URL_H
#define ZR_MESSAGING_URL_H

#include <stdbool.h>

#include "base/attr.h"
#include "base/err.h"

struct url {
	bool tls;
	bool login;            /* a user was named */
	char *user, *password; /* "guest" when not given */
	char *host;            /* "localhost" */
	unsigned port;         /* 5672, with TLS 5671 */
	char *vhost;           /* "/" */
};

int url_parse(const char *text, struct url *ret, struct err *e) must_check;
void url_done(struct url *u);
DEFINE_AUTO_DONE(url);

/* The same for people, without the password: "amqp://user@host:port/vhost". Allocated. */
int url_where(const struct url *u, char **ret, struct err *e) must_check;

#endif

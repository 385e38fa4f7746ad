/* SPDX-License-Identifier: MIT */
/* An AMQP URL: what is shown of an accepted one must not hold its password. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "messaging/url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_free char *text = strndup((const char *)data, size), *where = NULL;
	auto_done(url) u = { 0 };
	struct err e = { 0 };

	assert(text);
	if (url_parse(text, &u, &e) < 0) {
		assert(e.kind == ERR_INPUT && e.msg[0]);
		return 0;
	}
	assert(u.port >= 1 && u.port <= 65535 && *u.host && *u.vhost);
	assert(url_where(&u, &where, &e) == 0);
	return 0;
}

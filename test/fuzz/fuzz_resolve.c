/* SPDX-License-Identifier: MIT */
/* What getent(1) prints: only addresses come of it, no more than there is room for. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/resolve.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_free char *text = strndup((const char *)data, size);
	struct resolve_addrs a = { 0 };

	assert(text);
	resolve_parse(text, 5672, &a);
	assert(a.n <= RESOLVE_MAX);
	for (size_t i = 0; i < a.n; i++) {
		int family = a.addr[i].sa.ss_family;

		assert(family == AF_INET || family == AF_INET6);
		assert(a.addr[i].len <= sizeof(a.addr[i].sa));
	}
	return 0;
}

/* SPDX-License-Identifier: MIT */
#include <stdint.h>

#include "messaging/spool.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const void *payload;
	size_t len, n;

	while ((n = spool_parse(data, size, &payload, &len))) {
		if (n > size || (const uint8_t *)payload + len > data + size)
			__builtin_trap();
		data += n;
		size -= n;
	}
	return 0;
}

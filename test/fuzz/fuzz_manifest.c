/* SPDX-License-Identifier: MIT */
/* The manifest comes from a host that may be taken over. What is accepted must be canonical: it is
 * written again as the same bytes. */
#include <stdlib.h>
#include <string.h>

#include "transfer/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_done(manifest) m = { 0 };
	auto_buf struct buf b = { 0 };
	uint8_t root[HASH_SIZE];
	struct err e;

	if (manifest_parse(data, size, 0, &m, &e) < 0)
		return 0;
	if (manifest_encode(&m, &b, root, &e) < 0 || b.len != size ||
	    memcmp(b.data, data, size) != 0)
		abort();
	return 0;
}

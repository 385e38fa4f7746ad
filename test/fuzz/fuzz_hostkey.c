/* SPDX-License-Identifier: MIT */
/* The host's key comes from the host; known_hosts is ours but written by people. */
#include <stdlib.h>
#include <string.h>

#include "transfer/hostkey.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_done(hostkey) k = { .base64 = NULL };
	auto_buf struct buf file = { 0 }, list = { 0 };
	char pinned[64];
	struct err e;

	if (hostkey_read(data, size, &k, &e) < 0) {
		k.base64 = strdup("AAAA");
		memcpy(k.type, "ssh-ed25519", 12);
	}
	if (buf_add(&file, data, size) < 0 || hostkey_types(&file, "h", &list) < 0)
		abort();
	if (hostkey_check(&file, "h", &k, pinned) > 0)
		abort();
	return 0;
}

/* SPDX-License-Identifier: MIT */
#include "base/hash.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

void hash_init(struct hash *h)
{
	sha256_init(&h->ctx);
}

void hash_add(struct hash *h, const void *data, size_t n)
{
	sha256_update(&h->ctx, n, data);
}

void hash_end(struct hash *h, uint8_t ret[HASH_SIZE])
{
	sha256_digest(&h->ctx, HASH_SIZE, ret);
}

char *hash_hex(char out[65], const uint8_t sum[HASH_SIZE])
{
	for (size_t i = 0; i < HASH_SIZE; i++)
		snprintf(out + 2 * i, 3, "%02x", sum[i]);
	return out;
}

char *hash_text(char out[HASH_TEXT_MAX], const uint8_t sum[HASH_SIZE])
{
	memcpy(out, "sha256:", 7);
	hash_hex(out + 7, sum);
	return out;
}

static int nibble(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int hash_parse_hex(const char *s, uint8_t ret[HASH_SIZE])
{
	if (strlen(s) != 2 * HASH_SIZE)
		return -EINVAL;
	for (size_t i = 0; i < HASH_SIZE; i++) {
		int hi = nibble(s[2 * i]), lo = nibble(s[2 * i + 1]);

		if (hi < 0 || lo < 0)
			return -EINVAL;
		ret[i] = (uint8_t)(hi << 4 | lo);
	}
	return 0;
}

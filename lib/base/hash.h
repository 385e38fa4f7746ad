/* SPDX-License-Identifier: MIT */
/* SHA-256 (nettle: small, static, uses the processor's instructions where it has them). */
#ifndef ZR_BASE_HASH_H
#define ZR_BASE_HASH_H

#include <nettle/sha2.h>
#include <stddef.h>
#include <stdint.h>

#define HASH_SIZE     32
#define HASH_TEXT_MAX 72 /* "sha256:" + 64 + NUL */

struct hash {
	struct sha256_ctx ctx;
};
void hash_init(struct hash *h);
void hash_add(struct hash *h, const void *data, size_t n);
void hash_end(struct hash *h, uint8_t ret[HASH_SIZE]); /* and starts anew */

char *hash_hex(char out[65], const uint8_t sum[HASH_SIZE]);
char *hash_text(char out[HASH_TEXT_MAX], const uint8_t sum[HASH_SIZE]); /* "sha256:<hex>" */
int hash_parse_hex(const char *s, uint8_t ret[HASH_SIZE]);              /* 64 digits, or -EINVAL */

#endif

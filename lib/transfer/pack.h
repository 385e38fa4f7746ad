/* SPDX-License-Identifier: MIT */
/*
 * The writing end of a pack: bytes go in, a zstd stream (level 1, one thread) goes to a file, and
 * its hashes, whole and by chunk, are made on the way. A pack that nothing was written to is an
 * archive without entries, always of the same bytes.
 */
#ifndef ZR_TRANSFER_PACK_H
#define ZR_TRANSFER_PACK_H

#include "base/err.h"
#include "transfer/manifest.h"

struct pack;
/* `fd` stays the caller's. */
int pack_new(int fd, struct pack **ret, struct err *e) must_check;
void pack_free(struct pack *p);
DEFINE_AUTO(pack);
int pack_write(struct pack *p, const void *data, size_t n, struct err *e) must_check;
/* Ends the stream and fills m's pack fields. */
int pack_end(struct pack *p, struct manifest *m, struct err *e) must_check;

#endif

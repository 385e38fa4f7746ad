/* SPDX-License-Identifier: MIT */
/*
 * Writes the tar headers of a pack: POSIX ustar, preceded by a pax header where a path or size does
 * not fit. Owner 0, mode 0640 or 0750, time 0: equal content makes equal bytes.
 */
#ifndef ZR_TRANSFER_PAX_H
#define ZR_TRANSFER_PAX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

#define PAX_BLOCK 512

/* Appends the header block or blocks of one entry. `path` has no '/' at its end. */
int pax_header(struct buf *b, const char *path, bool dir, uint64_t size) must_check;
/* Zero bytes from the end of a file of `size` bytes to the next block. */
static inline unsigned pax_padding(uint64_t size)
{
	return (unsigned)(-size & (PAX_BLOCK - 1));
}
/* Two blocks of zeros end the archive. */
#define PAX_END_BYTES (2 * PAX_BLOCK)

#endif

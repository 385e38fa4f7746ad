/* SPDX-License-Identifier: MIT */
/*
 * Reads one large file over SFTP version 3 from a descriptor that is already a session: an ssh(1)
 * that somebody else started. libssh2 ciphers 16 bytes a call and in our own process; on a short
 * line that, not the line, is the limit. Nothing depends on this reader: its errors mean "use the
 * other one". The bytes are as hostile as any: every length is checked before it is used.
 */
#ifndef ZR_TRANSFER_BULK_H
#define ZR_TRANSFER_BULK_H

#include <stdint.h>

#include "base/err.h"

#define BULK_READ_MAX ((size_t)4 << 20)

struct bulk;
struct bulk_spec {
	const char *path;
	uint64_t size;
	uint64_t rtt_usec;  /* of a round trip: how much is asked for ahead */
	uint64_t wait_usec; /* at most, for the session, then for each byte */
	int abort_fd;       /* ends a wait; -1: none */
};
/* Takes `fd`, also on failure. Does not wait for the session, which takes as long as a login. */
int bulk_open(int fd, const struct bulk_spec *spec, struct bulk **ret, struct err *e) must_check;
void bulk_free(struct bulk *b);
DEFINE_AUTO(bulk);
/* Does not wait either. 1: bulk_read() may be called; 0: not yet. */
int bulk_ready(struct bulk *b, struct err *e) must_check;
/* As sftp_read(); `offset` is a multiple of BULK_READ_MAX and never goes back. */
int bulk_read(struct bulk *b, uint64_t offset, size_t n, const void **ret_data, size_t *ret_n,
	      struct err *e) must_check;

/* Takes in what is there without waiting, so that the other end goes on while we work on a chunk.
 * An error shows at the next read. */
void bulk_pump(struct bulk *b);

#endif

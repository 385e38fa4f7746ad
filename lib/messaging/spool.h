/* SPDX-License-Identifier: MIT */
/*
 * A durable outbox: records are appended to segment files, synced together once per turn of the
 * loop, read back in order, and forgotten when their receiver has confirmed them. A record torn by
 * a crash is recognised by length and checksum and cut off. One process per folder (locked).
 *
 * Records are numbered from 1 in the order of their appending; the numbers of what is found in the
 * folder come first.
 */
#ifndef ZR_MESSAGING_SPOOL_H
#define ZR_MESSAGING_SPOOL_H

#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/loop.h"
#include "base/str.h"

#define SPOOL_RECORD_MAX (2u << 20)

struct spool;

struct spool_ops {
	/* Every record up to `id` survives a crash. Never called from within spool_append(). */
	void (*on_durable)(void *user, uint64_t id);
	/* The disk refused: records after the last durable one are in danger. Tried again. */
	void (*on_error)(void *user, const struct err *why);
};

/* `bytes_max` bounds what waits; segments are about `segment_bytes`. -EWOULDBLOCK: another process
 * has the folder. What a crash tore off is cut; *ret_cut (may be NULL) is its size. */
int spool_open(struct loop *l, const char *dir, uint64_t bytes_max, uint64_t segment_bytes,
	       const struct spool_ops *ops, void *user, struct spool **ret, uint64_t *ret_cut,
	       struct err *e) must_check;
/* Syncs what is not durable yet. Folder and undropped records stay. */
void spool_close(struct spool *s);
static inline void auto_spool_(struct spool **s)
{
	spool_close(*s);
}
#define auto_spool __attribute__((cleanup(auto_spool_)))

/* -ENOSPC, TRANSIENT: bytes_max is reached or the disk is full; nothing was kept. */
int spool_append(struct spool *s, const void *data, size_t n, uint64_t *ret_id,
		 struct err *e) must_check;
/* Makes everything appended durable now; on_durable is called. */
int spool_sync(struct spool *s, struct err *e) must_check;

/* The next durable record with a number above *id into `b` (replaced); *id becomes its number.
 * Returns 1, or 0 if there is none (yet). Dropped records are passed over. */
int spool_next(struct spool *s, uint64_t *id, struct buf *b, struct err *e) must_check;
/* Confirmed. In any order; a segment's file goes when all its records have. */
void spool_drop(struct spool *s, uint64_t id);

uint64_t spool_bytes(const struct spool *s);   /* waiting */
uint64_t spool_records(const struct spool *s); /* waiting */

/* The reader of one segment: the record at data[0..n) as a piece of data. Returns its whole length
 * (header and payload), 0 if the rest is torn or damaged. Pure. */
size_t spool_parse(const void *data, size_t n, const void **ret_payload, size_t *ret_len);

#endif

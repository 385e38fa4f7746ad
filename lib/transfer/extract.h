/* SPDX-License-Identifier: MIT */
/*
 * Extracts a pack into a staging folder, against its manifest. The pack is hostile even when its
 * hash is the announced one. libzstd decompresses and libarchive parses; we create: folders come
 * from the manifest, every name is opened beneath the staging folder (openat2(): no symbolic link,
 * no "..", O_EXCL), and nothing of the archive sets owner, mode, times or attributes. Every
 * manifest entry must come exactly once with its size and hash, and nothing that it does not name.
 */
#ifndef ZR_TRANSFER_EXTRACT_H
#define ZR_TRANSFER_EXTRACT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "transfer/manifest.h"

/* 0: the default in brackets. */
struct extract_limits {
	uint64_t entries;    /* [100000] */
	uint64_t bytes;      /* of all files [64 GiB] */
	uint64_t file_bytes; /* [64 GiB] */
	uint64_t ratio;      /* unpacked to packed [none: the limits of bytes bound it] */
};

/* What the manifest announces is within the limits; what the pack holds beyond it is an error of
 * extract_tree(). -E2BIG, ERR_INPUT. */
int extract_check_limits(const struct manifest *m, const struct extract_limits *l,
			 struct err *e) must_check;

/* Gives the next piece of the pack, already checked against the chunk hashes; *ret_n 0 at its end.
 * The bytes stay valid until the next call. */
typedef int (*extract_read_fn)(void *user, const void **ret_data, size_t *ret_n, struct err *e);

/*
 * Fills the empty folder `dirfd`. Entries of other types than file and folder are appended to
 * m's refused list and skipped. ERR_INPUT: the archive is malformed, longer than its manifest
 * explains, or not what the manifest says. Errors of `read` are passed on. Does not sync.
 */
int extract_tree(struct manifest *m, extract_read_fn read, void *user, int dirfd,
		 struct err *e) must_check;

/*
 * Makes the staged folder `stage_name` durable and then visible as `target` (its parents are
 * made), by a rename that never replaces. -EEXIST: the target is there. -EXDEV: staging and target
 * are on different file systems.
 */
int extract_publish(const struct manifest *m, int stage_dirfd, const char *stage_name,
		    const char *target, struct err *e) must_check;

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Packs files and folders into a sealed object: a folder with <name>.tar.zst and manifest.json,
 * visible only when whole. It opens nothing through symbolic links and packs regular files and
 * folders only; everything else is listed in the manifest as refused and is no error.
 *
 * Needs libc, libzstd and nettle, no libarchive: its static library pulls in every codec it knows,
 * and the few lines of pax that we write are ours (transfer/pax.h).
 */
#ifndef ZR_TRANSFER_SEAL_H
#define ZR_TRANSFER_SEAL_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"

/* 0: the default in brackets. Sparse files count at full size. What is over a limit is left out,
 * listed as refused, and the manifest says which limit it was first. */
struct seal_limits {
	uint64_t entries;    /* [100000] at most MANIFEST_ENTRIES_MAX */
	uint64_t bytes;      /* of all files [64 GiB] */
	uint64_t file_bytes; /* of one file [64 GiB] */
	unsigned depth;      /* of folders [64, which is also the most] */
};

/*
 * One source. A folder: its content appears beneath `as` ("" is the top). A regular file: appears
 * as `as`. Earlier parts win: name the logs before the output, so that no limit and no file of the
 * job keeps them out. In a part with `as` "", names that another part appears under are refused.
 */
struct seal_part {
	int dirfd;          /* AT_FDCWD or a folder */
	const char *source; /* its final component is not followed if it is a symbolic link */
	const char *as;
	bool optional; /* a missing source is an empty part */
};

struct seal_spec {
	const char *name; /* "result", "submission" */
	const struct seal_part *parts;
	size_t n_parts;
	int out_dirfd;        /* where the sealed folder appears, as `out_name` */
	const char *out_name; /* one component */
	bool replace;         /* remove an `out_name` that is there: it was never announced */
	bool no_sync;         /* the caller needs no durability (tests, benchmarks) */
	struct seal_limits limits;
	const volatile sig_atomic_t *stop; /* not 0: give up, -ECANCELED; may be NULL */
};

struct seal_result {
	uint8_t root[HASH_SIZE];
	char root_text[HASH_TEXT_MAX];
	uint64_t files, dirs, bytes; /* of the content */
	uint64_t pack_bytes;         /* of <name>.tar.zst */
	uint64_t refused;
	char truncated[16]; /* "" or the limit, as in struct manifest */
};

/*
 * Blocks until done; reads each file once. -EAGAIN, ERR_TRANSIENT: a file changed while it was
 * read, somebody still writes: the result is not final. -EEXIST: `out_name` is there.
 *
 * On failure nothing is left. Durability: both files are written and their write-out is started,
 * the folder is renamed, then pack, manifest, folder and parent are synced, four calls of which
 * usually the first alone waits for a journal commit. After a power failure in between `out_name`
 * may therefore exist with torn content; nobody knows its hash yet, and `replace` removes it.
 */
int seal_tree(const struct seal_spec *spec, struct seal_result *ret, struct err *e) must_check;

#endif

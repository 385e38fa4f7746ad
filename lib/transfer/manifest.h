/* SPDX-License-Identifier: MIT */
/*
 * The manifest of a sealed object: what is in the pack, what was refused, and the hash of each
 * 4 MiB chunk of the pack. Its file is its canonical form: one fixed encoding, a subset of JSON
 * with one entry a line, sorted by path bytes; zr-message(7) shows it. The root hash is the
 * SHA-256 of those bytes, so it stands for every byte of the object.
 */
#ifndef ZR_TRANSFER_MANIFEST_H
#define ZR_TRANSFER_MANIFEST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/str.h"

#define MANIFEST_FILE        "manifest.json"
#define MANIFEST_CHUNK       ((uint64_t)4 << 20)
#define MANIFEST_ENTRIES_MAX 1000000
#define MANIFEST_ENTRIES     100000 /* the default limit */
#define MANIFEST_REFUSED_MAX 1000   /* listed by name; all are counted */
/* No manifest within the default limits is larger. */
#define MANIFEST_BYTES_MAX ((size_t)256 << 20)
/* Kept for the manifest's copy in a published folder; never an entry of a pack. */
#define MANIFEST_RESERVED ".zr/" MANIFEST_FILE
/*
 * The root hash of a "result" without entries from which nothing was left out. Whoever would make
 * one need not, and whoever is to fetch one need not either: it is an empty folder.
 */
#define MANIFEST_EMPTY_RESULT                                                                      \
	"sha256:7530dabac07c04db1977cb776c24c6478dda190f25eadc0b88e1cad4a0c493d0"

enum manifest_type {
	MANIFEST_DIR,
	MANIFEST_REG,
};

struct manifest_entry {
	char *path;
	uint64_t size; /* 0 for a folder */
	uint8_t sha256[HASH_SIZE];
	enum manifest_type type;
};

struct manifest_refused {
	char *path; /* escaped for printing: it may have been any bytes */
	const char *type;
	char *reason;
};

struct manifest {
	char name[65]; /* "result", "submission": the pack is <name>.tar.zst */
	struct manifest_entry *entries;
	size_t n_entries, cap_entries;
	struct manifest_refused *refused; /* the first MANIFEST_REFUSED_MAX */
	size_t n_refused, cap_refused;
	uint64_t refused_total;
	char truncated[16]; /* the first limit that left something out: "entries", "bytes",
			       "file", "depth"; "" if none did */
	uint64_t files, dirs, bytes;
	uint64_t pack_size;
	uint8_t pack_sha256[HASH_SIZE];
	uint8_t (*chunks)[HASH_SIZE];
	size_t n_chunks, cap_chunks;
};

void manifest_done(struct manifest *m);
DEFINE_AUTO_DONE(manifest);

/* Building. Paths are copied; `sha256` is NULL for a folder. Totals are kept by these calls. */
int manifest_add(struct manifest *m, enum manifest_type type, const char *path, uint64_t size,
		 const uint8_t *sha256) must_check;
/* `type` is a word: "symlink", "hardlink", "fifo", "socket", "char-device", "block-device", "file",
 * "dir", "other". */
int manifest_refuse(struct manifest *m, const char *type, const char *path,
		    const char *reason) must_check;
int manifest_add_chunk(struct manifest *m, const uint8_t sha256[HASH_SIZE]) must_check;

/* ".zr" is ours: only a folder may have that very name, and our own file is not in it. No pack has
 * an entry for which this is true. */
bool manifest_path_reserved(enum manifest_type type, const char *path);

/* Sorts the entries and appends the canonical bytes; *ret_root is their hash. */
int manifest_encode(struct manifest *m, struct buf *b, uint8_t ret_root[HASH_SIZE],
		    struct err *e) must_check;

/*
 * Reads canonical bytes and nothing else: another spelling of the same values is refused, as are
 * paths against the rule of transfer/path.h, twins, an entry whose folder is not an entry, totals
 * that are not the sum of the entries, and more than `entries_max` entries (0: the default).
 * On success *ret is the caller's.
 */
int manifest_parse(const void *data, size_t n, uint64_t entries_max, struct manifest *ret,
		   struct err *e) must_check;

/* By binary search; NULL: no such entry. */
const struct manifest_entry *manifest_find(const struct manifest *m, const char *path);

#endif

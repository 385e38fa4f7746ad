/* SPDX-License-Identifier: MIT */
/*
 * Gets a sealed object from where it lies, a local folder or a folder at an SSH host, to a
 * published folder: the manifest is read and must have the announced root hash; then each 4 MiB
 * chunk of the pack is checked against the manifest before any parser sees it, and extracted while
 * the next ones come in; then the staged folder is published by rename. Checked chunks are kept in
 * <staging>/<root>.part, so that a retry after a cut fetches only what is missing.
 */
#ifndef ZR_TRANSFER_FETCH_H
#define ZR_TRANSFER_FETCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "transfer/extract.h"
#include "transfer/ssh.h"

/* What the caller should do with a failure. */
enum fetch_class {
	FETCH_TRANSIENT, /* again later; what was fetched is kept */
	FETCH_CHANGED,   /* the source is not what was announced: ask for it to be sealed again */
	FETCH_PERMANENT, /* host key, login, algorithm: a person must change the configuration */
	FETCH_INPUT,     /* malformed, over a limit: never again */
	FETCH_HOST,      /* this side: disk full, no permission */
	FETCH_CLASS_N,
};
enum fetch_class fetch_class(const struct err *e);
const char *fetch_class_name(enum fetch_class c);

struct fetch_spec {
	struct ssh *ssh;     /* NULL: `dir` is local */
	const char *dir;     /* the sealed folder */
	const char *name;    /* "result", "submission" */
	const uint8_t *root; /* the announced root hash */
	int staging_dirfd;   /* ours alone; same file system as target's */
	const char *target;  /* path of the folder to publish; must not exist */
	bool keep_manifest;  /* published too, as MANIFEST_RESERVED */
	struct extract_limits limits;
	uint64_t reserve_bytes; /* stop before the disk has less than this free */
	/* Called at most every 500 ms and at the end; may be NULL. */
	void (*progress)(void *user, uint64_t bytes, uint64_t total);
	void *user;
};

struct fetch_result {
	uint64_t files, dirs, bytes, pack_bytes;
	uint64_t fetched_bytes;   /* of the pack over the wire, this time */
	bool already;             /* the target was there with the same root hash */
	struct manifest manifest; /* its refused list includes what extraction refused */
};
void fetch_result_done(struct fetch_result *r);
DEFINE_AUTO_DONE(fetch_result);

/* A target that holds the manifest with this root hash (`keep_manifest`), or whose own name is the
 * hash in hex, is success with `already`. */
int fetch_object(const struct fetch_spec *spec, struct fetch_result *ret, struct err *e) must_check;

/* Removes what an interrupted run left in staging, except .part files younger than a day. */
int fetch_clean_staging(int staging_dirfd, struct err *e) must_check;

#endif

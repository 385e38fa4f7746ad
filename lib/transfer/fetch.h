/* SPDX-License-Identifier: MIT */
/*
 * Gets a sealed object from where it lies, a local folder or a folder at an SSH host, to a
 * published folder. The manifest is read and must have the announced root hash; each 4 MiB chunk
 * of the pack is checked against the manifest before any parser sees it, and extracted while the
 * next ones come in; the staged folder is then made durable and published by rename.
 *
 * A lost connection is made again and the fetch goes on with the chunk it was at. When that does
 * not help, the chunks that came after the first seconds stay in <staging>/<root hash>.part, and
 * the next fetch of the same object checks and uses them.
 */
#ifndef ZR_TRANSFER_FETCH_H
#define ZR_TRANSFER_FETCH_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "transfer/extract.h"
#include "transfer/ssh.h"

/* What the caller should do with a failure. */
enum fetch_class {
	FETCH_TRANSIENT, /* again later; what was fetched is kept */
	FETCH_CHANGED,   /* the source is gone or not what was announced */
	FETCH_PERMANENT, /* host key, login, algorithm: a person must change the configuration */
	FETCH_INPUT,     /* malformed, over a limit: never again */
	FETCH_HOST,      /* this side: disk full, no permission, the target is something else */
	FETCH_CLASS_N,
};
enum fetch_class fetch_class(const struct err *e);
/* "transient", "changed", "permanent", "input", "host" */
const char *fetch_class_name(enum fetch_class c);

/* Gives a session that works, a new one if the last one broke. It stays the callee's. */
typedef int (*fetch_session_fn)(void *user, struct ssh **ret, struct err *e);

/* Gives the two ends in one of an ssh(1) that speaks SFTP with the same host as the same user, for
 * bulk_open(). The caller's to close. */
typedef int (*fetch_bulk_fn)(void *user, int *ret_fd, struct err *e);

struct fetch_spec {
	fetch_bulk_fn bulk;       /* for large packs over short lines; NULL: never */
	fetch_session_fn session; /* NULL: `dir` is a local folder */
	void *session_user;
	const char *dir;     /* the sealed folder */
	const char *name;    /* "result", "submission" */
	const uint8_t *root; /* the announced root hash */

	int staging_dirfd;  /* of fetchers alone; on the file system of the target */
	const char *target; /* the folder to publish */
	bool keep_manifest; /* published too, as .zr/manifest.json */
	struct extract_limits limits;
	uint64_t reserve_bytes; /* ENOSPC before less than this is free */

	/* May be NULL. Called every half second at most. */
	void (*progress)(void *user, uint64_t bytes, uint64_t total);
	void *progress_user;
	int abort_fd; /* ends the pauses between tries when it hangs up; -1: none */
	const volatile sig_atomic_t *stop; /* not 0: give up, -ECANCELED; may be NULL */
	uint64_t keep_after_usec;          /* when chunks are begun to be kept; 0: 30 s */
	/* New connections in a row without a chunk gained, begun within 30 s; 0: 3. */
	unsigned retries;
	uint64_t pause_usec; /* before the second of them, growing; 0: 500 ms */
};

struct fetch_result {
	bool already;             /* the target was there, with this root hash */
	uint64_t fetched_bytes;   /* of the pack, this time */
	struct manifest manifest; /* with what extraction refused; empty if the target was there
				       and has no manifest */
};
void fetch_result_done(struct fetch_result *r);
DEFINE_AUTO_DONE(fetch_result);

/*
 * A target that holds the manifest with this root hash, or whose own name is the hash in hex, is
 * success with `already`; another target that is there is -EEXIST. fetch_class() of the error says
 * what to do. On failure nothing is visible.
 */
int fetch_object(const struct fetch_spec *spec, struct fetch_result *ret, struct err *e) must_check;

/* Removes what interrupted runs left in staging, and .part files older than a day; nothing that a
 * running fetch works on. */
int fetch_clean_staging(int staging_dirfd, struct err *e) must_check;

#endif

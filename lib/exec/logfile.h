/* SPDX-License-Identifier: MIT */
/*
 * A log with a cap: of a stream of any length the first bytes and the last bytes are kept, exactly,
 * with a line between them that says how much was left out. Memory and disk stay flat: the head is
 * appended to the file as it comes, so that it can be followed; the tail goes round in a second
 * file without a name and joins the first at the end.
 */
#ifndef ZR_EXEC_LOGFILE_H
#define ZR_EXEC_LOGFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"

/* "\n[zr: 123 bytes left out]\n" */
#define LOGFILE_MARKER "\n[zr: %llu bytes left out]\n"

struct logfile {
	int dirfd, fd, tail_fd; /* dirfd is the caller's; fd -1: nothing came yet */
	const char *name;
	uint64_t head_max, tail_max; /* their sum is the cap */
	uint64_t total;              /* bytes that came */
	uint64_t size;               /* of the file now */
	int error; /* the first errno of a write; from then on bytes are only counted */
};

/* `name` is only pointed to. The file is made when the first byte comes; a quarter of the cap is
 * the tail's. */
void logfile_init(struct logfile *l, int dirfd, const char *name, uint64_t cap);
void logfile_done(struct logfile *l);
DEFINE_AUTO_DONE(logfile);

/* Never fails: a job must not block or die because of a full disk; see `error`. */
void logfile_add(struct logfile *l, const void *data, size_t n);
/* Adds marker and tail. Afterwards only logfile_done(). */
void logfile_finish(struct logfile *l);
/* Was anything left out? */
bool logfile_truncated(const struct logfile *l);

#endif

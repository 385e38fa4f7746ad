/* SPDX-License-Identifier: MIT */
/*
 * The journal of a box: one JSON object a line, only ever appended. `begun` before anything is
 * executed, `started` when the first program was, `phase` at each later phase, `done` with the
 * result. The keeper holds an exclusive flock() on it from before `begun` until it has let go of the
 * job. Whoever finds `done` has the result; whoever finds it missing, something else there and the
 * lock free knows that the keeper was killed.
 */
#ifndef ZR_EXEC_JOURNAL_H
#define ZR_EXEC_JOURNAL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"
#include "exec/limits.h"
#include "exec/result.h"

#define JOURNAL_FILE     "journal"
#define JOURNAL_FILE_MAX (4u << 20)

struct journal {
	bool begun, started, done;
	uint64_t started_wall_usec;
	enum phase phase;
	json_t *isolation;        /* as it was at the start; or NULL */
	struct box_result result; /* if done */
};
void journal_done(struct journal *j);
DEFINE_AUTO_DONE(journal);

/* A last line without its newline was torn by a crash and does not count; anything else that is not
 * a record is an error, ERR_HOST. */
int journal_parse(const void *data, size_t n, struct journal *ret, struct err *e) must_check;
/* A missing file is an empty journal. */
int journal_read(int box_dirfd, struct journal *ret, struct err *e) must_check;

/* Of one that cannot be read, that there is something, and whether its end was added since: else nobody
 * could ever report it. */
int journal_salvage(int box_dirfd, struct journal *ret, struct err *e) must_check;

/* 1: the last record is `done`, and *ret has its result; 0: there is none yet. What stands before it is
 * not looked at. */
int journal_result(int box_dirfd, struct box_result *ret, struct err *e) must_check;

/* For appending; made if it is missing, and a torn last line is cut off. */
int journal_open(int box_dirfd, int *ret_fd, struct err *e) must_check;
/* The same, locked. -EWOULDBLOCK: a keeper has it. */
int journal_lock(int box_dirfd, int *ret_fd, struct err *e) must_check;
/* No keeper has it; true also if there is none. */
bool journal_is_free(int box_dirfd);
/* Nothing was ever written: the job was never begun. */
bool journal_is_empty(int box_dirfd);

int journal_add_begun(int fd, struct err *e) must_check;
/* *ret_record: the same, for others who are told; NULL if there is no memory for it. */
int journal_add_started(int fd, uint64_t wall_usec, enum phase p, const json_t *isolation,
			char **ret_record, struct err *e) must_check;
int journal_add_phase(int fd, enum phase p, struct err *e) must_check;
int journal_add_done(int fd, const struct box_result *r, struct err *e) must_check;

#endif

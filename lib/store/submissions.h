/* SPDX-License-Identifier: MIT */
/*
 * Submissions. A submission is made in two steps, because its folder is named by its id: add, then
 * (packed and sealed in submissions_dir/<id>) seal; `zr` runs both in one db_begin() transaction, so
 * that nobody sees half of one. Status: uploading, uploaded, excluded, deleted,
 * else that of its newest evaluation (queued, running, completed, …).
 */
#ifndef ZR_STORE_SUBMISSIONS_H
#define ZR_STORE_SUBMISSIONS_H

#include "store/db.h"

/* -ENOENT: no such challenge. -EPERM, ERR_INPUT: it is not open. */
int submissions_add(struct db *d, const char *challenge, const char *author, int64_t *ret_id,
		    struct err *e) must_check;
int submissions_seal(struct db *d, int64_t id, const char *digest, int64_t bytes, int64_t files,
		     struct err *e) must_check;
/* Takes an unsealed submission back. */
int submissions_drop(struct db *d, int64_t id, struct err *e) must_check;

struct submission_filter {
	const char *challenge, *author, *status; /* NULL: any */
	const char *since;                       /* created at or after, RFC 3339; NULL: any */
	int64_t before;                          /* ids below; 0: any */
	int limit;                               /* 0: 100 */
};
/* {id, challenge, author, status, digest, bytes, files, evaluation (newest, or null), evaluator,
 * pool, created_at}, newest first. */
int submissions_list(struct db *d, const struct submission_filter *f, json_t **ret,
		     struct err *e) must_check;
int submissions_show(struct db *d, int64_t id, json_t **ret, struct err *e) must_check;

/* Excluded submissions stay, but no leaderboard shows them. */
int submissions_exclude(struct db *d, int64_t id, bool excluded, struct err *e) must_check;
/* -EBUSY, ERR_INPUT: an evaluation of it has not ended. The row stays as "deleted", for the record
 * of its evaluations; the caller removes the files. */
int submissions_delete(struct db *d, int64_t id, struct err *e) must_check;

#endif

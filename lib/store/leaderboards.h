/* SPDX-License-Identifier: MIT */
/* Leaderboards in the database; what a definition means and how boards are made: leaderboard.h. */
#ifndef ZR_STORE_LEADERBOARDS_H
#define ZR_STORE_LEADERBOARDS_H

#include "store/leaderboard.h"

/* -EEXIST, -ENOENT, ERR_INPUT: the label is taken; no such challenge. `replace`: a board of this label
 * gets the new definition. */
int leaderboards_create(struct db *d, const json_t *def, bool replace, int64_t *ret_id,
			struct err *e) must_check;
/* List of {id, label, challenge, score, order, entries, built_at, skipped, error, definition}. */
int leaderboards_list(struct db *d, json_t **ret, struct err *e) must_check;
/* -ENOENT, ERR_INPUT: no such board. */
int leaderboards_delete(struct db *d, const char *label, struct err *e) must_check;

/* Reads, ranks, writes <dir>/<label>.json and .csv. -ENOENT, ERR_INPUT: no such board. */
int leaderboards_build(struct db *d, const char *label, const char *dir,
		       struct leaderboard_report *ret, struct err *e) must_check;

/* For zr-update: the marks up to now (id, challenge); the boards of a challenge (label, definition,
 * entries); what became of one; the marks of $1 (challenge) up to $2 (id) are done. */
extern const struct db_stmt leaderboards_dirty_stmt;
extern const struct db_stmt leaderboards_load_stmt;  /* $1: label or NULL, $2: challenge or NULL */
extern const struct db_stmt leaderboards_built_stmt; /* leaderboards_built_args() */
extern const struct db_stmt leaderboards_clean_stmt;
/* `text` is scratch space that lives as long as the arguments; `why` not NULL: it failed. */
int leaderboards_built_args(struct db_args *a, const char *label,
			    const struct leaderboard_report *r, const char *why, char **text,
			    struct err *e) must_check;

#endif

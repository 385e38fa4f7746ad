/* SPDX-License-Identifier: MIT */
/*
 * Leaderboards. A definition is a JSON object:
 *   label         file name of the board and its key
 *   challenge     label of the challenge
 *   score         key or expression that ranks (see expr.h); default: no ranking, entries by time
 *   order         "asc" or "desc" (default: asc, as the original sorts)
 *   entries       "best", "last" or "all" of each author (default: best with a score, else last)
 *   tie_break     "earlier" (default), "later", or a further expression; "-expr" for descending
 *   columns       list of expressions, or {"name": expression}, for the CSV and for `columns` of an entry
 *   external      a file or a folder of JSON entries that are not in the database
 *   limit         how many entries are written
 * The board is {"updatedOn": …, "data": [{"author_label", "score": {…}, "index": n, …}]}. An entry
 * that cannot be ranked is left out and named in `skipped`; it never stops the others.
 */
#ifndef ZR_STORE_LEADERBOARD_H
#define ZR_STORE_LEADERBOARD_H

#include "store/db.h"

struct leaderboard;
void leaderboard_free(struct leaderboard *b);
DEFINE_AUTO(leaderboard);

/* Strict: unknown keys and wrong types are ERR_INPUT with the key's name. */
int leaderboard_parse(const json_t *def, struct leaderboard **ret, struct err *e) must_check;
const char *leaderboard_label(const struct leaderboard *b);

/*
 * Pure. `entries` is a list of {"author_label", "score", "submission", "evaluation", "submitted_at",
 * …} in the order of submission. The board and the list of {"entry", "why"} are the caller's.
 */
int leaderboard_rank(const struct leaderboard *b, const json_t *entries, const char *updated_on,
		     json_t **ret_board, json_t **ret_skipped, struct err *e) must_check;
/* The CSV form of a board: allocated. Cells that a spreadsheet would run are quoted with '. */
int leaderboard_csv(const struct leaderboard *b, const json_t *board, char **ret,
		    struct err *e) must_check;

/* In the database. */
int leaderboards_create(struct db *d, const json_t *def, int64_t *ret_id, struct err *e) must_check;
int leaderboards_list(struct db *d, json_t **ret, struct err *e) must_check;

struct leaderboard_report {
	char *json_path, *csv_path; /* allocated */
	size_t entries;
	json_t *skipped;
};
void leaderboard_report_done(struct leaderboard_report *r);
DEFINE_AUTO_DONE(leaderboard_report);

/* Reads, ranks, writes <dir>/<label>.json and .csv by rename. -ENOENT: no such board. */
int leaderboards_build(struct db *d, const char *label, const char *dir,
		       struct leaderboard_report *ret, struct err *e) must_check;

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Leaderboards. A definition is a JSON object:
 *   label         file name of the board and its key (required)
 *   challenge     label of the challenge (required)
 *   score         key or expression that ranks (expr.h), "score" by default; null: by time
 *   order         "desc" (default: the largest first) or "asc"
 *   entries       "best", "last" or "all" of each author (default: best, by time last)
 *   tie_break     "earlier" (default), "later", or an expression, compared in the same order
 *   columns       list of expressions, or of {"name": text, "value": expression}
 *   external      a file or a folder of JSON entries that are not in the database: {"author_label",
 *                 "score": {…}}, a list of such, or a board; relative to the boards' folder
 *   limit         how many entries are written
 * The board is {"updatedOn": …, "data": [{"author_label", "score": {…}, "index": n, …}]}. An entry
 * that cannot be ranked is left out and named; it never stops the others.
 */
#ifndef ZR_STORE_LEADERBOARD_H
#define ZR_STORE_LEADERBOARD_H

#include "base/attr.h"
#include "base/err.h"
#include "store/db.h"
#include "store/db_pipe.h"

struct leaderboard;
void leaderboard_free(struct leaderboard *b);
DEFINE_AUTO(leaderboard);

/* Strict: unknown keys and wrong types are ERR_INPUT with the key's name. */
int leaderboard_parse(const json_t *def, struct leaderboard **ret, struct err *e) must_check;
const char *leaderboard_label(const struct leaderboard *b);

/*
 * Pure. `entries` is a list of {"author_label", "score", …} in the order of submission; `external`
 * (may be NULL) the same, shown whatever their authors have in `entries`. Adds "index", "value" (of the
 * score) and "columns" to each. *ret_skipped is a list of {"entry", "why"}; what is in it already
 * stays.
 */
int leaderboard_rank(const struct leaderboard *b, const json_t *entries, const json_t *external,
		     const char *updated_on, json_t **ret_board, json_t *skipped,
		     struct err *e) must_check;

/* The board as CSV: allocated. Cells that a spreadsheet would take for a formula get a leading '. */
int leaderboard_csv(const json_t *board, char **ret, struct err *e) must_check;

/* The entries of the board's `external`; what cannot be read is added to `skipped`. A relative path
 * begins at `dir`. */
int leaderboard_external(const struct leaderboard *b, const char *dir, json_t *skipped,
			 json_t **ret, struct err *e) must_check;

struct leaderboard_report {
	char *json_path, *csv_path; /* allocated */
	size_t entries;
	json_t *skipped;
};
void leaderboard_report_done(struct leaderboard_report *r);
DEFINE_AUTO_DONE(leaderboard_report);

/* Ranks and writes <dir>/<label>.json and .csv by rename. */
int leaderboard_publish(const json_t *def, const json_t *entries, const char *dir,
			struct leaderboard_report *ret, struct err *e) must_check;

/* Removes what that wrote; missing files are fine. `label` must be id_valid(). */
int leaderboard_unpublish(const char *label, const char *dir, struct err *e) must_check;

#endif

/* SPDX-License-Identifier: MIT */
/* Listings: statements whose first column is a JSON object. For the modules of this folder. */
#ifndef ZR_STORE_ROWS_H
#define ZR_STORE_ROWS_H

#include "store/db.h"

#define ROWS_LIMIT 100 /* of a listing that names none */

/* All rows as a list. */
int rows_list(struct db *d, const char *sql, const struct db_args *a, json_t **ret,
	      struct err *e) must_check;
/* The one row; -ENOENT, ERR_INPUT, "no <what>" if there is none. */
int rows_one(struct db *d, const char *sql, const struct db_args *a, const char *what, json_t **ret,
	     struct err *e) must_check;
/* The first column of the first row as a number; -ENOENT as above. */
int rows_int(struct db *d, const char *sql, const struct db_args *a, const char *what, int64_t *ret,
	     struct err *e) must_check;

#endif

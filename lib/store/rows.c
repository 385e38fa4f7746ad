/* SPDX-License-Identifier: MIT */
#include "store/rows.h"

int rows_list(struct db *d, const char *sql, const struct db_args *a, json_t **ret, struct err *e)
{
	auto_obj(db_rows) rows = NULL;
	json_auto_t *list = json_array();
	int r = db_query(d, sql, a, &rows, e);

	for (int i = 0; r == 0 && i < db_rows_n(rows); i++) {
		json_t *j = NULL;

		r = db_json(rows, i, 0, &j, e);
		if (r == 0 && json_array_append_new(list, j) < 0)
			r = err_nomem(e);
	}
	if (r == 0)
		*ret = take_ptr(list);
	return r;
}

static int none(const char *what, struct err *e)
{
	return err_set(e, ENOENT, ERR_INPUT, "no %s", what);
}

int rows_one(struct db *d, const char *sql, const struct db_args *a, const char *what, json_t **ret,
	     struct err *e)
{
	auto_obj(db_rows) rows = NULL;
	int r = db_query(d, sql, a, &rows, e);

	if (r < 0)
		return r;
	return db_rows_n(rows) ? db_json(rows, 0, 0, ret, e) : none(what, e);
}

int rows_int(struct db *d, const char *sql, const struct db_args *a, const char *what, int64_t *ret,
	     struct err *e)
{
	auto_obj(db_rows) rows = NULL;
	int r = db_query(d, sql, a, &rows, e);

	if (r < 0)
		return r;
	if (!db_rows_n(rows))
		return none(what, e);
	*ret = db_int(rows, 0, 0);
	return 0;
}

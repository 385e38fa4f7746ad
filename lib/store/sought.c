/* SPDX-License-Identifier: MIT */
#include "store/sought.h"

#define TIMES 3

const struct db_stmt sought_due_stmt = {
	"sought_due",
	"select evaluation, attempt, age_sec, at from attempts_to_seek($1::bigint, $2::int)",
};

void sought_due_args(struct db_args *a, uint64_t lease_usec, int rows_max)
{
	db_arg_int(a, (int64_t)lease_usec);
	db_arg_int(a, rows_max);
}

const struct db_stmt sought_note_stmt = {
	"sought_note",
	"select have_sought($1::bigint[], $2::int[], $3::boolean)",
};

void sought_note_args(struct db_args *a, const char *evaluations, const char *attempts, bool read)
{
	db_arg_text(a, evaluations);
	db_arg_text(a, attempts);
	db_arg_text(a, read ? "t" : "f");
}

const struct db_stmt sought_end_stmt = {
	"sought_end",
	/* Without a pause: there were several already. */
	"select evaluation, attempt, attempt_id, detail, ended, again"
	" from end_unheld($1::int, $2::int, 0)",
};

void sought_end_args(struct db_args *a, int infrastructure_retries)
{
	db_arg_int(a, TIMES);
	db_arg_int(a, infrastructure_retries);
}

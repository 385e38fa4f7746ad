/* SPDX-License-Identifier: MIT */
#include "store/results.h"

const struct db_stmt results_due_stmt = {
	"results_due",
	"select evaluation, attempt, attempt_id, host, root_hash, path"
	" from results_due($1::jsonb, $2::int, $3)",
};

void results_due_row(const struct db_rows *r, int row, struct result_due *ret)
{
	*ret = (struct result_due){
		.evaluation = db_int(r, row, 0),
		.attempt = (int)db_int(r, row, 1),
		.attempt_id = db_text(r, row, 2),
		.host = db_text(r, row, 3),
		.root_hash = db_text(r, row, 4),
		.path = db_text(r, row, 5),
	};
}

const struct db_stmt results_done_stmt = {
	"results_done",
	"select results_done($1::bigint, $2::int, $3::uuid, $4, $5, $6, $7, $8::uuid, $9)",
};

void results_done_args(struct db_args *a, const struct result_due *d, const char *detail,
		       const struct outbox_msg *release)
{
	db_arg_int(a, d->evaluation);
	db_arg_int(a, d->attempt);
	db_arg_text(a, d->attempt_id);
	db_arg_text(a, detail ? "refused" : "stored");
	db_arg_text(a, detail);
	db_arg_text(a, release ? release->exchange : NULL);
	db_arg_text(a, release ? release->routing_key : NULL);
	db_arg_text(a, release ? release->message_id : NULL);
	db_arg_text(a, release ? release->body : NULL);
}

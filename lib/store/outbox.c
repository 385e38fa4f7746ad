/* SPDX-License-Identifier: MIT */
#include "store/outbox.h"

const struct db_stmt outbox_sent_stmt = { "outbox_sent", "select outbox_sent($1::bigint)" };

int outbox_sent(struct db *d, int64_t outbox_id, struct err *e)
{
	struct db_args a = { 0 };

	db_arg_int(&a, outbox_id);
	return db_query(d, outbox_sent_stmt.sql, &a, NULL, e);
}

/* A request whose attempt has begun did arrive: whoever sent it was killed before he could note that. Its own
 * attempt, that is: a later one may be asked for by now. */
const struct db_stmt outbox_due_stmt = {
	"outbox_due",
	"with due as (select * from outbox"
	"  where created_at <= now() - $1::bigint * interval '1 microsecond' and next_at <= now()"
	"  order by id limit $2::int),"
	" arrived as materialized (select d.id, outbox_sent(d.id) from due d"
	"  join evaluation v on v.id = d.evaluation"
	"  where exists (select from attempt a"
	"   where a.evaluation = v.id and a.attempt >= coalesce((d.body::json->>'attempt')::int, "
	"1)))"
	" select id, exchange, routing_key, message_id, body,"
	" (extract(epoch from now() - created_at) * 1000000)::bigint from due"
	" where id not in (select id from arrived) order by id",
};

const struct db_stmt outbox_again_stmt = {
	"outbox_again",
	"select id, exchange, routing_key, message_id, body from outbox"
	" where evaluation = any($1::bigint[]) and next_at <= now() and tries = 0 order by id",
};

/* Doubles from 1 s to 5 min. */
const struct db_stmt outbox_failed_stmt = {
	"outbox_failed",
	"update outbox set tries = tries + 1, error = left($2, 1000),"
	" next_at = now() + least(interval '5 minutes', interval '1 second' * 2 ^ least(tries, 10))"
	" where id = $1::bigint",
};

const struct db_stmt outbox_queues_stmt = {
	"outbox_queues",
	"select routing_key from queues_to_see($1::bigint)",
};

const struct db_stmt outbox_saw_stmt = {
	"outbox_saw",
	"select saw_queue($1, $2::bigint)",
};

const struct db_stmt outbox_resend_stmt = {
	"outbox_resend",
	"select evaluation, attempt, routing_key from resend_sought($1::bigint, $2::int)",
};

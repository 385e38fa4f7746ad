-- SPDX-License-Identifier: MIT
-- Attempts that failed are followed by others, as far as there are any left.

-- The request as it was first sent, so that it can be sent again. Null: by a program that knew nothing of it.
alter table evaluation add column request_exchange text;
alter table evaluation add column request_key text;
alter table evaluation add column request jsonb;
-- The highest ordinal that was asked for, and the attempt whose end asked (null: a person).
alter table evaluation add column asked_attempt int not null default 1;
alter table evaluation add column asked_by uuid;
update evaluation set asked_attempt = wanted_attempt where wanted_attempt > 1;
update evaluation v set request_exchange = o.exchange, request_key = o.routing_key, request = o.body::jsonb
from outbox o where o.evaluation = v.id;

-- What the evaluator's own failure is; its `retries` allow another attempt. Not among them: what would
-- only fail the same way (setup, poison) and what was wanted (ok, canceled).
create function retryable(p_reason text) returns boolean
language sql immutable return p_reason in ('exit', 'signal', 'cpu-limit', 'wall-limit', 'memory', 'output-limit', 'disk', 'pids');

-- May an attempt that is over, with further ones allowed, ask for the next? Only the first of an ordinal,
-- and only what no cancel covers.
create function asks_again(v evaluation, p_step int, p_attempt int) returns boolean
language sql immutable return p_step = 3 and (v).request is not null and p_attempt >= (v).wanted_attempt
	and p_attempt > (v).cancel_attempt and (v).asked_attempt <= p_attempt;

drop function apply_events(jsonb);

-- As before (0102), and: an attempt that does not end its evaluation has a further one asked for, in the
-- same transaction. `again` is its ordinal. p_infrastructure: how often an evaluation is begun anew
-- because the host or the worker failed; p_delay_usec: the pause before the first retry, doubled for
-- each further one.
create function apply_events(p jsonb, p_infrastructure int default 3, p_delay_usec bigint default 10000000)
returns table (n bigint, answer int, ended boolean, collect boolean, again int)
language plpgsql
-- Planned once, when the tables may still be empty.
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
begin
	return query
	with said as materialized (
		-- The first of equal keys counts, as if they had come one by one.
		select s.*, row_number() over (partition by evaluation, attempt, attempt_id, seq order by n) as copy
		from rows from (jsonb_to_recordset(p) as (evaluation bigint, attempt int, attempt_id uuid, seq bigint,
			kind text, at timestamptz, host text, worker text, body jsonb)) with ordinality as s
			(evaluation, attempt, attempt_id, seq, kind, at, host, worker, body, n)
	), known as materialized (
		select said.*, v.step, v.attempt_id as current
		from said join evaluation v on v.id = said.evaluation
	), fresh as (
		insert into event (evaluation, attempt, attempt_id, seq, kind, at, host, worker, body)
		select evaluation, attempt, attempt_id, seq, kind, at, host, worker, body from known where copy = 1
		order by evaluation, attempt, attempt_id, seq
		on conflict do nothing
		returning evaluation, attempt, attempt_id, seq, kind, at, host, worker, body,
			case when kind in ('completed', 'failed', 'canceled') then end_rank(seq, body->>'reason') end as end_rank
	), told as (
		-- All that this batch says of an attempt, as one row.
		select evaluation, attempt, attempt_id, max(seq) as last_seq,
			(array_agg(host order by seq desc))[1] as host,
			(array_agg(worker order by seq desc))[1] as worker,
			min(at) filter (where kind = 'started') as started_at,
			(array_agg(body->'isolation' order by seq) filter (where body ? 'isolation'))[1] as isolation,
			max(seq) filter (where kind = 'progress') as progress_seq,
			(array_agg(body order by seq desc) filter (where kind = 'progress'))[1] as progress,
			min(end_rank) as end_rank,
			(array_agg(kind order by end_rank) filter (where end_rank is not null))[1] as end_state,
			(array_agg(at order by end_rank) filter (where end_rank is not null))[1] as ended_at,
			(array_agg(body order by end_rank) filter (where end_rank is not null))[1] as ending
		from fresh group by evaluation, attempt, attempt_id
	), joined as (
		insert into attempt as t (evaluation, attempt, attempt_id, last_seq, host, worker, started_at, isolation,
			progress_seq, progress, end_rank, end_state, ended_at, ending, results_state)
		select told.*, case when ending->>'root_hash' is null then 'none' else 'pending' end
		from told order by evaluation, attempt, attempt_id
		on conflict (evaluation, attempt, attempt_id) do update set
			last_seq = greatest(t.last_seq, excluded.last_seq),
			host = case when t.last_seq < excluded.last_seq then excluded.host else t.host end,
			worker = case when t.last_seq < excluded.last_seq then excluded.worker else t.worker end,
			started_at = least(t.started_at, excluded.started_at),
			isolation = coalesce(t.isolation, excluded.isolation),
			progress_seq = greatest(t.progress_seq, excluded.progress_seq),
			progress = case when t.progress_seq >= excluded.progress_seq or excluded.progress_seq is null
				then t.progress else excluded.progress end,
			end_rank = least(t.end_rank, excluded.end_rank),
			end_state = case when t.end_rank <= excluded.end_rank or excluded.end_rank is null
				then t.end_state else excluded.end_state end,
			ended_at = case when t.end_rank <= excluded.end_rank or excluded.end_rank is null
				then t.ended_at else excluded.ended_at end,
			ending = case when t.end_rank <= excluded.end_rank or excluded.end_rank is null
				then t.ending else excluded.ending end,
			-- What was collected already stays collected.
			results_state = case when t.results_state in ('stored', 'refused') or excluded.end_rank is null
				or t.end_rank <= excluded.end_rank then t.results_state else excluded.results_state end
		returning evaluation, attempt, attempt_id, end_rank, end_state, ending->>'reason' as reason, results_state,
			coalesce((ending->>'retries')::int, 0) as retries
	), best as (
		-- What the attempts say of their evaluations: an end before all else, then the highest attempt.
		select distinct on (j.evaluation) j.evaluation, j.attempt, j.attempt_id, claim.step, j.end_state, j.reason
		from joined j, lateral (select case
			when j.end_rank is null then 2
			when j.end_rank < 1::bigint << 62 and not retryable(j.reason) then 4
			else (select case
				-- Nobody can ask again for what an older program asked.
				when v.request is null
					then case when j.end_rank < 1::bigint << 62 or j.attempt >= v.max_attempts then 4 else 3 end
				when j.attempt < v.wanted_attempt then 4
				when j.end_rank >= 1::bigint << 62
					then case when lost.n >= p_infrastructure then 4 else 3 end
				-- Attempts that were lost are not the evaluation's own.
				when j.attempt - v.wanted_attempt - lost.n
					>= greatest(v.max_attempts - v.wanted_attempt, j.retries) then 4
				else 3 end
			from evaluation v, lateral (
				-- Ordinals before this one, of the same request by hand, that were lost.
				select count(*) as n from (
					select b.attempt from (
						select attempt, end_rank from attempt where evaluation = j.evaluation
						union all
						select attempt, end_rank from joined where evaluation = j.evaluation) b
					where b.attempt >= v.wanted_attempt and b.attempt < j.attempt
					group by b.attempt having min(b.end_rank) >= 1::bigint << 62) l) lost
			where v.id = j.evaluation)
			end) as claim (step)
		order by j.evaluation, claim.step = 4 desc, j.attempt desc, j.attempt_id desc
	), changed as (
		update evaluation v set
			-- While a retry by hand runs the earlier end stays what it is.
			step = case when v.step = 4 and best.step < 4 then 4 else best.step end,
			-- An accepted cancel keeps the outcome of the attempts it covers.
			state = case when v.step = 4 and best.step < 4 then v.state
				when best.step = 2 then 'running' when best.step = 3 then 'queued'
				when best.attempt <= v.cancel_attempt then 'canceled' else best.end_state end,
			reason = case when v.step = 4 and best.step < 4 then v.reason when best.step < 4 then null
				when best.attempt <= v.cancel_attempt then 'canceled' else best.reason end,
			attempt = case when v.step = 4 and best.step < 4 then v.attempt else best.attempt end,
			attempt_id = case when v.step = 4 and best.step < 4 then v.attempt_id else best.attempt_id end,
			-- Each ordinal is asked for once, by the first that wants it.
			asked_attempt = case when asks_again(v, best.step, best.attempt) then best.attempt + 1 else v.asked_attempt end,
			asked_by = case when asks_again(v, best.step, best.attempt) then best.attempt_id else v.asked_by end,
			queued_at = case when asks_again(v, best.step, best.attempt) then null else v.queued_at end,
			version = version + 1
		from best
		where v.id = best.evaluation and case
			when best.step = 4 and v.step = 4 then (v.attempt, v.attempt_id) < (best.attempt, best.attempt_id)
				or (v.attempt, v.attempt_id) = (best.attempt, best.attempt_id)
					and v.attempt > v.cancel_attempt and v.reason is distinct from best.reason
			when best.step = 4 then true
			when v.step = 4 then v.attempt < v.wanted_attempt and asks_again(v, best.step, best.attempt)
			else (v.attempt, v.attempt_id, v.step) < (best.attempt, best.attempt_id, best.step) end
		returning id, challenge, v.step, v.attempt_id, v.wanted_attempt, v.request_exchange, v.request_key, v.request,
			best.step as said_step, best.attempt as said_attempt, best.attempt_id as said_id,
			best.step = 3 and v.asked_by = best.attempt_id and v.asked_attempt = best.attempt + 1 as again
	), retried as materialized (
		select id, request_exchange, request_key, request, said_attempt, said_attempt - wanted_attempt as tries,
			gen_random_uuid() as message_id
		from changed where again
	), owed as (
		insert into outbox (evaluation, exchange, routing_key, message_id, body, next_at)
		select id, request_exchange, request_key, message_id, (request || jsonb_build_object('id', message_id,
				'attempt', said_attempt + 1, 'created_at', rfc3339(now())))::text,
			now() + least(interval '10 minutes',
				p_delay_usec * interval '1 microsecond' * 2 ^ least(tries, 20))
		from retried
	), boards as (
		insert into leaderboard_dirty (challenge)
		select distinct challenge from changed
		where said_step = 4 and exists (select from leaderboard where challenge = changed.challenge)
	)
	select said.n, case when known.n is null then 0 when fresh.seq is null then 1
			when coalesce(changed.attempt_id, known.current) <> said.attempt_id
				or fresh.end_rank is null and coalesce(changed.step, known.step) = 4 then 2
			else 3 end,
		coalesce(changed.said_step = 4 and changed.attempt_id = said.attempt_id and fresh.end_rank is not null, false),
		coalesce(fresh.end_rank is not null and joined.results_state = 'pending', false),
		case when changed.again and changed.said_id = said.attempt_id and fresh.end_rank is not null
			then changed.said_attempt + 1 end
	from said
	left join known on known.n = said.n
	left join fresh on said.copy = 1 and (fresh.evaluation, fresh.attempt, fresh.attempt_id, fresh.seq)
		= (said.evaluation, said.attempt, said.attempt_id, said.seq)
	left join joined on (joined.evaluation, joined.attempt, joined.attempt_id)
		= (said.evaluation, said.attempt, said.attempt_id)
	left join changed on changed.id = said.evaluation
	order by said.n;
end $$;

-- As before (0103), and the request is kept.
create or replace function retry_evaluation(p_id bigint, p_attempt int, p_exchange text, p_routing_key text,
	p_message_id uuid, p_body text, out accepted boolean, out outbox bigint)
language plpgsql as $$
begin
	update evaluation set wanted_attempt = p_attempt, max_attempts = p_attempt,
		cancel_attempt = least(cancel_attempt, p_attempt - 1),
		request_exchange = p_exchange, request_key = p_routing_key, request = p_body::jsonb,
		asked_attempt = p_attempt, asked_by = null, version = version + 1
	where id = p_id and step = 4 and p_attempt = greatest(attempt, max_attempts, wanted_attempt, asked_attempt) + 1
		and (attempt >= wanted_attempt or cancel_attempt >= wanted_attempt);
	accepted := found;
	if accepted then
		insert into outbox (evaluation, exchange, routing_key, message_id, body)
		values (p_id, p_exchange, p_routing_key, p_message_id, p_body) returning id into outbox;
	end if;
end $$;

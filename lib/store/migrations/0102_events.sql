-- SPDX-License-Identifier: MIT
-- Applying events. Each is recorded once by its key, joined into its attempt, and the attempt into its
-- evaluation. Every join is monotone, so neither the order nor the number of deliveries matters, and
-- a batch may be cut anywhere. `p` is a list of events as they travel. One row per event, by its
-- place in the list: answer 0 no such evaluation, 1 duplicate, 2 recorded but not in force, 3 applied;
-- ended: it changed the outcome of its evaluation; collect: its result waits to be collected.
--
-- An attempt's first real end stands before any `lost` or `infrastructure`: the lowest end_rank.
create function end_rank(p_seq bigint, p_reason text) returns bigint
language sql immutable return p_seq + case when p_reason in ('lost', 'infrastructure') then 1::bigint << 62 else 0 end;

create function apply_events(p jsonb) returns table (n bigint, answer int, ended boolean, collect boolean)
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
		returning evaluation, attempt, attempt_id, end_rank, end_state, ending->>'reason' as reason, results_state
	), best as (
		-- What the attempts say of their evaluations: an end before all else, then the highest attempt.
		select distinct on (evaluation) evaluation, attempt, attempt_id, claim.step, end_state, reason
		from joined, lateral (select case when end_rank is null then 2
			when end_rank < 1::bigint << 62
				or attempt >= (select max_attempts from evaluation where id = joined.evaluation) then 4
			else 3 end) as claim (step)
		order by evaluation, claim.step = 4 desc, attempt desc, attempt_id desc
	), changed as (
		update evaluation v set
			step = best.step,
			-- An accepted cancel keeps the outcome of the attempts it covers.
			state = case when best.step = 2 then 'running' when best.step = 3 then 'queued'
				when best.attempt <= v.cancel_attempt then 'canceled' else best.end_state end,
			reason = case when best.step < 4 then null when best.attempt <= v.cancel_attempt then 'canceled'
				else best.reason end,
			attempt = best.attempt, attempt_id = best.attempt_id, version = version + 1
		from best
		where v.id = best.evaluation and case
			when best.step = 4 and v.step = 4 then (v.attempt, v.attempt_id) < (best.attempt, best.attempt_id)
				or (v.attempt, v.attempt_id) = (best.attempt, best.attempt_id)
					and v.attempt > v.cancel_attempt and v.reason is distinct from best.reason
			when best.step = 4 then true
			when v.step = 4 then false
			else (v.attempt, v.attempt_id, v.step) < (best.attempt, best.attempt_id, best.step) end
		returning id, challenge, v.step, v.attempt_id
	), boards as (
		insert into leaderboard_dirty (challenge)
		select distinct challenge from changed
		where step = 4 and exists (select from leaderboard where challenge = changed.challenge)
	)
	select said.n, case when known.n is null then 0 when fresh.seq is null then 1
			when coalesce(changed.attempt_id, known.current) <> said.attempt_id
				or fresh.end_rank is null and coalesce(changed.step, known.step) = 4 then 2
			else 3 end,
		coalesce(changed.step = 4 and changed.attempt_id = said.attempt_id and fresh.end_rank is not null, false),
		coalesce(fresh.end_rank is not null and joined.results_state = 'pending', false)
	from said
	left join known on known.n = said.n
	left join fresh on said.copy = 1 and (fresh.evaluation, fresh.attempt, fresh.attempt_id, fresh.seq)
		= (said.evaluation, said.attempt, said.attempt_id, said.seq)
	left join joined on (joined.evaluation, joined.attempt, joined.attempt_id)
		= (said.evaluation, said.attempt, said.attempt_id)
	left join changed on changed.id = said.evaluation
	order by said.n;
end $$;

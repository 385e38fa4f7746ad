-- SPDX-License-Identifier: MIT
-- Events are kept for a time. What an evaluation came to stays in its attempts.

-- One small step. Looks at the next p_evaluations evaluations that have events, by number, above
-- p_after, and removes at most p_events events of those that ended before p_keep_usec and of which
-- nothing was heard since; and the parked events of that age. reached: where to go on, null at the end.
-- An event that comes again after that is recorded again and joins into what it is in already.
create function prune_events(p_keep_usec bigint, p_after bigint, p_evaluations int, p_events int,
	out reached bigint, out removed bigint, out parked bigint)
language plpgsql
set enable_seqscan = off
as $$
declare
	v_before timestamptz := now() - p_keep_usec * interval '1 microsecond';
begin
	with recursive seen (evaluation, n) as (
		-- From one evaluation to the next by the primary key, whatever lies between.
		select (select min(evaluation) from event where evaluation > p_after), 1
		union all
		select (select min(event.evaluation) from event where event.evaluation > seen.evaluation), n + 1
		from seen where seen.evaluation is not null and n < p_evaluations
	), known as (
		select v.id, v.created_at >= v_before as young,
			v.step = 4 and (v.attempt >= v.wanted_attempt or v.cancel_attempt >= v.wanted_attempt) as settled
		from seen join evaluation v on v.id = seen.evaluation
	), ripe as (
		select id from known where settled and not young
			and not exists (select from event e where e.evaluation = known.id and e.recorded_at >= v_before)
	), gone as (
		delete from event where (evaluation, attempt, attempt_id, seq) in (
			select e.evaluation, e.attempt, e.attempt_id, e.seq from event e join ripe on ripe.id = e.evaluation
			limit p_events)
		returning 1
	), counted as (
		select count(*) as n from gone
	)
	-- Numbers ascend with time: after the first that is too young all are.
	select case when counted.n >= p_events then p_after
			when (select count(evaluation) from seen) = p_evaluations and not exists (select from known where young)
			then (select max(evaluation) from seen) end,
		counted.n
	into reached, removed from counted;
	with gone as (
		delete from parked_event where parked_at < v_before and id in (
			select id from parked_event order by id limit p_events)
		returning 1
	)
	select count(*) into parked from gone;
end $$;

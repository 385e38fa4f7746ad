-- SPDX-License-Identifier: MIT
-- Leases: what a worker has claimed is its own as long as it is heard of. Evaluations whose keepers die
-- of them are not tried for ever.

-- When anything was heard of it; `at` and seen_at are of the newest message by the worker's own clock.
-- Null: only by programs before this migration.
alter table worker add column heard_at timestamptz;

-- What a worker holds that was lost.
create index attempt_open on attempt (worker) where end_rank is null;

-- The leader sends itself a message through the queue of events every few seconds, a tick: when it is
-- back, all that was published before has been taken from the queue. sent_at: when the newest that is back
-- was sent; since: they have come without a gap from then on. All times are this database's, so that
-- nothing depends on other clocks. A crash of the server empties it: who is silent has a lease more.
create unlogged table listening (
	one     boolean primary key default true check (one),
	since   timestamptz not null,
	sent_at timestamptz not null
);

-- Who takes events from that queue. What was delivered to it before clear_at is committed: a message that
-- a stuck process holds may be the one that says that a worker lives.
create unlogged table listener (
	name     text primary key,
	clear_at timestamptz not null,
	seen_at  timestamptz not null default now()
);

-- A tick that is older than one before it, or from the future, says nothing. A clock that was set back
-- starts anew.
create function heard_tick(p_sent_at timestamptz) returns void
language sql as $$
	insert into listening as l (since, sent_at) select p_sent_at, p_sent_at where p_sent_at <= now()
	on conflict (one) do update set
		since = case when excluded.sent_at between l.sent_at and l.sent_at + interval '12 seconds'
			then l.since else excluded.sent_at end,
		sent_at = excluded.sent_at
	where excluded.sent_at > l.sent_at or l.sent_at > now()
$$;

-- A worker lives when it is heard of, whatever its clock says. What it does is what its newest message
-- says; clocks may jump: what is a minute old is overwritten.
create function heard_worker(p_worker text, p_host text, p_at timestamptz, p_body jsonb) returns void
language sql as $$
	insert into worker as w (worker, host, at, body, heard_at) values (p_worker, p_host, p_at, p_body, now())
	on conflict (worker) do update set (host, at, seen_at, body, heard_at) = (
		select excluded.host, excluded.at, now(), excluded.body, now()
		where w.at <= excluded.at or w.seen_at < now() - interval '1 minute'
		union all
		select w.host, w.at, w.seen_at, w.body, now()
		where not (w.at <= excluded.at or w.seen_at < now() - interval '1 minute'))
$$;

-- An older program has not checked what it stored: null for what is not as it should be.
create function lease_of(p_body jsonb) returns interval
language sql immutable return case when jsonb_typeof(p_body->'lease_usec') = 'number' and p_body->>'role' is null
	then case when (p_body->>'lease_usec')::numeric between 1 and 604800000000
		then (p_body->>'lease_usec')::float8 * interval '1 microsecond' end end;

create function jobs_of(p_body jsonb) returns table (evaluation bigint, attempt int, attempt_id uuid)
language sql immutable as $$
	select case when j->>'evaluation' ~ '^[0-9]{1,18}$' then (j->>'evaluation')::bigint end,
		case when j->>'attempt' ~ '^[0-9]{1,7}$' then (j->>'attempt')::int end,
		case when j->>'attempt_id' ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then (j->>'attempt_id')::uuid end
	from jsonb_array_elements(case jsonb_typeof(p_body->'jobs') when 'array' then p_body->'jobs' else '[]' end) j
$$;

-- lost: listened to without a gap, and silent for longer than its lease. One that said no lease never is,
-- nor one that left with nothing. heard_until: what is known of the time before this is all there is.
create view worker_lease as
select w.worker, w.host, w.at, w.body, h.heard_at, h.lease, l.heard_until,
	coalesce(h.lease is not null and not h.gone and l.heard_until > greatest(h.heard_at, l.since) + h.lease, false) as lost
from worker w
cross join lateral (select greatest(w.heard_at, w.seen_at) as heard_at, lease_of(w.body) as lease,
	w.body->>'state' = 'gone' and coalesce(w.body->'jobs', '[]') = '[]' as gone) h
left join (select since, least(sent_at, coalesce((select min(clear_at) from listener), '-infinity')) as heard_until
	from listening) l on true;

-- Did the keeper of this attempt die while its host lived on? The evaluation may be what killed it.
create function kept_badly(p_ending jsonb) returns boolean
language sql immutable return coalesce(p_ending->>'reason' = 'lost' and p_ending->'keeper_died' = 'true', false);

drop function apply_events(jsonb, int, bigint);

-- As before (0105), and: the attempt whose keeper is the p_poison'th to die of the same request ends the
-- evaluation, with the reason `poison`.
create function apply_events(p jsonb, p_infrastructure int default 3, p_delay_usec bigint default 10000000,
	p_poison int default 2)
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
			coalesce((ending->>'retries')::int, 0) as retries, kept_badly(ending) as kept_badly
	), best as (
		-- What the attempts say of their evaluations: an end before all else, then the highest attempt.
		select distinct on (j.evaluation) j.evaluation, j.attempt, j.attempt_id, abs(claim.step) as step, j.end_state,
			case when claim.step < 0 then 'poison' else j.reason end as reason
		from joined j, lateral (select case
			when j.end_rank is null then 2
			when j.end_rank < 1::bigint << 62 and not retryable(j.reason) then 4
			else (select case
				-- Nobody can ask again for what an older program asked.
				when v.request is null
					then case when j.end_rank < 1::bigint << 62 or j.attempt >= v.max_attempts then 4 else 3 end
				when j.attempt < v.wanted_attempt then 4
				when j.kept_badly and lost.kept_badly + 1 >= p_poison then -4
				when j.end_rank >= 1::bigint << 62
					then case when lost.n >= p_infrastructure then 4 else 3 end
				-- Attempts that were lost are not the evaluation's own.
				when j.attempt - v.wanted_attempt - lost.n
					>= greatest(v.max_attempts - v.wanted_attempt, j.retries) then 4
				else 3 end
			from evaluation v, lateral (
				-- Ordinals before this one, of the same request by hand, that were lost.
				select count(*) as n, count(*) filter (where l.kept_badly) as kept_badly from (
					select b.attempt, bool_or(b.kept_badly) as kept_badly from (
						select attempt, end_rank, kept_badly(ending) as kept_badly from attempt
						where evaluation = j.evaluation
						union all
						select attempt, end_rank, kept_badly from joined where evaluation = j.evaluation) b
					where b.attempt >= v.wanted_attempt and b.attempt < j.attempt
					group by b.attempt having min(b.end_rank) >= 1::bigint << 62) l) lost
			where v.id = j.evaluation)
			end) as claim (step)
		order by j.evaluation, abs(claim.step) = 4 desc, j.attempt desc, j.attempt_id desc
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

-- Ends what lost workers hold: the jobs of their last messages, claimed perhaps and never begun, and
-- attempts that were heard of from them and have no end. Not what another worker of theirs has taken over.
-- The event is the same whoever writes it and however often: its seq stands after that of a worker's own
-- end (10^12), which says more and counts instead when it comes. One row per attempt that was ended now;
-- p_patience_usec: who has not said for so long that it takes events has given back what it had.
create function audit_leases(p_patience_usec bigint default 60000000, p_infrastructure int default 3,
	p_delay_usec bigint default 10000000, p_poison int default 2, p_limit int default 500)
returns table (evaluation bigint, attempt int, attempt_id uuid, detail text, ended boolean, again int)
language plpgsql as $$
#variable_conflict use_column
declare
	v_held jsonb;
	v_events jsonb;
begin
	delete from listener where seen_at < now() - p_patience_usec * interval '1 microsecond';
	if found then
		update listening set since = now();
	end if;
	with lost as materialized (
		select * from worker_lease where lost
	), held as (
		select l.worker, l.host, l.heard_at, l.heard_until, j.evaluation, j.attempt, j.attempt_id
		from lost l, jobs_of(l.body) j
		join evaluation v on v.id = j.evaluation
		where j.attempt > 0 and j.attempt_id is not null and not exists (select from attempt a
			where (a.evaluation, a.attempt, a.attempt_id) = (j.evaluation, j.attempt, j.attempt_id)
				and a.end_rank is not null)
		union all
		select l.worker, l.host, l.heard_at, l.heard_until, a.evaluation, a.attempt, a.attempt_id
		from lost l
		join attempt a on a.worker = l.worker and a.end_rank is null
		join evaluation v on v.id = a.evaluation
		where not (v.step = 4 and (v.attempt >= v.wanted_attempt or v.cancel_attempt >= v.wanted_attempt))
			and a.attempt >= case when v.step = 4 then v.wanted_attempt else v.attempt end
	)
	select jsonb_agg(to_jsonb(held)) into v_held from held;
	-- Almost always: what follows reads the jobs of everybody.
	if v_held is null then
		return;
	end if;
	with held as (
		select distinct on (evaluation, attempt, attempt_id) *
		from jsonb_to_recordset(v_held) as h (worker text, host text, heard_at timestamptz, heard_until timestamptz,
			evaluation bigint, attempt int, attempt_id uuid)
		order by evaluation, attempt, attempt_id, heard_at desc
	), living as materialized (
		select j.* from worker_lease w, jobs_of(w.body) j
		where not w.lost and (w.lease is not null or w.heard_at > now() - interval '1 minute')
	), due as (
		select held.*, format('worker %s was not heard of for %s s (since %s)', worker,
			floor(extract(epoch from heard_until - heard_at)),
			to_char(heard_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')) as detail
		from held where not exists (select from living l where l.evaluation = held.evaluation
			and l.attempt = held.attempt and coalesce(l.attempt_id, held.attempt_id) = held.attempt_id)
		order by evaluation, attempt, attempt_id limit p_limit
	)
	select jsonb_agg(jsonb_build_object('evaluation', evaluation, 'attempt', attempt, 'attempt_id', attempt_id,
		'seq', 1000000000001, 'kind', 'failed', 'at', now(), 'host', host, 'worker', worker,
		'body', jsonb_build_object('reason', 'lost', 'detail', detail, 'silent_since', rfc3339(heard_at)))
		order by evaluation, attempt, attempt_id)
	into v_events from due;
	if v_events is null then
		return;
	end if;
	return query select (e->>'evaluation')::bigint, (e->>'attempt')::int, (e->>'attempt_id')::uuid,
		e->'body'->>'detail', r.ended, r.again
	from apply_events(v_events, p_infrastructure, p_delay_usec, p_poison) r
	join jsonb_array_elements(v_events) with ordinality as s (e, n) on s.n = r.n
	where r.answer > 1;
end $$;

-- SPDX-License-Identifier: MIT
-- Events that were confirmed and that no queue holds: zr.update was purged, or deleted and made again. The
-- stream of events has them too, and the leader looks for them there.

-- Attempts that are missing: since when, how often the stream was read to its end for them, and when last. A
-- crash of the server empties it: then they are looked for anew.
create unlogged table sought (
	evaluation bigint not null,
	attempt    int not null,
	noticed_at timestamptz not null default now(),
	times      int not null default 0,
	at         timestamptz,
	primary key (evaluation, attempt)
);

-- Up to when all that was told is applied: see 0106.
create function heard_until() returns timestamptz
language sql stable as $$
	select coalesce((select least(l.sent_at, (select min(clear_at) from listener)) from listening l
		where exists (select from listener)), '-infinity')
$$;

-- Attempts that began and did not end, and that nobody holds: a worker names an attempt in each beat until the
-- broker has its end, so that one which a later beat does not name has ended. since: begun after that.
create function attempts_unheld()
returns table (evaluation bigint, attempt int, attempt_id uuid, host text, worker text, since timestamptz)
language sql stable as $$
	select a.evaluation, a.attempt, a.attempt_id, a.host, a.worker, coalesce(v.queued_at, v.created_at)
	from attempt a
	join evaluation v on v.id = a.evaluation
	join worker_lease l on l.worker = a.worker
	join worker w on w.worker = a.worker
	where a.end_rank is null and l.lease is not null and not l.lost
		and (w.body->>'state' = 'gone' or w.seen_at > l.lease + (select max(recorded_at) from event e
			where (e.evaluation, e.attempt, e.attempt_id) = (a.evaluation, a.attempt, a.attempt_id)))
		and not exists (select from worker o, jobs_of(o.body) j
			where (j.evaluation, j.attempt, j.attempt_id) = (a.evaluation, a.attempt, a.attempt_id))
$$;

-- Requests that no queue holds and nobody has taken, as far as anybody told before the last look: see 0107.
create function requests_gone(p_lease interval) returns table (evaluation bigint, attempt int, since timestamptz)
language sql stable as $$
	select v.id, v.asked_attempt, v.queued_at
	from queue_look q
	join evaluation v on v.request_key = q.routing_key
	where q.empty_since < now() - p_lease and q.seen_at > now() - interval '1 minute' and q.seen_at < heard_until()
		and v.state = 'queued' and v.queued_at < now() - p_lease and v.queued_at < q.seen_at and v.request is not null
		and not exists (select from outbox o where o.evaluation = v.id)
		and not exists (select from worker w, jobs_of(w.body) j where j.evaluation = v.id and j.attempt >= v.asked_attempt)
$$;

-- What has to be looked for now, each less often than before; age_sec: so far back. at: this moment. What is
-- missing now may be on its way: it is missing for good when all is applied that was told before it was noticed.
create function attempts_to_seek(p_lease_usec bigint, p_limit int)
returns table (evaluation bigint, attempt int, age_sec bigint, at text)
language sql as $$
	with gone as materialized (
		select evaluation, attempt, since from attempts_unheld()
		union all
		select evaluation, attempt, since from requests_gone(p_lease_usec * interval '1 microsecond')
	), missing as materialized (
		select evaluation, attempt, min(since) as since
		from (select * from gone
			union all
			-- May have been begun before it was canceled. By itself that is no reason to look.
			select v.id, v.asked_attempt, v.queued_at from evaluation v
			where v.state = 'canceled' and v.queued_at is not null and v.cancel_at > now() - interval '1 day'
				and exists (select from gone) and not exists (select from attempt a where a.evaluation = v.id)) m
		group by evaluation, attempt
	), noticed as (
		insert into sought (evaluation, attempt) select evaluation, attempt from missing on conflict do nothing
	)
	select m.evaluation, m.attempt, ceil(extract(epoch from now() - m.since))::bigint, rfc3339(now())
	from missing m join sought s using (evaluation, attempt)
	where s.noticed_at < heard_until() and (s.at is null or s.at < m.since
		or s.at < now() - p_lease_usec * interval '1 microsecond' * 2 ^ least(s.times, 6))
	order by 1, 2 limit p_limit
$$;

-- p_read: the stream was read to its end.
create function have_sought(p_evaluations bigint[], p_attempts int[], p_read boolean) returns void
language sql as $$
	insert into sought as s (evaluation, attempt, times, at)
	select e, a, p_read::int, now() from unnest(p_evaluations, p_attempts) u (e, a)
	on conflict (evaluation, attempt) do update set times = s.times + p_read::int, at = now();
	delete from sought where coalesce(at, noticed_at) < now() - interval '7 days';
$$;

-- Like resend_requests of 0107, of what was looked for: what was found is applied by now.
create function resend_sought(p_lease_usec bigint, p_limit int)
returns table (evaluation bigint, attempt int, routing_key text)
language plpgsql as $$
#variable_conflict use_column
declare
	v_lease interval := p_lease_usec * interval '1 microsecond';
begin
	return query
	with due as (
		select v.id from requests_gone(v_lease) g
		join evaluation v on v.id = g.evaluation
		join sought s on (s.evaluation, s.attempt) = (g.evaluation, g.attempt)
		where s.at > g.since and s.at < heard_until()
			and (v.resent_at is null or v.resent_at < now() - v_lease * 2 ^ least(v.resent, 6))
		order by v.id limit p_limit
	), again as materialized (
		update evaluation v set resent = resent + 1, resent_at = now(), version = version + 1
		from due where v.id = due.id and v.state = 'queued'
		returning v.id, v.asked_attempt, v.request_exchange, v.request_key, v.request, gen_random_uuid() as message_id
	), owed as (
		insert into outbox (evaluation, exchange, routing_key, message_id, body)
		select id, request_exchange, request_key, message_id, (request || jsonb_build_object('id', message_id,
			'attempt', asked_attempt, 'created_at', rfc3339(now())))::text
		from again
	)
	select id, asked_attempt, request_key from again order by id;
end $$;

-- Ends attempts that nobody holds and whose end was looked for p_times times, as lost: see audit_leases of
-- 0106, whose rows these are.
create function end_unheld(p_times int default 3, p_infrastructure int default 3,
	p_delay_usec bigint default 10000000, p_poison int default 2, p_limit int default 500)
returns table (evaluation bigint, attempt int, attempt_id uuid, detail text, ended boolean, again int)
language plpgsql as $$
#variable_conflict use_column
declare
	v_events jsonb;
begin
	with due as (
		select u.*, format('worker %s does not hold it any more, and no event says how it ended', worker) as detail
		from attempts_unheld() u
		join sought s using (evaluation, attempt)
		where s.times >= p_times and s.at < heard_until()
		order by evaluation, attempt, attempt_id limit p_limit
	)
	select jsonb_agg(jsonb_build_object('evaluation', evaluation, 'attempt', attempt, 'attempt_id', attempt_id,
		'seq', 1000000000001, 'kind', 'failed', 'at', now(), 'host', host, 'worker', worker,
		'body', jsonb_build_object('reason', 'lost', 'detail', detail))
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

-- SPDX-License-Identifier: MIT
-- Requests that no queue holds any more: a queue was purged, or deleted and made again.

-- How often the request was sent again because of that, and when last.
alter table evaluation add column resent int not null default 0;
alter table evaluation add column resent_at timestamptz;

-- What the leader saw in work queues. empty_since: no message was ready there at any look from then on;
-- null: there was, or there is no such queue. Only the looks of one leader in a row count.
create unlogged table queue_look (
	routing_key text primary key,
	empty_since timestamptz,
	seen_at     timestamptz not null
);

-- p_messages: negative if there is no such queue.
create function saw_queue(p_routing_key text, p_messages bigint) returns void
language sql as $$
	insert into queue_look as q (routing_key, empty_since, seen_at)
	values (p_routing_key, case when p_messages = 0 then now() end, now())
	on conflict (routing_key) do update set
		empty_since = case when p_messages <> 0 then null
			when q.seen_at > now() - interval '1 minute' then coalesce(q.empty_since, now()) else now() end,
		seen_at = now()
$$;

-- The queues, by routing key, of requests that have waited for longer than a lease.
create function queues_to_see(p_lease_usec bigint) returns table (routing_key text)
language sql stable as $$
	select distinct request_key from evaluation
	where state = 'queued' and queued_at < now() - p_lease_usec * interval '1 microsecond' and request is not null
	order by 1 limit 64
$$;

-- Sends requests again whose queue was empty for longer than a lease, and that nobody has taken as far as
-- anybody told before the last look. A worker may hold one all the same: its claim makes the second one
-- harmless. Each has more time than the one before, so that a queue that is never served is not flooded.
create function resend_requests(p_lease_usec bigint, p_limit int)
returns table (evaluation bigint, attempt int, routing_key text)
language plpgsql as $$
#variable_conflict use_column
declare
	v_lease interval := p_lease_usec * interval '1 microsecond';
begin
	return query
	with seen as materialized (
		select q.* from queue_look q, listening l
		where q.empty_since < now() - v_lease and q.seen_at > now() - interval '1 minute'
			and q.seen_at < least(l.sent_at, coalesce((select min(clear_at) from listener), '-infinity'))
	), due as (
		select v.id from seen q join evaluation v on v.request_key = q.routing_key
		where v.state = 'queued' and v.queued_at < now() - v_lease and v.queued_at < q.seen_at
			and v.request is not null
			and (v.resent_at is null or v.resent_at < now() - v_lease * 2 ^ least(v.resent, 6))
			and not exists (select from outbox o where o.evaluation = v.id)
			and not exists (select from worker w, jobs_of(w.body) j where j.evaluation = v.id
				and j.attempt >= v.asked_attempt)
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

-- SPDX-License-Identifier: MIT
-- What programs read, and the few changes that are more than one row.

-- How times are written everywhere outside the database.
create function rfc3339(t timestamptz) returns text
language sql stable return to_char(t at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');

-- `body` has the keys of evaluations.h, in their order.
create view evaluation_list as
select v.id, v.state, v.submission, c.label as challenge, s.author, v.evaluator,
	coalesce(a.host, v.host) as host, v.reason,
	v.step = 4 and (v.attempt >= v.wanted_attempt or v.cancel_attempt >= v.wanted_attempt) as settled,
	json_build_object(
		'id', v.id,
		'status', v.state,
		'reason', v.reason,
		'detail', case when v.state = 'canceled' and v.cancel_at is not null
			then 'canceled by ' || v.cancel_by else a.ending->>'detail' end,
		'exit_code', a.ending->'exit_code',
		'signal', a.ending->'signal',
		'attempt', nullif(v.attempt, 0),
		'attempt_id', a.attempt_id,
		'scores', case when v.state <> 'canceled' then a.ending->'scores' end,
		'scores_error', a.ending->'scores_error',
		'results', json_build_object('state', coalesce(a.results_state, 'none'), 'path',
			case when a.results_state = 'stored' then a.results_path end, 'detail', a.results_detail),
		'host', coalesce(a.host, v.host),
		'worker', a.worker,
		'submission', v.submission,
		'challenge', c.label,
		'author', s.author,
		'evaluator', v.evaluator,
		'pool', v.pool,
		'priority', v.priority,
		'args', v.args,
		'progress', case when a.progress is not null then json_build_object(
			'done', a.progress->'done', 'total', a.progress->'total', 'fraction', a.progress->'fraction',
			'text', a.progress->'text', 'phase', a.progress->'phase') end,
		'settled', v.step = 4 and (v.attempt >= v.wanted_attempt or v.cancel_attempt >= v.wanted_attempt),
		'created_at', rfc3339(v.created_at),
		'queued_at', rfc3339(v.queued_at),
		'started_at', coalesce(a.ending->>'started_at', rfc3339(a.started_at)),
		'finished_at', case when v.step = 4 then
			coalesce(a.ending->>'finished_at', rfc3339(a.ended_at), rfc3339(v.cancel_at)) end) as body
from evaluation v
join submission s on s.id = v.submission
join challenge c on c.id = v.challenge
left join attempt a on (a.evaluation, a.attempt, a.attempt_id) = (v.id, v.attempt, v.attempt_id);

create view attempt_list as
select a.evaluation, a.attempt, a.attempt_id, json_build_object(
	'attempt', a.attempt,
	'attempt_id', a.attempt_id,
	'in_force', a.attempt_id = v.attempt_id and a.attempt = v.attempt,
	'host', a.host,
	'worker', a.worker,
	'status', coalesce(a.end_state, 'running'),
	'reason', a.ending->'reason',
	'detail', a.ending->'detail',
	'exit_code', a.ending->'exit_code',
	'signal', a.ending->'signal',
	'phase', coalesce(a.ending->'phase', a.progress->'phase'),
	'scores', a.ending->'scores',
	'scores_error', a.ending->'scores_error',
	'usage', a.ending->'usage',
	'log', a.ending->'log',
	'isolation', coalesce(a.ending->'isolation', a.isolation),
	'results', json_build_object('state', a.results_state, 'path',
		case when a.results_state = 'stored' then a.results_path end, 'detail', a.results_detail,
		'root_hash', a.ending->'root_hash', 'bytes', a.ending->'result_bytes'),
	'started_at', coalesce(a.ending->>'started_at', rfc3339(a.started_at)),
	'finished_at', coalesce(a.ending->>'finished_at', rfc3339(a.ended_at))) as body
from attempt a join evaluation v on v.id = a.evaluation;

create view submission_list as
select s.id, c.label as challenge, s.author, st.status, json_build_object(
	'id', s.id,
	'challenge', c.label,
	'author', s.author,
	'status', st.status,
	'digest', s.digest,
	'bytes', s.bytes,
	'files', s.files,
	'evaluation', last.id,
	'evaluator', coalesce(last.evaluator, c.evaluator),
	'pool', coalesce(last.pool, c.pool),
	'host', coalesce(last.host, c.host),
	'args', c.args,
	'active', c.active and now() >= coalesce(c.starts_at, '-infinity') and now() < coalesce(c.ends_at, 'infinity'),
	'created_at', rfc3339(s.created_at)) as body
from submission s
join challenge c on c.id = s.challenge
left join lateral (select id, state, evaluator, pool, host from evaluation where submission = s.id
	order by id desc limit 1) last on true
cross join lateral (select case when s.state <> 'uploaded' then s.state when s.excluded then 'excluded'
	else coalesce(last.state, 'uploaded') end as status) st;

create view challenge_list as
select c.id, c.label, c.active, json_build_object(
	'id', c.id,
	'label', c.label,
	'evaluator', c.evaluator,
	'pool', c.pool,
	'host', c.host,
	'args', c.args,
	'description', c.description,
	'url', c.url,
	'active', c.active,
	'start', rfc3339(c.starts_at),
	'end', rfc3339(c.ends_at),
	'created_at', rfc3339(c.created_at),
	'submissions', (select count(*) from submission where challenge = c.id and state = 'uploaded'),
	'evaluations', (select count(*) from evaluation v join submission s on s.id = v.submission
		where s.challenge = c.id)) as body
from challenge c;

-- What a leaderboard is made of. A score counts unless its result could not be verified.
create view leaderboard_entry as
select v.challenge, s.id as submission, v.id as evaluation, json_build_object(
	'author_label', s.author,
	'score', coalesce(a.ending->'scores', 'null'),
	'submission', s.id,
	'evaluation', v.id,
	'submitted_at', rfc3339(s.created_at),
	'finished_at', rfc3339(a.ended_at)) as body
from evaluation v
join submission s on s.id = v.submission
join attempt a on (a.evaluation, a.attempt, a.attempt_id) = (v.id, v.attempt, v.attempt_id)
where v.state = 'completed' and a.results_state <> 'refused' and s.state = 'uploaded' and not s.excluded;

create function mark_boards(p_challenge bigint) returns void
language sql as $$
	insert into leaderboard_dirty (challenge)
	select p_challenge where exists (select from leaderboard where challenge = p_challenge)
$$;

-- The broker has it.
create function outbox_sent(p_id bigint) returns void
language sql as $$
	with gone as (delete from outbox where id = p_id returning evaluation)
	update evaluation v set
		step = greatest(v.step, 1::smallint),
		state = case when v.step = 0 then 'queued' else v.state end,
		queued_at = now(), version = version + 1
	from gone where v.id = gone.evaluation and v.queued_at is null
$$;

-- Accepts a cancel, unless the evaluation has ended and no retry is under way. Answers the state
-- before; null: no such evaluation. The control message is owed only if the cancel was accepted; a
-- request that never left is taken back.
create function cancel_evaluation(p_id bigint, p_by text, p_exchange text, p_routing_key text,
	p_message_id uuid, p_body text, out was text, out outbox bigint)
language plpgsql as $$
declare
	v evaluation;
begin
	select * into v from evaluation where id = p_id for update;
	was := v.state;
	if v.id is null or v.step = 4 and (v.attempt >= v.wanted_attempt or v.cancel_attempt >= v.wanted_attempt) then
		return;
	end if;
	-- While a retry runs the earlier end stays what it is; the cancel covers the retry alone.
	update evaluation set
		state = case when v.step = 4 then v.state else 'canceled' end,
		reason = case when v.step = 4 then v.reason else 'canceled' end,
		step = 4, cancel_at = now(), cancel_by = p_by,
		cancel_attempt = 2147483647, version = version + 1
	where id = p_id;
	delete from outbox o where o.evaluation = p_id;
	insert into outbox (exchange, routing_key, message_id, body)
	values (p_exchange, p_routing_key, p_message_id, p_body) returning id into outbox;
end $$;

-- A retry by hand: the next ordinal above all that were allowed so far. False: the evaluation has not
-- ended, or somebody else was faster.
create function retry_evaluation(p_id bigint, p_attempt int, p_exchange text, p_routing_key text,
	p_message_id uuid, p_body text, out accepted boolean, out outbox bigint)
language plpgsql as $$
begin
	update evaluation set wanted_attempt = p_attempt, max_attempts = p_attempt,
		cancel_attempt = least(cancel_attempt, p_attempt - 1), version = version + 1
	where id = p_id and step = 4 and p_attempt = greatest(attempt, max_attempts, wanted_attempt) + 1
		and (attempt >= wanted_attempt or cancel_attempt >= wanted_attempt);
	accepted := found;
	if accepted then
		insert into outbox (evaluation, exchange, routing_key, message_id, body)
		values (p_id, p_exchange, p_routing_key, p_message_id, p_body) returning id into outbox;
	end if;
end $$;

-- Results that wait to be collected from hosts that are not in p_skip (a list of names), and those with
-- the root hash p_empty from any host, which is not needed for them. Each gets its place once: a second
-- attempt of the same ordinal gets its attempt_id into the name.
create function results_due(p_skip jsonb, p_limit int, p_empty text) returns table (evaluation bigint, attempt int,
	attempt_id uuid, host text, root_hash text, bytes text, path text)
language plpgsql as $$
#variable_conflict use_column
begin
	update attempt a set results_path = a.evaluation || '/' || a.attempt || case when exists (
			select from attempt b where b.evaluation = a.evaluation and b.attempt = a.attempt
				and b.attempt_id <> a.attempt_id and (b.results_path is not null
					or (b.results_state = 'pending' and b.attempt_id < a.attempt_id)))
			then '.' || a.attempt_id else '' end
	where a.results_state = 'pending' and a.results_path is null;
	return query select a.evaluation, a.attempt, a.attempt_id, a.host, a.ending->>'root_hash',
		a.ending->>'result_bytes', a.results_path
	from attempt a
	-- One that became pending since the statement above has no path yet: it is for the next call.
	where a.results_state = 'pending' and a.results_path is not null and (a.ending->>'root_hash' = p_empty
		or not exists (select from jsonb_array_elements_text(p_skip) as skip (name) where skip.name = a.host))
	order by a.evaluation, a.attempt limit p_limit;
end $$;

-- A collection has ended: p_state stored or refused. The release that the host waits for, if it has
-- sealed something, is owed from the same moment; what was refused stays there for a person to look
-- at. Answers the outbox row of the release, 0 without one; null: it was not pending any more.
create function results_done(p_evaluation bigint, p_attempt int, p_attempt_id uuid, p_state text,
	p_detail text, p_exchange text, p_routing_key text, p_message_id uuid, p_body text) returns bigint
language plpgsql as $$
declare
	v_outbox bigint := 0;
begin
	update attempt set results_state = p_state, results_detail = left(p_detail, 4000), results_at = now()
	where evaluation = p_evaluation and attempt = p_attempt and attempt_id = p_attempt_id
		and results_state = 'pending';
	if not found then
		return null;
	end if;
	update evaluation set version = version + 1 where id = p_evaluation;
	if p_state = 'refused' then
		perform mark_boards(challenge) from evaluation where id = p_evaluation;
	elsif p_exchange is not null then
		insert into outbox (exchange, routing_key, message_id, body)
		values (p_exchange, p_routing_key, p_message_id, p_body) returning id into v_outbox;
	end if;
	return v_outbox;
end $$;

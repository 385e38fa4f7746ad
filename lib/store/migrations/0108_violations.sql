-- SPDX-License-Identifier: MIT
-- What a job was refused, and under which conditions it was measured, are shown with its attempt.

create or replace view attempt_list as
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
	'violations', a.ending->'violations',
	'conditions', a.ending->'conditions',
	'results', json_build_object('state', a.results_state, 'path',
		case when a.results_state = 'stored' then a.results_path end, 'detail', a.results_detail,
		'root_hash', a.ending->'root_hash', 'bytes', a.ending->'result_bytes'),
	'started_at', coalesce(a.ending->>'started_at', rfc3339(a.started_at)),
	'finished_at', coalesce(a.ending->>'finished_at', rfc3339(a.ended_at))) as body
from attempt a join evaluation v on v.id = a.evaluation;

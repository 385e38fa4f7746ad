-- SPDX-License-Identifier: MIT
-- The tables. Times are timestamptz, identifiers and sizes bigint; jsonb holds only bodies that
-- nobody filters on. Length limits are where text from outside is kept.

create table challenge (
	id          bigint generated always as identity primary key,
	label       text not null unique check (label ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
	evaluator   text not null check (evaluator ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
	pool        text check (pool ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
	host        text check (length(host) between 1 and 255),
	args        jsonb not null default '[]',
	description text not null default '' check (length(description) <= 10000),
	url         text not null default '' check (length(url) <= 2000),
	active      boolean not null default true,
	starts_at   timestamptz,
	ends_at     timestamptz,
	created_at  timestamptz not null default now()
);

-- What `evaluators:discover` found, host by host.
create table evaluator (
	host        text not null check (length(host) between 1 and 255),
	name        text not null check (length(name) between 1 and 64),
	body        jsonb not null,
	seen_at     timestamptz not null default now(),
	primary key (host, name)
);

create table submission (
	id          bigint generated always as identity primary key,
	challenge   bigint not null references challenge,
	author      text not null check (length(author) between 1 and 200),
	state       text not null default 'uploading' check (state in ('uploading', 'uploaded', 'deleted')),
	excluded    boolean not null default false,
	digest      text check (digest ~ '^sha256:[0-9a-f]{64}$'),
	bytes       bigint,
	files       bigint,
	created_at  timestamptz not null default now()
);
create index submission_challenge on submission (challenge);

-- Holds the join of everything that was heard: where the evaluation stands (step, state) and the
-- attempt that says so. What that attempt said in full is its row in `attempt`.
--   step: 0 created, 1 queued, 2 an attempt runs, 3 an attempt is over and a further one is allowed,
--   4 ended. While nothing has ended a later attempt wins whatever it says; an end beats all that is
--   not one.
create sequence evaluation_id as bigint;
create table evaluation (
	id             bigint primary key default nextval('evaluation_id'),
	submission     bigint not null references submission,
	challenge      bigint not null references challenge,
	evaluator      text not null check (length(evaluator) <= 64),
	pool           text check (length(pool) <= 64),
	host           text check (length(host) <= 255),
	priority       text not null default 'normal' check (priority in ('normal', 'high')),
	args           jsonb,
	limits         jsonb,
	max_attempts   int not null default 1 check (max_attempts >= 1),
	wanted_attempt int not null default 1, -- the first ordinal of the newest request
	state          text not null default 'created'
		check (state in ('created', 'queued', 'running', 'completed', 'failed', 'canceled')),
	reason         text,
	step           smallint not null default 0,
	attempt        int not null default 0,
	attempt_id     uuid not null default '00000000-0000-0000-0000-000000000000',
	-- An accepted cancel covers the attempts up to this ordinal: all, until a retry by hand sets it
	-- just below its own.
	cancel_attempt int not null default 0,
	cancel_at      timestamptz,
	cancel_by      text check (length(cancel_by) <= 200),
	created_at     timestamptz not null default now(),
	queued_at      timestamptz,
	version        bigint not null default 1
) with (fillfactor = 70);
create index evaluation_submission on evaluation (submission);
create index evaluation_completed on evaluation (challenge) where state = 'completed';
create index evaluation_open on evaluation (state) where state in ('created', 'queued', 'running');

-- One row per attempt. Each group of columns is a join of its own: the start by the earliest time,
-- the worker and the progress by the highest seq, the end by (a real outcome before lost and
-- infrastructure, then the lowest seq). `progress` and `ending` are the bodies of those events.
create table attempt (
	evaluation     bigint not null, -- no foreign key: apply_events() looked; nobody deletes evaluations
	attempt        int not null,
	attempt_id     uuid not null,
	last_seq       bigint not null,
	host           text check (length(host) <= 255),
	worker         text check (length(worker) <= 280),
	started_at     timestamptz,
	isolation      jsonb,
	progress_seq   bigint,
	progress       jsonb,
	end_rank       bigint, -- the seq of the end; more than 2^62 for lost and infrastructure
	end_state      text check (end_state in ('completed', 'failed', 'canceled')),
	ended_at       timestamptz,
	ending         jsonb,
	results_state  text not null default 'none' check (results_state in ('none', 'pending', 'stored', 'refused')),
	results_path   text, -- beneath the results folder
	results_detail text,
	results_at     timestamptz,
	primary key (evaluation, attempt, attempt_id)
) with (fillfactor = 70);
create index attempt_pending on attempt (host, evaluation) where results_state = 'pending';

-- Everything that was said, the words of losers included. The primary key is the inbox.
create table event (
	evaluation  bigint not null,
	attempt     int not null,
	attempt_id  uuid not null,
	seq         bigint not null,
	id          bigint generated always as identity,
	kind        text not null,
	at          timestamptz not null,
	host        text,
	worker      text,
	body        jsonb not null,
	recorded_at timestamptz not null default now(),
	primary key (evaluation, attempt, attempt_id, seq)
);

-- Messages that could not be applied, with their original bytes.
create table parked_event (
	id          bigint generated always as identity primary key,
	message_id  text unique,
	routing_key text not null,
	reason      text not null,
	detail      text not null,
	body        bytea not null,
	parked_at   timestamptz not null default now()
);

create table worker (
	worker  text primary key check (length(worker) <= 280),
	host    text not null,
	at      timestamptz not null,
	seen_at timestamptz not null default now(),
	body    jsonb not null
) with (fillfactor = 50);

create table leaderboard (
	id         bigint generated always as identity primary key,
	label      text not null unique check (label ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
	challenge  bigint not null references challenge,
	definition jsonb not null,
	created_at timestamptz not null default now(),
	built_at   timestamptz,
	entries    int,
	skipped    jsonb,
	error      text
);
create index leaderboard_challenge on leaderboard (challenge);

-- "The boards of this challenge are older than the truth." Only appended and deleted, so that
-- nobody waits for another's lock.
create table leaderboard_dirty (
	id        bigint generated always as identity primary key,
	challenge bigint not null
);

-- Messages that a committed change owes the broker.
create table outbox (
	id          bigint generated always as identity primary key,
	evaluation  bigint, -- whose request this is; null for other messages
	exchange    text not null,
	routing_key text not null,
	message_id  uuid not null unique,
	body        text not null,
	created_at  timestamptz not null default now(),
	next_at     timestamptz not null default now(),
	tries       int not null default 0,
	error       text
);

-- Work that one process does for all. A crash of the server empties it: that is a new election.
create unlogged table leader (
	name       text primary key,
	holder     text not null,
	expires_at timestamptz not null
);

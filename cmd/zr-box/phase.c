/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "base/str.h"
#include "base/time.h"
#include "engine.h"
#include "exec/journal.h"
#include "jail.h"
#include "keeper.h"

enum {
	POLL_N = IN_N + POLL_CONTROL + 1,
	TOGETHER_USEC = 100000,
};

void phase_stop(struct keeper *k, bool gently)
{
	uint64_t now = time_mono_usec();

	if (k->stop_usec)
		return;
	k->stop_usec = now;
	k->kill_usec = now;
	if (!gently || !k->spec->term_grace_usec)
		return;
	k->kill_usec = now + k->spec->term_grace_usec;
	end_signal(k, SIGTERM);
	/* What was stopped cannot act on a SIGTERM. */
	end_signal(k, SIGCONT);
}

/* A limit of time, the end of its lease and a request to cancel let the job say good-bye; after the
 * others there is nothing that it may still do. */
static void act_on_verdict(struct keeper *k)
{
	if (k->decided)
		phase_stop(k, k->reason == BOX_CANCELED || k->reason == BOX_WALL_LIMIT ||
				      k->reason == BOX_INFRASTRUCTURE || k->reason == BOX_LOST);
	if (k->hurry)
		k->kill_usec = k->stop_usec;
}

static uint64_t wall_deadline(const struct keeper *k)
{
	uint64_t limit = k->spec->limits.wall_usec[k->phase];
	uint64_t from = k->exec_usec ? k->exec_usec : k->fork_usec;

	return limit && limit < UINT64_MAX - from ? from + limit : UINT64_MAX;
}

static void check_wall(struct keeper *k, uint64_t now)
{
	char limit[32];

	if (k->stop_usec || now < wall_deadline(k))
		return;
	str_span_text(limit, sizeof(limit), k->spec->limits.wall_usec[k->phase]);
	verdict(k, BOX_WALL_LIMIT, "%s took longer than %s", phase_name(k->phase), limit);
}

static void note_started(struct keeper *k)
{
	struct err e = { 0 };
	char *record = NULL;
	int r;

	if (k->result.started_wall_usec) {
		r = journal_add_phase(k->journal, k->phase, &e);
	} else {
		k->result.started_wall_usec = time_wall_usec();
		r = journal_add_started(k->journal, k->result.started_wall_usec, k->phase,
					k->isolation, &record, &e);
		FAILPOINT("keeper.started");
		control_started(k, record);
	}
	if (r < 0)
		verdict(k, BOX_INFRASTRUCTURE, "%s", e.msg);
	watch_begin(k);
}

static size_t poll_inputs(const struct keeper *k, struct pollfd *p)
{
	for (int i = 0; i < IN_N; i++)
		p[i] = (struct pollfd){ .fd = k->in[i], .events = POLLIN };
	return IN_N;
}

static void handle_inputs(struct keeper *k, const struct pollfd *p)
{
	if (p[IN_EXEC].revents && k->in[IN_EXEC] >= 0) {
		bool began = k->exec_usec;

		spawn_seen(k);
		if (k->exec_usec && !began)
			note_started(k);
	}
	for (enum input in = IN_OUT; in <= IN_PROGRESS; in++)
		if (p[in].revents && k->in[in] >= 0)
			output_read(k, in);
}

static uint64_t earliest(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* One turn: what is due, then wait. False: the phase is at its end. */
static bool turn(struct keeper *k)
{
	struct pollfd p[POLL_N];
	uint64_t now = time_mono_usec(), until;
	size_t n;

	until = earliest(watch_tick(k, now), control_tick(k, now));
	check_wall(k, now);
	if (signals_take_stop())
		verdict(k, BOX_INFRASTRUCTURE, "the keeper was told to end");
	/* First: a phase that has ended was not stopped by what comes now. */
	if (!end_reap(k, NULL) || k->leader_ended || (k->engine && engine_is_over(k)))
		return false;
	lease_check(k);
	act_on_verdict(k);
	if (k->stop_usec && (now >= k->kill_usec || lease_is_over(k)))
		return false;
	until = earliest(until, k->stop_usec ? k->kill_usec : wall_deadline(k));
	n = poll_inputs(k, p);
	n += control_poll(k, p + n);
	p[n] = (struct pollfd){ .fd = k->violations.listener, .events = POLLIN };
	(void)signals_poll(p, n + 1, until);
	handle_inputs(k, p);
	if (p[n].revents)
		violations_listen(k, p[n].revents);
	control_events(k, p + IN_N);
	return true;
}

static void begin(struct keeper *k, enum phase p)
{
	k->phase = p;
	k->result.phase = p;
	k->leader_ended = false;
	k->exec_usec = k->stop_usec = k->kill_usec = 0;
	k->sample_usec = k->disk_usec = UINT64_MAX;
	/* A group that was just made has used nothing. */
	k->cpu_before_usec = k->cg.v2 >= 0 && !k->fork_usec ? 0 : watch_cpu_usec(k);
	k->fork_usec = time_mono_usec();
	if (k->result.started_wall_usec)
		control_tell(k, TELL_PHASE);
}

/* A service manager that stops its service ends all that runs in it, and comes to us last, perhaps. */
static bool is_told_to_end(const struct box_result *r)
{
	uint64_t until = time_mono_usec() + (r->signal == SIGTERM ? TOGETHER_USEC : 0);
	bool told;

	do
		(void)signals_poll(NULL, 0, until);
	while (!(told = signals_take_stop()) && time_mono_usec() < until);
	return told;
}

/* What the leader's status means, if nothing else explains the end. */
static void judge_leader(struct keeper *k)
{
	struct box_result *r = &k->result;
	const char *phase = phase_name(k->phase);
	int status = k->leader_status;

	if (!k->leader_ended || !k->exec_usec)
		return;
	r->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	r->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	if ((r->signal || r->exit_code) && !k->decided && is_told_to_end(r))
		verdict(k, BOX_INFRASTRUCTURE, "the keeper was told to end");
	if (r->signal == SIGXFSZ && k->spec->limits.disk_bytes)
		verdict(k, BOX_DISK, "%s wrote a file larger than its disk limit", phase);
	else if (r->signal == SIGXCPU && k->spec->limits.cpu_usec)
		verdict(k, BOX_CPU_LIMIT, "%s used more CPU time than it may", phase);
	else if (r->signal)
		verdict(k, BOX_SIGNAL, "%s was ended by signal %d (%s)", phase, r->signal,
			strsignal(r->signal));
	else if (r->exit_code)
		verdict(k, BOX_EXIT, "%s exited with status %d", phase, r->exit_code);
	if (r->signal || r->exit_code)
		jail_judge_full(k);
}

/* Seen to begin only after it was told to end, it began at some time after the fork. */
static uint64_t phase_usec(const struct keeper *k)
{
	uint64_t from = k->exec_usec < k->stop_usec ? k->exec_usec : k->fork_usec;

	return from < k->stop_usec ? k->stop_usec - from : 0;
}

static void end(struct keeper *k)
{
	bool began = k->exec_usec;
	uint64_t took;

	if (!k->stop_usec)
		k->stop_usec = time_mono_usec();
	end_all(k);
	/* The exec pipe may hold the reason why there was no script to wait for. */
	if (k->in[IN_EXEC] >= 0) {
		spawn_seen(k);
		if (k->exec_usec && !began)
			note_started(k);
	}
	output_drain(k);
	watch_end(k);
	if (k->engine && !k->stuck)
		engine_reaped(k);
	judge_leader(k);
	if (!k->exec_usec)
		return;
	took = phase_usec(k);
	k->result.wall_usec += took;
	if (k->phase == PHASE_RUN)
		k->run_wall_usec = took;
	violations_used(k, NEAR_WALL, took, k->spec->limits.wall_usec[k->phase]);
}

void phase_run(struct keeper *k, enum phase p)
{
	struct err e = { 0 };
	struct progress_pattern *pattern = NULL;

	begin(k, p);
	if (k->spec->progress_pattern &&
	    progress_pattern_new(k->spec->progress_pattern, &pattern, &e) < 0) {
		verdict(k, BOX_SETUP, "%s", e.msg);
		return;
	}
	progress_feed_init(&k->feed[IN_OUT], PROGRESS_LOG, pattern);
	progress_feed_init(&k->feed[IN_ERR], PROGRESS_LOG, pattern);
	progress_feed_init(&k->feed[IN_PROGRESS], PROGRESS_DESCRIPTOR, NULL);
	if (timing_place(k, &e) < 0 || spawn_leader(k, &e) < 0) {
		verdict(k, BOX_INFRASTRUCTURE, "%s", e.msg);
		output_drain(k);
	} else {
		while (turn(k))
			;
		end(k);
	}
	progress_pattern_free(pattern);
}

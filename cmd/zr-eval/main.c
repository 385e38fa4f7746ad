/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * zr-eval takes evaluation requests from a channel and has each one run by a keeper, zr-box. The
 * supervisor (no --worker) holds no connection and no job; it starts N workers and replaces them
 * (base/super). A worker is one event loop that joins four things:
 *
 *	channel   requests come in, events go out (messaging/channel; a spool on disk lies between)
 *	fetcher   submissions are brought into this host's cache by zr-fetch (fetch.c)
 *	boxes     each job is a box folder with a keeper that outlives us (exec/box, job.c)
 *	gpus      what zr-gpu says this host has
 *	control   cancels, and leave to forget a collected result (control.c)
 *
 * The way of a request: claim.c checks it against the evaluator's file, makes the box folder and
 * keeps its text beside the events; when that is synced the delivery is acknowledged. job.c fetches
 * the submission, hands the box to a keeper and follows it; report.c turns what it says into events.
 * The end is reported by a durable event before the box folder is removed. Whatever is killed in
 * between, the next worker to start finds the folder and goes on from what it says
 * (job_adopt_all()); if the host crashed, the folder is made again from the note (claim_found()).
 *
 * SIGTERM: no new requests, the jobs at hand are finished and reported, exit. A second SIGTERM, or
 * the end of the supervisor: exit at once, keepers run on. SIGHUP: limits for new jobs are read
 * again; the bin folder is read for every request anyway.
 *
 * Neither process is dumpable: a job at level `none` has our uid and must not read the broker's
 * password from our memory or environment.
 */
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/daemon.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/str.h"
#include "base/super.h"
#include "beat.h"
#include "claim.h"
#include "control.h"
#include "eval.h"
#include "exec/container.h"
#include "exec/leftover.h"
#include "gpus.h"
#include "job.h"
#include "ledger.h"
#include "pike.h"
#include "report.h"

#define EXIT_USAGE      2
#define DISK_CHECK_USEC (5 * USEC_PER_SEC)
/* Between two tries to take work that had to go back, doubled each time. */
#define PAUSE_USEC     USEC_PER_SEC
#define PAUSE_MAX_USEC (30 * USEC_PER_SEC)
/* Events that wait for the broker: hours of them. */
#define EVENT_SPOOL_MAX ((uint64_t)1 << 30)

enum {
	OPTION_CHANNEL,
	OPTION_PIKE,
};
_Static_assert(OPTION_PIKE + PIKE_OPTION_N <= DAEMON_OPTIONS_MAX, "there is room for all options");

static const struct daemon_option options[] = {
	[OPTION_CHANNEL] = { "channel", "CHANNEL",
			     "amqp, or dir:FOLDER: where requests come from; several with pike",
			     true },
	PIKE_OPTIONS,
	{ 0 },
};

static bool is_pike(const struct daemon_options *o)
{
	return pike_is_asked_for(o->given + OPTION_PIKE);
}

/* --- one worker ---------------------------------------------------------------------------- */

struct worker {
	struct eval ev;
	struct super_link *link;
	struct loop_src *signals[3];
	const struct daemon_options *options;
	struct pike_setup pike;
	pid_t supervisor;
	struct loop_src *sweeper;
	int sweeper_fd;
	bool ready;
};

static void on_left(void *user)
{
	struct eval *ev = user;

	loop_exit(ev->loop, 0);
}

/* Draining, and nothing is left to do or to say: take leave. */
static void leave_if_done(struct eval *ev)
{
	if (!ev->draining || ev->leaving || !TAILQ_EMPTY(&ev->jobs) ||
	    !channel_is_idle(ev->channel) || channel_waiting(ev->channel))
		return;
	ev->leaving = true;
	claim_sweep(ev);
	beat_gone(ev->beat);
	channel_close(ev->channel, on_left, ev);
}

void eval_update_intake(struct eval *ev)
{
	bool closed = ev->draining || ev->disk_low || ev->paused || !ev->adopted ||
		      !gpus_are_known(ev->gpus);
	unsigned free_slots = ev->n_jobs < ev->slots ? ev->slots - ev->n_jobs : 0;

	if (!ev->channel)
		return;
	channel_want(ev->channel, closed ? 0 : free_slots);
	leave_if_done(ev);
}

void eval_pause_intake(struct eval *ev)
{
	if (ev->paused)
		return;
	ev->pause_usec = ev->pause_usec ? ev->pause_usec * 2 : PAUSE_USEC;
	if (ev->pause_usec > PAUSE_MAX_USEC)
		ev->pause_usec = PAUSE_MAX_USEC;
	ev->paused = true;
	loop_timer_set(ev->pause, ev->pause_usec);
	eval_update_intake(ev);
}

void eval_intake_is_good(struct eval *ev)
{
	if (!ev->paused)
		ev->pause_usec = 0;
}

static void on_pause_over(void *user)
{
	struct eval *ev = user;

	ev->paused = false;
	eval_update_intake(ev);
}

static void on_disk_timer(void *user)
{
	struct eval *ev = user;
	struct err e = { 0 };
	uint64_t free_bytes;
	bool low;

	loop_timer_set(ev->disk_timer, DISK_CHECK_USEC);
	if (ev->channel)
		claim_sweep(ev);
	if (fd_free_bytes(ev->settings->state_dir, &free_bytes, &e) < 0) {
		log_warning("%s, taking work nevertheless", e.msg);
		free_bytes = UINT64_MAX;
	}
	low = free_bytes < ev->settings->spool_reserve;
	if (low == ev->disk_low)
		return;
	ev->disk_low = low;
	if (low)
		log_err("less than spool_reserve is free under %s (%llu bytes): no new work until "
			"there "
			"is more",
			ev->settings->state_dir, (unsigned long long)free_bytes);
	else
		log_notice("there is space again under %s, taking work", ev->settings->state_dir);
	eval_update_intake(ev);
}

static void on_state(void *user, bool up, const struct err *why)
{
	struct worker *w = user;

	/* A setting that cannot work is told at once, not tried for ever. */
	if (!up && !w->ready && why && why->kind == ERR_INPUT) {
		log_err("%s", why->msg);
		loop_exit(w->ev.loop, EXIT_USAGE);
		return;
	}
	if (!up) {
		log_warning("%s; trying again", why ? why->msg : "the channel is not there");
		return;
	}
	log_info("connected to the %s",
		 settings_channel_folder(w->ev.settings) || is_pike(w->options) ? "folder"
										: "broker");
	eval_update_intake(&w->ev);
	beat_changed(w->ev.beat);
	if (!w->ready)
		super_link_ready(w->link);
	w->ready = true;
}

static void on_durable(void *user, uint64_t id)
{
	struct worker *w = user;

	report_durable(&w->ev, id);
}

static void on_confirmed(void *user, uint64_t id)
{
	struct worker *w = user;

	report_confirmed(&w->ev, id);
	leave_if_done(&w->ev);
}

static void on_idle(void *user)
{
	struct worker *w = user;

	leave_if_done(&w->ev);
}

static void on_request(void *user, struct channel_request *t, const struct message *m,
		       bool redelivered)
{
	struct worker *w = user;

	claim_request(&w->ev, t, m, redelivered);
}

static bool on_kept(void *user, uint64_t id, const char *name, const void *data, size_t n)
{
	struct worker *w = user;

	return claim_found(&w->ev, id, name, data, n);
}

static void on_control(void *user, const struct message *m)
{
	struct worker *w = user;

	control_message(w->ev.control, m);
}

static void drain(struct worker *w)
{
	enum super_word word = super_link_told(w->link);

	if (word == SUPER_SAME)
		return;
	if (word == SUPER_LEAVE) {
		log_notice("told twice: leaving at once, %u jobs stay with their keepers",
			   w->ev.n_jobs);
		loop_exit(w->ev.loop, 0);
		return;
	}
	w->ev.draining = true;
	log_notice("draining: no new work, %u jobs to finish", w->ev.n_jobs);
	beat_changed(w->ev.beat);
	eval_update_intake(&w->ev);
}

static void reload(struct eval *ev)
{
	(void)daemon_reload(ev->settings, ev->conf, NULL, NULL);
}

static void on_signal(void *user, int signo)
{
	struct worker *w = user;

	if (signo == SIGHUP)
		reload(&w->ev);
	else
		drain(w);
}

static void on_supervisor_lost(void *user)
{
	struct worker *w = user;

	log_err("the supervisor has gone: leaving, %u jobs stay with their keepers", w->ev.n_jobs);
	loop_exit(w->ev.loop, 1);
}

static int watch_signals(struct worker *w, struct err *e)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP };
	int r = 0;

	for (size_t i = 0; i < ARRAY_LEN(signals) && r == 0; i++)
		r = loop_signal(w->ev.loop, signals[i], on_signal, w, &w->signals[i], e);
	return r;
}

/* The supervisor has all of its workers drain, and ends when they have. */
static void on_close(void *user)
{
	const struct worker *w = user;

	log_notice("the channel was closed");
	if (getppid() == w->supervisor)
		kill(w->supervisor, SIGTERM);
}

static void on_report(unused_arg void *user, int level, const char *text)
{
	log_ctx(NULL, level, "%s", text);
}

/* Whoever reads it slowly, or no more, holds nothing up. */
static void on_line(unused_arg void *user, const char *text)
{
	struct pollfd out = { .fd = STDOUT_FILENO, .events = POLLOUT };
	char line[512];
	int n = snprintf(line, sizeof(line), "%s\n", text);

	if (n > 0 && (size_t)n < sizeof(line) && poll(&out, 1, 0) == 1 && out.revents == POLLOUT)
		(void)!write(STDOUT_FILENO, line, (size_t)n);
}

static void on_lost(void *user, const char *why)
{
	struct worker *w = user;

	log_err("%s: the worker begins anew", why);
	loop_exit(w->ev.loop, 1);
}

static int open_channel(struct worker *w, struct err *e)
{
	static const struct channel_ops ops = {
		.on_request = on_request,
		.on_control = on_control,
		.on_durable = on_durable,
		.on_confirmed = on_confirmed,
		.on_idle = on_idle,
		.on_state = on_state,
		.on_report = on_report,
		.on_kept = on_kept,
		.on_close = on_close,
		.on_lost = on_lost,
		.on_line = on_line,
	};
	const struct channel_conf conf = {
		.pike = &w->pike.conf,
		.settings = w->ev.settings,
		.worker = w->ev.number,
		.spool_max = EVENT_SPOOL_MAX,
		.folder = settings_channel_folder(w->ev.settings),
	};

	if (is_pike(w->options))
		return channel_pike_new(w->ev.loop, &conf, &ops, w, &w->ev.channel, e);
	return conf.folder ? channel_dir_new(w->ev.loop, &conf, &ops, w, &w->ev.channel, e)
			   : channel_amqp_new(w->ev.loop, &conf, &ops, w, &w->ev.channel, e);
}

/* For the second time, and now to be kept: this is one of the supervisor's workers. */
static int prepare_pike(struct worker *w, struct err *e)
{
	struct daemon_options o = *w->options;
	int r = pike_apply(o.given + OPTION_PIKE, &o, w->ev.settings, &w->pike, e);

	w->ev.pike = &w->pike;
	return r < 0 ? r : pike_prepare(&w->pike, &o, w->ev.settings, e);
}

static void on_swept(void *user, const siginfo_t *si)
{
	struct worker *w = user;

	if (si->si_code != CLD_EXITED || si->si_status)
		log_ctx(NULL, LOG_WARNING, "containers of killed keepers were not removed");
	w->sweeper = loop_src_free(w->sweeper);
	close(w->sweeper_fd);
}

/* Where there were containers, an engine remembers those of killed keepers. One worker of a host is
 * enough, and nothing waits for it. */
static void sweep_containers(struct worker *w)
{
	auto_free char *spool = NULL, *note = NULL, *program = NULL;
	struct err e = { 0 };
	pid_t pid;
	int r = str_fmt(&spool, "%s/spool", w->ev.settings->state_dir);

	if (r >= 0)
		r = str_fmt(&note, "%s/" CONTAINER_FILE, spool);
	if (r < 0 || w->ev.number != 1 || access(note, F_OK) < 0)
		return;
	r = proc_sister("zr-box", &program, &e);
	if (r == 0)
		r = proc_spawn(
			&(struct proc_spec){
				.path = program,
				.argv = (char *[]){ program, (char[]){ "--sweep" }, spool, NULL },
				.fds = (struct proc_fd[]){ { STDERR_FILENO, STDERR_FILENO } },
				.n_fds = 1,
				.cwd = "/" },
			&pid, &w->sweeper_fd, &e);
	if (r == 0)
		r = loop_child(w->ev.loop, w->sweeper_fd, on_swept, w, &w->sweeper, &e);
	if (r < 0)
		log_ctx(NULL, LOG_WARNING, "containers of killed keepers: %s", e.msg);
}

static int worker_init(struct worker *w, struct err *e)
{
	struct eval *ev = &w->ev;
	int r = is_pike(w->options) ? prepare_pike(w, e) : 0;

	if (r == 0)
		r = fd_mkdirs(ev->settings->state_dir, 0750, e);
	if (r == 0)
		r = loop_new(&ev->loop, e);
	if (r == 0)
		r = watch_signals(w, e);
	if (r == 0)
		r = super_link_new(ev->loop, SUPER_FD, on_supervisor_lost, w, &w->link, e);
	if (r == 0)
		r = cgroup_probe(ev->settings->cgroup_parent, &ev->cgroup, e);
	if (r == 0)
		r = keepers_new(ev->loop, NULL, &ev->keepers, e);
	if (r == 0)
		r = fetcher_new(ev->loop, ev->settings, &ev->fetcher, e);
	if (r == 0)
		r = ledger_new(ev->loop, ev->settings->state_dir, &ev->ledger, e);
	if (r == 0)
		r = gpus_new(ev, &ev->gpus, e);
	if (r == 0)
		r = control_new(ev, &ev->control, e);
	if (r == 0)
		r = beat_new(ev, &ev->beat, e);
	if (r == 0)
		r = loop_timer(ev->loop, 0, on_disk_timer, ev, &ev->disk_timer, e);
	if (r == 0)
		r = loop_timer(ev->loop, USEC_INFINITY, on_pause_over, ev, &ev->pause, e);
	if (r == 0)
		r = open_channel(w, e);
	if (r < 0)
		return r;
	/* Not waiting for the broker: what ended is written to the spool. */
	job_adopt_all(ev);
	keepers_sweep(ev->settings->state_dir);
	leftover_sweep(&ev->cgroup, ev->settings->state_dir);
	sweep_containers(w);
	keepers_warm(ev->keepers);
	return 0;
}

static void worker_done(struct worker *w)
{
	struct eval *ev = &w->ev;

	w->sweeper = loop_src_free(w->sweeper);
	job_free_all(ev);
	keepers_free(ev->keepers);
	report_done(ev);
	claim_done(ev);
	channel_free(ev->channel);
	ev->channel = NULL;
	beat_free(ev->beat);
	control_free(ev->control);
	gpus_free(ev->gpus);
	fetcher_free(ev->fetcher);
	ledger_free(ev->ledger);
	cgroup_host_done(&ev->cgroup);
	loop_src_free(ev->disk_timer);
	loop_src_free(ev->pause);
	for (size_t i = 0; i < ARRAY_LEN(w->signals); i++)
		loop_src_free(w->signals[i]);
	super_link_free(w->link);
	loop_free(ev->loop);
	pike_setup_done(&w->pike);
}
DEFINE_AUTO_DONE(worker);

static int run_worker(const struct daemon_options *o, struct settings *s, struct err *e)
{
	auto_done(worker) w = { .options = o,
				.supervisor = getppid(),
				.ev = { .settings = s,
					.conf = o->conf,
					.number = o->worker,
					.slots = o->prefetch,
					.since_usec = time_wall_usec() } };
	int r;

	TAILQ_INIT(&w.ev.jobs);
	TAILQ_INIT(&w.ev.waits);
	TAILQ_INIT(&w.ev.ended);
	TAILQ_INIT(&w.ev.found);
	snprintf(w.ev.name, sizeof(w.ev.name), "%s/%u", s->host, o->worker);
	r = worker_init(&w, e);
	return r < 0 ? r : loop_run(w.ev.loop, e);
}

/* An option is the setting of this call. */
static int replace_setting(char **setting, const char *given, struct err *e)
{
	char *copy = given ? strdup(given) : NULL;

	if (!given)
		return 0;
	if (!copy)
		return err_nomem(e);
	free(*setting);
	*setting = copy;
	return 0;
}

static int check_settings(struct daemon_options *o, struct settings *s, struct err *e)
{
	int r = replace_setting(&s->channel, o->given[OPTION_CHANNEL], e);

	if (r == 0)
		r = settings_check_channel(s, e);
	if (r == 0 && o->n_more && !is_pike(o))
		return err_input(e, "only the dialect pike serves several channels: start a worker "
				    "for each");
	if (r == 0 && is_pike(o))
		return pike_apply(o->given + OPTION_PIKE, o, s, NULL, e);
	if (r == 0 && o->given[OPTION_PIKE + PIKE_DIALECT] &&
	    !str_eq(o->given[OPTION_PIKE + PIKE_DIALECT], "native"))
		return err_input(e, "there is no dialect '%s' (want native or pike)",
				 STR_ESC(o->given[OPTION_PIKE + PIKE_DIALECT]));
	if (r < 0)
		return r;
	if (str_eq(s->channel, "amqp") && !s->amqp_url)
		return err_input(e, "%s: 'amqp_url' is not set (or set AMQP_URL)", s->file);
	return 0;
}

int main(int argc, char **argv)
{
	static const char *const original[] = { PIKE_ORIGINAL_OPTIONS, NULL };
	static const struct daemon_spec spec = {
		.name = "zr-eval",
		.purpose = "Takes evaluation requests from the broker or a folder and runs them.",
		.options = options,
		.prefetch = 1,
		.prefetch_max = 1024,
		.check = check_settings,
		.run = run_worker,
	};

	daemon_spell(argc, argv, original);
	return daemon_main(argc, argv, &spec);
}

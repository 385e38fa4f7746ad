/* SPDX-License-Identifier: MIT */
#include "attend.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/str.h"
#include "cli.h"
#include "exec/box.h"
#include "exec/keepers.h"
#include "line.h"
#include "logtext.h"
#include "stderr_tail.h"

#define TURN_USEC USEC_PER_SEC
/* A keeper that still has its lock so long after the end has a process that will not die. */
#define LETTING_GO_USEC  (2 * USEC_PER_SEC)
#define LETTING_GO_PAUSE (20 * USEC_PER_MSEC)

struct attend {
	struct loop *loop;
	struct loop_src *signals[3];
	struct keepers *keepers;
	struct box *box;
	const char *title;
	struct attended *to;
	unsigned told; /* signals */
	bool ended;

	struct line line;
	json_t *shown; /* what the line shows, in the form of an evaluation */
	struct stream {
		int fd; /* of its log file, or -1 */
		uint64_t at;
	} stream[BOX_STREAM_N];
	bool tty, midline; /* the job's last line has no end yet */
};

void attended_done(struct attended *a)
{
	box_result_done(&a->result);
	json_decref(a->err);
	a->err = NULL;
}

static void attend_done(struct attend *a)
{
	for (size_t i = 0; i < ARRAY_LEN(a->signals); i++)
		loop_src_free(a->signals[i]);
	box_free(a->box);
	keepers_free(a->keepers);
	loop_free(a->loop);
	for (size_t i = 0; i < BOX_STREAM_N; i++)
		if (a->stream[i].fd >= 0)
			close(a->stream[i].fd);
	line_hide(&a->line);
	line_done(&a->line);
	json_decref(a->shown);
}
DEFINE_AUTO_DONE(attend);

/* --- what is seen of it ------------------------------------------------------------------------- */

static void show(struct attend *a)
{
	if (a->shown && !a->midline)
		line_show(&a->line, a->title, a->shown);
}

/* Words of ours start on a line of their own. */
static void make_room(struct attend *a)
{
	line_hide(&a->line);
	if (a->midline)
		fputc('\n', stderr);
	a->midline = false;
}

static void set_shown(struct attend *a, json_t *v)
{
	json_decref(a->shown);
	a->shown = v;
	show(a);
}

static void on_started(void *user, unused_arg struct box *b, unused_arg uint64_t wall_usec,
		       unused_arg const json_t *isolation)
{
	set_shown(user, json_pack("{s:s}", "status", "running"));
}

static void on_progress(void *user, unused_arg struct box *b, enum phase phase,
			const struct progress *p)
{
	json_t *o = progress_json(p);

	if (o && json_object_set_new(o, "phase", json_string(phase_name(phase))) == 0)
		set_shown(user, json_pack("{s:s, s:O}", "status", "running", "progress", o));
	json_decref(o);
}

static void print(struct attend *a, const char *data, size_t n)
{
	line_hide(&a->line);
	if (a->tty)
		logtext_print(stderr, data, n);
	else
		fwrite(data, 1, n, stderr);
	a->midline = data[n - 1] != '\n';
}

static void on_log(void *user, struct box *b, enum box_stream stream, uint64_t size)
{
	struct attend *a = user;
	struct stream *s = &a->stream[stream];
	char data[65536];

	if (s->fd < 0 && box_open_log(b, stream, &s->fd, NULL) < 0)
		return;
	while (s->at < size) {
		uint64_t left = size - s->at;
		ssize_t n = pread(s->fd, data, left < sizeof(data) ? (size_t)left : sizeof(data),
				  (off_t)s->at);

		if (n <= 0)
			break;
		print(a, data, (size_t)n);
		s->at += (uint64_t)n;
	}
	show(a);
}

/* --- its end ------------------------------------------------------------------------------------ */

/* A copy: what the box has goes with it. */
static int take_result(struct attend *a, const struct box_result *r, struct err *e)
{
	json_t *o = box_result_json(r);
	int n = o ? box_result_from_json(o, &a->to->result, e) : err_nomem(e);

	json_decref(o);
	return n;
}

static void on_end(void *user, struct box *b, const struct box_result *r)
{
	struct attend *a = user;
	auto_close int fd = -1;
	struct err e = { 0 };

	if (take_result(a, r, &e) < 0) {
		a->to->result.reason = BOX_INFRASTRUCTURE;
		a->to->result.detail = strdup(e.msg);
	}
	if (box_open_log(b, BOX_ERR, &fd, NULL) == 0 && stderr_tail_read(fd, &a->to->err, NULL) < 0)
		a->to->err = NULL;
	a->ended = true;
}

static const struct box_calls calls = {
	.on_started = on_started,
	.on_progress = on_progress,
	.on_log = on_log,
	.on_end = on_end,
};

static void on_signal(void *user, int signo)
{
	struct attend *a = user;
	struct err e = { 0 };
	char grace[32];

	if (++a->told == 1)
		a->to->signal = signo;
	if (a->ended)
		return;
	make_room(a);
	if (a->told == 1)
		cli_say("zr evaluate: canceling; the job has %s to end, once more kills it",
			str_span_text(grace, sizeof(grace), box_spec(a->box)->term_grace_usec));
	else if (a->told == 2)
		cli_say("zr evaluate: killing the job");
	if ((a->told == 1 ? box_cancel(a->box, &e) : box_kill(a->box, &e)) < 0)
		cli_say("zr evaluate: %s", e.msg);
}

static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
static volatile sig_atomic_t came;

static void note_signal(int signo)
{
	came = signo;
}

/* By nohup(1), or a shell for what runs in the background: then it stays so. */
static bool is_ignored(int signo)
{
	struct sigaction sa;

	return sigaction(signo, NULL, &sa) == 0 && sa.sa_handler == SIG_IGN;
}

const volatile sig_atomic_t *attend_signals(void)
{
	const struct sigaction sa = { .sa_handler = note_signal };

	for (size_t i = 0; i < ARRAY_LEN(signals); i++)
		if (!is_ignored(signals[i]))
			sigaction(signals[i], &sa, NULL);
	return &came;
}

static int watch_signals(struct attend *a, struct err *e)
{
	int r = 0;

	for (size_t i = 0; i < ARRAY_LEN(signals) && r == 0; i++)
		if (!is_ignored(signals[i]))
			r = loop_signal(a->loop, signals[i], on_signal, a, &a->signals[i], e);
	return r;
}

static bool leaving(const struct attend *a)
{
	return a->told > 2;
}

static int follow(struct attend *a, struct err *e)
{
	int r = 0;

	while (r >= 0 && !a->ended && !leaving(a))
		r = loop_turn(a->loop, TURN_USEC, e);
	a->to->left = !a->ended;
	return r < 0 ? r : 0;
}

/* When we go nothing of the job is there any more, and no keeper. */
static int let_go(struct attend *a, struct err *e)
{
	uint64_t until = time_mono_usec() + LETTING_GO_USEC;
	struct err why = { 0 };
	int r, n = 0;

	while ((r = box_release(a->box, false, &why)) == -EBUSY && time_mono_usec() < until &&
	       n >= 0)
		n = loop_turn(a->loop, LETTING_GO_PAUSE, e);
	a->to->stuck = r == -EBUSY;
	if (r == 0)
		a->box = NULL;
	while (n >= 0 && !a->to->stuck && !leaving(a) && keepers_leave(a->keepers))
		n = loop_turn(a->loop, TURN_USEC, e);
	return n < 0 ? n : 0;
}

int attend(const char *state_dir, const struct box_spec *spec, const char *title,
	   struct attended *ret, struct err *e)
{
	auto_done(attend) a = { .title = title,
				.to = ret,
				.line = LINE_NEW,
				.stream = { { .fd = -1 }, { .fd = -1 } },
				.tty = isatty(STDERR_FILENO) == 1 };
	int r;

	box_result_init(&ret->result);
	r = loop_new(&a.loop, e);
	if (r == 0)
		r = keepers_new(a.loop, NULL, &a.keepers, e);
	if (r == 0)
		r = box_prepare(state_dir, spec, &a.box, e);
	if (r == 0)
		r = watch_signals(&a, e);
	if (r == 0)
		r = box_start(a.box, a.loop, a.keepers, &calls, &a, e);
	if (r < 0)
		return r;
	if (spec->gpus)
		set_shown(&a, json_pack("{s:s}", "status", "waiting for GPUs"));
	if (came)
		on_signal(&a, came);
	r = follow(&a, e);
	make_room(&a);
	return r < 0 || ret->left ? r : let_go(&a, e);
}

/* SPDX-License-Identifier: MIT */
#include "base/super.h"

#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "base/proc.h"
#include "base/str.h"

#define PAUSE_MIN_USEC (100 * USEC_PER_MSEC)
#define PAUSE_MAX_USEC (10 * USEC_PER_SEC)
/* A worker that lived for so long did not fail at its start. */
#define SETTLED_USEC (30 * USEC_PER_SEC)

enum {
	MSG_READY = 'R',
	MSG_BEAT = 'B',
};

struct super;

struct worker {
	struct super *super;
	unsigned number; /* from 1 */
	int pidfd, sock; /* -1: not running */
	bool ready;
	uint64_t started_usec, pause_usec;
	struct loop_src *child, *io, *silence, *restart;
};

struct super {
	const struct super_spec *spec;
	struct loop *loop;
	struct worker *workers;
	struct loop_src *signals[3];
	bool stopping, announced;
	int status;
};

printf_like(3, 4) static void report(const struct super *s, int level, const char *fmt, ...)
{
	char text[640];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	s->spec->report(level, text);
}

static uint64_t silence_usec(const struct super *s)
{
	return s->spec->silence_usec ? s->spec->silence_usec : SUPER_SILENCE_USEC;
}

static void worker_closed(struct worker *w)
{
	w->child = loop_src_free(w->child);
	w->io = loop_src_free(w->io);
	w->silence = loop_src_free(w->silence);
	if (w->pidfd >= 0)
		close(w->pidfd);
	if (w->sock >= 0)
		close(w->sock);
	w->pidfd = w->sock = -1;
	w->ready = false;
}

static void check_all_ready(struct super *s)
{
	for (unsigned i = 0; i < s->spec->workers; i++)
		if (!s->workers[i].ready)
			return;
	if (!s->announced)
		loop_notify("READY=1");
	s->announced = true;
}

static void check_all_ended(struct super *s)
{
	for (unsigned i = 0; i < s->spec->workers; i++)
		if (s->workers[i].pidfd >= 0)
			return;
	loop_exit(s->loop, s->status);
}

/* What the worker has said, if anything. */
static ssize_t worker_hear(struct worker *w)
{
	char text[64];
	ssize_t n = recv(w->sock, text, sizeof(text), MSG_DONTWAIT);

	if (n <= 0)
		return n;
	loop_timer_set(w->silence, silence_usec(w->super));
	if (memchr(text, MSG_READY, (size_t)n)) {
		w->ready = true;
		check_all_ready(w->super);
	}
	return n;
}

static void on_message(void *user, unused_arg int fd, unused_arg uint32_t events)
{
	struct worker *w = user;

	/* Closed: the end of the process itself will be reported by its pidfd. */
	if (worker_hear(w) == 0)
		w->io = loop_src_free(w->io);
}

static void on_silence(void *user)
{
	struct worker *w = user;

	/* After a stop of the supervisor itself the timer may come before the words that wait. */
	if (worker_hear(w) > 0)
		return;
	report(w->super, 4, "worker %u has been silent for %llu s, killing it", w->number,
	       (unsigned long long)(silence_usec(w->super) / USEC_PER_SEC));
	(void)proc_signal(w->pidfd, SIGKILL);
}

static void pass_on(struct super *s, int signo)
{
	for (unsigned i = 0; i < s->spec->workers; i++)
		if (s->workers[i].pidfd >= 0)
			(void)proc_signal(s->workers[i].pidfd, signo);
}

static void stop(struct super *s)
{
	if (!s->stopping)
		loop_notify("STOPPING=1");
	s->stopping = true;
	for (unsigned i = 0; i < s->spec->workers; i++)
		loop_timer_set(s->workers[i].restart, USEC_INFINITY);
	pass_on(s, SIGTERM);
	check_all_ended(s);
}

static void on_ended(void *user, const siginfo_t *si)
{
	struct worker *w = user;
	struct super *s = w->super;
	bool exited = si->si_code == CLD_EXITED;
	/* Told to stop before it could listen: that is a clean end too. */
	bool told = s->stopping && !exited && si->si_status == SIGTERM;
	int status = exited ? si->si_status : told ? 0 : 1;

	worker_closed(w);
	if (s->stopping || (exited && status == 2)) {
		s->status = status > s->status ? status : s->status;
		if (s->stopping)
			check_all_ended(s);
		else
			stop(s);
		return;
	}
	if (time_mono_usec() - w->started_usec > SETTLED_USEC)
		w->pause_usec = PAUSE_MIN_USEC;
	report(s, 4, "worker %u ended with %s %d, starting it again in %llu ms", w->number,
	       exited ? "status" : "signal", si->si_status,
	       (unsigned long long)(w->pause_usec / USEC_PER_MSEC));
	loop_timer_set(w->restart, w->pause_usec);
	w->pause_usec = w->pause_usec * 2 > PAUSE_MAX_USEC ? PAUSE_MAX_USEC : w->pause_usec * 2;
}

static int worker_argv(const struct super *s, unsigned number, char ***ret)
{
	auto_strv char **argv = NULL;

	for (char *const *a = s->spec->argv; *a; a++)
		if (strv_add(&argv, *a) < 0)
			return -ENOMEM;
	if (strv_addf(&argv, "--worker=%u", number) < 0)
		return -ENOMEM;
	*ret = take_ptr(argv);
	return 0;
}

static int worker_watch(struct worker *w, struct err *e)
{
	struct loop *l = w->super->loop;
	int r = loop_child(l, w->pidfd, on_ended, w, &w->child, e);

	if (r == 0)
		r = loop_fd(l, w->sock, EPOLLIN, on_message, w, &w->io, e);
	if (r == 0)
		r = loop_timer(l, silence_usec(w->super), on_silence, w, &w->silence, e);
	return r;
}

static int worker_start(struct worker *w, struct err *e)
{
	auto_strv char **argv = NULL;
	auto_close int theirs = -1;
	int pair[2], r;
	pid_t pid;

	if (worker_argv(w->super, w->number, &argv) < 0)
		return err_nomem(e);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(e, "make a socket pair");
	w->sock = pair[0];
	theirs = pair[1];
	w->started_usec = time_mono_usec();
	r = proc_spawn(
		&(struct proc_spec){ .path = "/proc/self/exe",
				     .argv = argv,
				     .envp = environ,
				     .fds = (struct proc_fd[]){ { STDOUT_FILENO, STDOUT_FILENO },
								{ STDERR_FILENO, STDERR_FILENO },
								{ theirs, SUPER_FD } },
				     .n_fds = 3,
				     /* A terminal's Control-C is the supervisor's to pass on. */
				     .new_session = true },
		&pid, &w->pidfd, e);
	return r < 0 ? r : worker_watch(w, e);
}

static void on_restart(void *user)
{
	struct worker *w = user;
	struct err e = { 0 };

	if (w->super->stopping || worker_start(w, &e) == 0)
		return;
	report(w->super, 3, "worker %u cannot be started: %s", w->number, e.msg);
	worker_closed(w);
	loop_timer_set(w->restart, PAUSE_MAX_USEC);
}

static void on_signal(void *user, int signo)
{
	struct super *s = user;

	if (signo == SIGHUP)
		pass_on(s, SIGHUP);
	else
		stop(s);
}

static int super_start(struct super *s, struct err *e)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP };
	int r = loop_watchdog(s->loop, e);

	for (size_t i = 0; i < ARRAY_LEN(signals) && r == 0; i++)
		r = loop_signal(s->loop, signals[i], on_signal, s, &s->signals[i], e);
	for (unsigned i = 0; i < s->spec->workers && r == 0; i++) {
		struct worker *w = &s->workers[i];

		*w = (struct worker){ .super = s,
				      .number = i + 1,
				      .pidfd = -1,
				      .sock = -1,
				      .pause_usec = PAUSE_MIN_USEC };
		r = loop_timer(s->loop, USEC_INFINITY, on_restart, w, &w->restart, e);
		if (r == 0)
			r = worker_start(w, e);
	}
	return r;
}

static void super_done(struct super *s)
{
	for (unsigned i = 0; s->workers && i < s->spec->workers; i++) {
		if (!s->workers[i].super)
			continue;
		worker_closed(&s->workers[i]);
		loop_src_free(s->workers[i].restart);
	}
	for (size_t i = 0; i < ARRAY_LEN(s->signals); i++)
		loop_src_free(s->signals[i]);
	free(s->workers);
	loop_free(s->loop);
}
DEFINE_AUTO_DONE(super);

int super_run(const struct super_spec *spec, struct err *e)
{
	auto_done(super) s = { .spec = spec };
	int r = loop_new(&s.loop, e);

	if (r < 0)
		return r;
	s.workers = calloc(spec->workers, sizeof(*s.workers));
	if (!s.workers)
		return err_nomem(e);
	r = super_start(&s, e);
	return r < 0 ? r : loop_run(s.loop, e);
}

/* --- the worker's end ---------------------------------------------------------------------- */

struct super_link {
	int fd;
	struct loop_src *io, *beat;
	void (*on_lost)(void *user);
	void *user;
	uint64_t told_usec; /* first told to stop; 0: never */
};

static void link_say(struct super_link *k, char what)
{
	/* Lost words do no harm: the next beat follows, and a dead peer is noticed by on_link(). */
	if (send(k->fd, &what, 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return;
}

static void on_beat(void *user)
{
	struct super_link *k = user;

	link_say(k, MSG_BEAT);
	loop_timer_set(k->beat, SUPER_BEAT_USEC);
}

static void on_link(void *user, int fd, unused_arg uint32_t events)
{
	struct super_link *k = user;
	char c;

	if (recv(fd, &c, 1, MSG_DONTWAIT) != 0)
		return;
	k->io = loop_src_free(k->io);
	k->on_lost(k->user);
}

int super_link_new(struct loop *l, int fd, void (*on_lost)(void *user), void *user,
		   struct super_link **ret, struct err *e)
{
	auto_obj(super_link) k = calloc(1, sizeof(*k));
	int r;

	if (!k)
		return err_nomem(e);
	k->fd = fd;
	k->on_lost = on_lost;
	k->user = user;
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return err_sys(e, "use the supervisor's socket");
	r = loop_fd(l, fd, EPOLLIN, on_link, k, &k->io, e);
	if (r == 0)
		r = loop_timer(l, SUPER_BEAT_USEC, on_beat, k, &k->beat, e);
	if (r < 0)
		return r;
	*ret = take_ptr(k);
	return 0;
}

void super_link_free(struct super_link *k)
{
	if (!k)
		return;
	loop_src_free(k->io);
	loop_src_free(k->beat);
	free(k);
}

void super_link_ready(struct super_link *k)
{
	link_say(k, MSG_READY);
}

enum super_word super_link_told(struct super_link *k)
{
	uint64_t now = time_mono_usec();

	if (!k->told_usec) {
		k->told_usec = now;
		return SUPER_STOP;
	}
	return now < k->told_usec + SUPER_TWICE_USEC ? SUPER_SAME : SUPER_LEAVE;
}

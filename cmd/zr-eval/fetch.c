/* SPDX-License-Identifier: MIT */
#include "fetch.h"

#include <dirent.h>
#include <string.h>
#include <sys/queue.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/json.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/str.h"
#include "cache.h"
#include "evict.h"

#define FRESH          ".fresh-" /* then whose it is, and what */
#define ANSWER_MAX     65536
#define PAUSE_MIN_USEC (500 * USEC_PER_MSEC)
#define PAUSE_MAX_USEC (30 * USEC_PER_SEC)
#define EXIT_AGAIN     75

struct fetch;

struct fetch_wait {
	TAILQ_ENTRY(fetch_wait) entry;
	struct fetch *fetch;
	fetch_done_fn done;
	void *user;
};

/* One submission under way. */
struct fetch {
	TAILQ_ENTRY(fetch) entry;
	struct fetcher *fetcher;
	char *digest, *dir;
	char *from;  /* what zr-fetch is told */
	char *fresh; /* a copy of our own, until it takes its place */
	TAILQ_HEAD(, fetch_wait) waits;

	uint64_t since_usec, pause_usec;
	int pidfd, out; /* -1: no child */
	struct buf answer;
	struct loop_src *child, *io, *retry;
};

struct fetcher {
	struct loop *loop;
	const struct settings *settings;
	char *program, *staging;
	struct evict *evict;
	TAILQ_HEAD(, fetch) fetches;
};

int fetch_cache_dir(const struct settings *s, const char *digest, char **ret, struct err *e)
{
	return str_fmt(ret, "%s/cache/%s/" CACHE_FILES, s->state_dir,
		       digest + strlen(DIGEST_PREFIX)) < 0
		       ? err_nomem(e)
		       : 0;
}

/* The copy that `dir` is the files of. */
static char *copy_of(const char *dir)
{
	return str_ends(dir, "/" CACHE_FILES) ? strndup(dir, strlen(dir) - strlen("/" CACHE_FILES))
					      : NULL;
}

bool fetch_is_cached(const char *dir)
{
	auto_free char *copy = copy_of(dir);
	struct err e = { 0 };
	int r = copy && evict_use(copy) ? cache_check(copy, &e) : -ENOENT;

	if (r == 0 || r == -ENOENT)
		return r == 0;
	log_warning("submission %.12s… is fetched again: %s", strrchr(copy, '/') + 1, e.msg);
	if (cache_drop(copy, &e) < 0)
		log_err("submission %.12s…: its copy cannot be removed: %s", strrchr(copy, '/') + 1,
			e.msg);
	return false;
}

/* What zr-fetch brought takes its place, unless another worker's copy is there. */
static int publish(const struct fetch *f, struct err *e)
{
	auto_free char *copy = copy_of(f->dir);
	int r = copy ? cache_seal(f->fresh, e) : err_nomem(e);

	FAILPOINT("submission.fetched");
	if (r == 0)
		r = fd_rename_durable(AT_FDCWD, f->fresh, AT_FDCWD, copy, true, e);
	if (r == -EEXIST && fetch_is_cached(f->dir))
		r = 0;
	FAILPOINT("submission.published");
	return r;
}

static void child_closed(struct fetch *f)
{
	f->child = loop_src_free(f->child);
	f->io = loop_src_free(f->io);
	if (f->pidfd >= 0)
		close(f->pidfd);
	if (f->out >= 0)
		close(f->out);
	f->pidfd = f->out = -1;
}

static void fetch_free(struct fetch *f)
{
	if (f->pidfd >= 0)
		(void)proc_signal(f->pidfd, SIGTERM);
	child_closed(f);
	loop_src_free(f->retry);
	TAILQ_REMOVE(&f->fetcher->fetches, f, entry);
	buf_done(&f->answer);
	free(f->digest);
	free(f->dir);
	free(f->from);
	if (f->fresh)
		(void)!fd_rmtree(AT_FDCWD, f->fresh, NULL);
	free(f->fresh);
	free(f);
}

/* Tells everybody who waits, then forgets the fetch. */
static void fetch_end(struct fetch *f, const char *why, bool ours)
{
	struct fetch_wait *w;

	while ((w = TAILQ_FIRST(&f->waits))) {
		fetch_done_fn done = w->done;
		void *user = w->user;

		TAILQ_REMOVE(&f->waits, w, entry);
		free(w);
		done(user, why, ours);
	}
	fetch_free(f);
}

static void fetch_again(struct fetch *f, const char *why)
{
	if (time_mono_usec() - f->since_usec > FETCH_PATIENCE_USEC) {
		fetch_end(f, why, true);
		return;
	}
	log_warning("submission %.19s… cannot be fetched yet: %s; trying again in %llu ms",
		    f->digest, why, (unsigned long long)(f->pause_usec / USEC_PER_MSEC));
	loop_timer_set(f->retry, f->pause_usec);
	f->pause_usec = f->pause_usec * 2 > PAUSE_MAX_USEC ? PAUSE_MAX_USEC : f->pause_usec * 2;
}

/* zr-fetch says why it failed as {"detail"}; else its exit status must do. */
static void child_answer(struct fetch *f, int status)
{
	json_auto_t *answer = NULL;
	const char *detail = NULL, *kind = "";
	char words[96];
	struct err e = { 0 };

	if (js_parse(f->answer.data ? f->answer.data : "", f->answer.len, JS_DEPTH_MAX, &answer,
		     &e) == 0 &&
	    js_opt_str(answer, "detail", 2048, &detail, &e) >= 0 &&
	    js_opt_str(answer, "class", 32, &kind, &e) < 0)
		kind = "";
	if (status == 0 && publish(f, &e) < 0) {
		fetch_again(f, e.msg);
		return;
	}
	if (!detail) {
		snprintf(words, sizeof(words), "zr-fetch ended with status %d", status);
		detail = words;
	}
	if (status == 0 || fetch_is_cached(f->dir)) {
		evict_grew(f->fetcher->evict);
		fetch_end(f, NULL, false);
	} else if (status == EXIT_AGAIN || str_eq(kind, "transient") || str_eq(kind, "host")) {
		fetch_again(f, detail);
	} else {
		fetch_end(f, detail, str_eq(kind, "permanent"));
	}
}

static void on_child(void *user, const siginfo_t *si)
{
	struct fetch *f = user;
	int status = si->si_code == CLD_EXITED ? si->si_status : EXIT_AGAIN;
	struct err e = { 0 };

	/* What it wrote is in the pipe; nobody else holds the other end. */
	if (fd_set_nonblock(f->out, true) == 0)
		(void)!fd_read_all(f->out, "the answer of zr-fetch", ANSWER_MAX, &f->answer, &e);
	child_closed(f);
	child_answer(f, status);
}

/* Keeps the pipe from filling; an answer over the cap only loses its words. */
static void on_output(void *user, int fd, unused_arg uint32_t events)
{
	struct fetch *f = user;
	char chunk[4096];
	ssize_t n = read(fd, chunk, sizeof(chunk));

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		f->io = loop_src_free(f->io);
	else if (n > 0 && f->answer.len < ANSWER_MAX)
		(void)!buf_add(&f->answer, chunk, (size_t)n);
}

static int child_argv(const struct fetch *f, char ***ret, struct err *e)
{
	const struct settings *s = f->fetcher->settings;
	auto_strv char **argv = NULL;

	if (strv_add(&argv, "zr-fetch") < 0 || strv_addf(&argv, "--get=%s", f->from) < 0 ||
	    strv_addf(&argv, "--root-hash=%s", f->digest) < 0 ||
	    strv_add(&argv, "--name=submission") < 0 ||
	    strv_addf(&argv, "--target=%s/" CACHE_FILES, f->fresh) < 0 ||
	    strv_addf(&argv, "--staging=%s", f->fetcher->staging) < 0 ||
	    (s->ssh_key && strv_addf(&argv, "--ssh-key=%s", s->ssh_key) < 0) ||
	    strv_addf(&argv, "--known-hosts=%s", s->ssh_known_hosts) < 0)
		return err_nomem(e);
	*ret = take_ptr(argv);
	return 0;
}

static int child_start(struct fetch *f, struct err *e)
{
	auto_strv char **argv = NULL;
	auto_close int theirs = -1;
	int pipe_fds[2], r = child_argv(f, &argv, e);
	pid_t pid;

	if (r < 0)
		return r;
	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return err_sys(e, "make a pipe");
	f->out = pipe_fds[0];
	theirs = pipe_fds[1];
	f->answer.len = 0;
	r = proc_spawn(
		&(struct proc_spec){ .path = f->fetcher->program,
				     .argv = argv,
				     .fds = (struct proc_fd[]){ { theirs, STDOUT_FILENO },
								{ STDERR_FILENO, STDERR_FILENO } },
				     .n_fds = 2 },
		&pid, &f->pidfd, e);
	if (r == 0)
		r = loop_child(f->fetcher->loop, f->pidfd, on_child, f, &f->child, e);
	if (r == 0 && fd_set_nonblock(f->out, true) < 0)
		r = err_sys(e, "set up the pipe of zr-fetch");
	if (r == 0)
		r = loop_fd(f->fetcher->loop, f->out, EPOLLIN, on_output, f, &f->io, e);
	return r;
}

static void on_retry(void *user)
{
	struct fetch *f = user;
	struct err e = { 0 };

	if (fetch_is_cached(f->dir)) {
		fetch_end(f, NULL, false);
		return;
	}
	if (fd_rmtree(AT_FDCWD, f->fresh, &e) < 0 || child_start(f, &e) < 0) {
		child_closed(f);
		fetch_again(f, e.msg);
	}
}

/* What a request calls a source, in the words of zr-fetch. */
static int translate(const struct settings *s, const char *digest, const char *source, char **ret,
		     struct err *e)
{
	const struct settings_host *h;
	char name[ID_MAX + 1];
	const char *slash;
	int n;

	if (str_eq(source, "incoming:"))
		n = str_fmt(ret, "%s/incoming/%s", s->state_dir, digest + strlen(DIGEST_PREFIX));
	else if (str_starts(source, "file:///"))
		n = str_fmt(ret, "%s", source + strlen("file://"));
	else if (str_starts(source, "ssh://") && (slash = strchr(source + 6, '/'))) {
		snprintf(name, sizeof(name), "%.*s", (int)(slash - source - 6), source + 6);
		h = settings_find_host(s, name);
		if (!h)
			return err_input(
				e,
				"host '%s' of the submission's source is not in %s (add host "
				"\"%s\" { … })",
				STR_ESC(name), s->file, STR_ESC(name));
		n = str_fmt(ret, "ssh://%s@%s:%u%s", h->user, h->address, h->port, slash);
	} else {
		return err_input(e,
				 "'%s' is not a source (want file:///…, ssh://HOST/… or incoming:)",
				 STR_ESC(source));
	}
	return n < 0 ? err_nomem(e) : 0;
}

static int fetch_new(struct fetcher *fr, const char *digest, const char *source, struct fetch **ret,
		     struct err *e)
{
	struct fetch *f = calloc(1, sizeof(*f));
	char self[PROC_NAME_MAX] = "";
	int r;

	if (!f)
		return err_nomem(e);
	(void)!proc_name(getpid(), self);
	f->fetcher = fr;
	f->pidfd = f->out = -1;
	f->since_usec = time_mono_usec();
	f->pause_usec = PAUSE_MIN_USEC;
	TAILQ_INIT(&f->waits);
	TAILQ_INSERT_TAIL(&fr->fetches, f, entry);
	f->digest = strdup(digest);
	r = f->digest ? fetch_cache_dir(fr->settings, digest, &f->dir, e) : err_nomem(e);
	if (r == 0 && str_fmt(&f->fresh, "%s/cache/" FRESH "%s-%s", fr->settings->state_dir, self,
			      digest + strlen(DIGEST_PREFIX)) < 0)
		r = err_nomem(e);
	if (r == 0)
		r = translate(fr->settings, digest, source, &f->from, e);
	/* The first try comes from the loop too, so that `done` is never called from within. */
	if (r == 0)
		r = loop_timer(fr->loop, 0, on_retry, f, &f->retry, e);
	if (r < 0) {
		fetch_free(f);
		return r;
	}
	*ret = f;
	return 0;
}

int fetcher_get(struct fetcher *fr, const char *digest, const char *source, fetch_done_fn done,
		void *user, struct fetch_wait **ret, struct err *e)
{
	struct fetch_wait *w;
	struct fetch *f;
	int r;

	TAILQ_FOREACH (f, &fr->fetches, entry)
		if (str_eq(f->digest, digest))
			break;
	r = f ? 0 : fetch_new(fr, digest, source, &f, e);
	if (r < 0)
		return r;
	w = calloc(1, sizeof(*w));
	if (!w)
		return err_nomem(e);
	*w = (struct fetch_wait){ .fetch = f, .done = done, .user = user };
	TAILQ_INSERT_TAIL(&f->waits, w, entry);
	*ret = w;
	return 0;
}

/* The fetch itself goes on: its result is wanted again soon. */
void fetch_wait_free(struct fetch_wait *w)
{
	if (!w)
		return;
	TAILQ_REMOVE(&w->fetch->waits, w, entry);
	free(w);
}

/* After a prefix comes the name of the process that made it, and a '-'. */
static bool maker_lives(const char *of)
{
	char name[PROC_NAME_MAX];

	return proc_name((pid_t)atol(of), name) == 0 && str_starts(of, name) &&
	       of[strlen(name)] == '-';
}

/* Copies that were on their way in, or out, when their worker ended. */
static void sweep(const char *cache)
{
	static const char *const prefixes[] = { FRESH, CACHE_GONE };
	DIR *d = opendir(cache);
	struct dirent *de;
	struct err e = { 0 };

	while (d && (de = readdir(d)))
		for (size_t i = 0; i < ARRAY_LEN(prefixes); i++)
			if (str_starts(de->d_name, prefixes[i]) &&
			    !maker_lives(de->d_name + strlen(prefixes[i])) &&
			    fd_rmtree(dirfd(d), de->d_name, &e) < 0)
				log_warning("%s, ignoring", e.msg);
	if (d)
		closedir(d);
}

int fetcher_new(struct loop *l, const struct settings *s, struct fetcher **ret, struct err *e)
{
	auto_obj(fetcher) fr = calloc(1, sizeof(*fr));
	auto_free char *cache = NULL;
	int r;

	if (!fr)
		return err_nomem(e);
	fr->loop = l;
	fr->settings = s;
	TAILQ_INIT(&fr->fetches);
	r = proc_sister("zr-fetch", &fr->program, e);
	if (r < 0)
		return r;
	/* On the same file system as the cache: publishing is a rename. */
	if (str_fmt(&cache, "%s/cache", s->state_dir) < 0 ||
	    str_fmt(&fr->staging, "%s/cache/.staging", s->state_dir) < 0)
		return err_nomem(e);
	r = fd_mkdirs(fr->staging, 0750, e);
	if (r == 0)
		r = evict_new(l, s, fr->program, &fr->evict, e);
	if (r < 0)
		return r;
	sweep(cache);
	*ret = take_ptr(fr);
	return 0;
}

void fetcher_free(struct fetcher *fr)
{
	struct fetch *f;

	if (!fr)
		return;
	while ((f = TAILQ_FIRST(&fr->fetches))) {
		struct fetch_wait *w;

		while ((w = TAILQ_FIRST(&f->waits))) {
			TAILQ_REMOVE(&f->waits, w, entry);
			free(w);
		}
		fetch_free(f);
	}
	evict_free(fr->evict);
	free(fr->program);
	free(fr->staging);
	free(fr);
}

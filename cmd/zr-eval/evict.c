/* SPDX-License-Identifier: MIT */
#include "evict.h"

#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/str.h"
#include "cache.h"
#include "exec/inuse.h"

#define ANSWER_MAX 4096
/* Between two looks at the cache: no less than this, and no less than so many times what a look
 * takes. */
#define PAUSE_USEC   (10 * USEC_PER_SEC)
#define PAUSE_FACTOR 20
/* File times are a clock tick behind. */
#define TICK_USEC USEC_PER_SEC

struct evict {
	struct loop *loop;
	const struct settings *settings;
	const char *program;
	int pidfd, out; /* -1: no child */
	bool grew;      /* since the last look began */
	bool resting;   /* `next` is armed */
	uint64_t began_usec;
	struct loop_src *child, *next;
};

bool evict_use(const char *dir)
{
	const char *slash = strrchr(dir, '/');
	auto_free char *name = NULL;
	auto_close int lock = -1;

	if (!slash || str_fmt(&name, "%.*s/.lock", (int)(slash - dir), dir) < 0)
		return false;
	/* Held elsewhere only for the time of a rename. */
	lock = open(name, O_RDONLY | O_CREAT | O_CLOEXEC, 0640);
	if (lock < 0 || flock(lock, LOCK_SH) < 0)
		return false;
	return utimensat(AT_FDCWD, dir, NULL, AT_SYMLINK_NOFOLLOW) == 0;
}

static void child_closed(struct evict *c)
{
	c->child = loop_src_free(c->child);
	if (c->pidfd >= 0)
		close(c->pidfd);
	if (c->out >= 0)
		close(c->out);
	c->pidfd = c->out = -1;
}

static void rest(struct evict *c, uint64_t usec)
{
	c->resting = true;
	loop_timer_set(c->next, usec);
}

static void tell(const json_t *answer)
{
	json_int_t removed = json_integer_value(json_object_get(answer, "removed"));
	json_int_t freed = json_integer_value(json_object_get(answer, "removed_bytes"));
	char text[32];

	if (removed)
		log_info("%lld submissions left the cache, %s", (long long)removed,
			 str_size_text(text, sizeof(text), (uint64_t)freed));
}

static void on_child(void *user, const siginfo_t *si)
{
	struct evict *c = user;
	uint64_t took = time_mono_usec() - c->began_usec;
	json_auto_t *answer = NULL;
	auto_buf struct buf b = { 0 };
	struct err e = { 0 };
	int r = fd_set_nonblock(c->out, true);

	if (r == 0)
		r = fd_read_all(c->out, "the answer of zr-fetch", ANSWER_MAX, &b, &e);
	if (r == 0 && si->si_code == CLD_EXITED && si->si_status == 0)
		r = js_parse(b.data ? b.data : "", b.len, JS_DEPTH_MAX, &answer, &e);
	if (answer)
		tell(answer);
	else
		log_warning("the cache of submissions could not be pruned, trying again later");
	child_closed(c);
	rest(c, took * PAUSE_FACTOR > PAUSE_USEC ? took * PAUSE_FACTOR : PAUSE_USEC);
}

/* Of a copy in the cache, from the folder of its files. */
static const char *name_of(char *files)
{
	const char *slash;

	if (str_ends(files, "/" CACHE_FILES))
		files[strlen(files) - strlen("/" CACHE_FILES)] = '\0';
	slash = strrchr(files, '/');
	return slash ? slash + 1 : files;
}

static int child_argv(const struct evict *c, char ***ret, struct err *e)
{
	char before[TIME_TEXT_MAX];
	auto_strv char **argv = NULL, **used = NULL;
	int r;

	/* In this order: a box that is written after the look uses its submission after `before`. */
	time_text(before, time_wall_usec() - TICK_USEC);
	r = inuse_submissions(c->settings->state_dir, &used, e);
	if (r < 0)
		return r;
	if (strv_add(&argv, "zr-fetch") < 0 ||
	    strv_addf(&argv, "--prune=%s/cache", c->settings->state_dir) < 0 ||
	    strv_addf(&argv, "--limit-bytes=%llu", (unsigned long long)c->settings->cache_max) <
		    0 ||
	    strv_addf(&argv, "--used-before=%s", before) < 0)
		return err_nomem(e);
	for (char *const *u = used; *u; u++)
		if (strv_addf(&argv, "--keep=%s", name_of(*u)) < 0)
			return err_nomem(e);
	*ret = take_ptr(argv);
	return 0;
}

static int child_start(struct evict *c, struct err *e)
{
	auto_strv char **argv = NULL;
	auto_close int theirs = -1;
	int pipe_fds[2], r = child_argv(c, &argv, e);
	pid_t pid;

	if (r < 0)
		return r;
	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return err_sys(e, "make a pipe");
	c->out = pipe_fds[0];
	theirs = pipe_fds[1];
	r = proc_spawn(
		&(struct proc_spec){ .path = c->program,
				     .argv = argv,
				     .fds = (struct proc_fd[]){ { theirs, STDOUT_FILENO },
								{ STDERR_FILENO, STDERR_FILENO } },
				     .n_fds = 2 },
		&pid, &c->pidfd, e);
	return r < 0 ? r : loop_child(c->loop, c->pidfd, on_child, c, &c->child, e);
}

static void on_next(void *user)
{
	struct evict *c = user;
	struct err e = { 0 };

	c->resting = false;
	if (!c->grew)
		return;
	c->grew = false;
	c->began_usec = time_mono_usec();
	if (child_start(c, &e) == 0)
		return;
	log_warning("the cache of submissions cannot be pruned: %s", e.msg);
	child_closed(c);
	c->grew = true;
	rest(c, PAUSE_USEC);
}

void evict_grew(struct evict *c)
{
	c->grew = true;
	if (!c->child && !c->resting)
		rest(c, 0);
}

int evict_new(struct loop *l, const struct settings *s, const char *program, struct evict **ret,
	      struct err *e)
{
	auto_obj(evict) c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return err_nomem(e);
	c->loop = l;
	c->settings = s;
	c->program = program;
	c->pidfd = c->out = -1;
	r = loop_timer(l, USEC_INFINITY, on_next, c, &c->next, e);
	if (r < 0)
		return r;
	*ret = take_ptr(c);
	return 0;
}

void evict_free(struct evict *c)
{
	if (!c)
		return;
	if (c->pidfd >= 0)
		(void)proc_signal(c->pidfd, SIGTERM);
	child_closed(c);
	loop_src_free(c->next);
	free(c);
}

/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * A box folder is in one of four states, found from three things: is there a result in its journal,
 * is the journal locked, is there anything in it. What a worker does is a function of that state
 * alone, so that it does not matter which worker made the folder.
 *
 * Following a box: the socket says that there is news. When it closes, or the keeper says `end`, the
 * journal and its lock are looked at again, and that look decides (check_end()). Nothing is
 * concluded from the socket or from an exit status.
 *
 * Names in <state_dir>/spool/boxes: <attempt_id>, and ".<attempt_id>.gone" for a folder that is being
 * removed. A folder becomes a box when its locked spec.json appears in it, by rename.
 */
#include "exec/box.h"

#include <dirent.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/id.h"
#include "base/json.h"
#include "base/str.h"
#include "exec/conclude.h"
#include "exec/journal.h"
#include "exec/leftover.h"
#include "exec/spare.h"

#define MESSAGE_MAX    16384
#define READS_PER_TURN 16
#define RETRY_USEC     (10 * USEC_PER_MSEC)
#define RETRY_MAX      (500 * USEC_PER_MSEC)
#define STUCK_USEC     (1 * USEC_PER_SEC)
#define LEFTOVER_USEC  (10 * USEC_PER_SEC)
#define STALE_SEC      60

struct box {
	struct box_spec *spec;
	char *text;            /* of spec.json, of a box that was claimed here */
	int boxes, dir, owner; /* the folder that ours is in, ours, its locked spec.json */
	enum box_state state;

	struct loop *loop; /* NULL: not followed */
	struct box_calls calls;
	void *user;
	bool calling, free_asked; /* a callback runs; it called box_free() */

	struct keeper_ref *keeper; /* our own, or NULL: an adopted box */
	int sock;                  /* to the keeper, or -1; the keeper_ref's if there is one */
	struct loop_src *sock_src; /* of an adopted box's socket */
	struct buf in;
	bool cancel, kill;                 /* asked for, not yet sent */
	uint64_t renewed_usec, lease_usec; /* the same; when, by CLOCK_BOOTTIME, and for how long */

	struct loop_src *timer; /* the next look at journal and lock */
	uint64_t retry_usec;
	uint64_t end_told_usec;   /* the keeper said `end` */
	uint64_t kill_since_usec; /* leftovers of a dead keeper are being killed */
	bool gone;                /* the keeper has let go of the job */
	bool ready;               /* … can take another */
	bool spare;               /* … and has left a folder that can be used again */
	bool ended;               /* on_end() was called */
};

static void check_end(struct box *b);

/* --- folders ---------------------------------------------------------------------------------- */

static int open_boxes(const char *state_dir, int *ret_fd, struct err *e)
{
	auto_free char *path = NULL;

	if (str_fmt(&path, "%s/spool/boxes", state_dir) < 0)
		return err_nomem(e);
	return fd_make_dir(path, 0711, ret_fd, e);
}

/* Lets go of the keeper: with `over` it may have another job, else it goes on alone. */
static void close_socket(struct box *b, bool over)
{
	b->sock_src = loop_src_free(b->sock_src);
	if (b->keeper && over)
		keeper_return(b->keeper, b->ready);
	else if (b->keeper)
		keeper_abandon(b->keeper);
	else if (b->sock >= 0)
		close(b->sock);
	b->keeper = NULL;
	b->sock = -1;
	b->in.len = 0;
}

void box_free(struct box *b)
{
	if (!b)
		return;
	if (b->calling) {
		b->free_asked = true;
		return;
	}
	loop_src_free(b->timer);
	close_socket(b, b->ended);
	if (b->owner >= 0)
		close(b->owner);
	if (b->dir >= 0)
		close(b->dir);
	if (b->boxes >= 0)
		close(b->boxes);
	buf_done(&b->in);
	spec_free(b->spec);
	free(b->text);
	free(b);
}

static struct box *new_box(void)
{
	struct box *b = calloc(1, sizeof(*b));

	if (b)
		b->boxes = b->dir = b->owner = b->sock = -1;
	return b;
}

#define SPEC_NEW ".spec.new"

/* --- the claim -------------------------------------------------------------------------------- */

/* Whoever sees spec.json sees all of it, and finds it locked. */
static int write_spec(struct box *b, const char *text, size_t n, struct err *e)
{
	int r;

	b->owner =
		openat(b->dir, SPEC_NEW, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (b->owner < 0)
		return err_sys(e, "make " SPEC_FILE);
	if (flock(b->owner, LOCK_EX | LOCK_NB) < 0)
		return err_sys(e, "lock " SPEC_FILE);
	r = fd_write_all(b->owner, text, n);
	if (r < 0)
		return err_errno(e, r, "write " SPEC_FILE);
	if (renameat(b->dir, SPEC_NEW, b->dir, SPEC_FILE) < 0)
		return err_sys(e, "name " SPEC_FILE);
	return 0;
}

/* The worker's claim in JSON, completed by the boot it was made in. */
static int spec_with_boot(const struct box_spec *spec, char **ret, struct err *e)
{
	struct box_spec with = *spec;
	char boot[UUID_LEN + 1];

	if (!with.boot_id) {
		int r = id_boot(boot, e);

		if (r < 0)
			return r;
		with.boot_id = boot;
	}
	return spec_text(&with, ret, e);
}

static int make_claim(struct box *b, const char *id, struct err *e)
{
	size_t n = strlen(b->text);
	int r;

	if (spare_take(b->boxes, id, b->text, n, &b->dir, &b->owner))
		return 0;
	if (mkdirat(b->boxes, id, 0711) < 0)
		return err_sys(e, "make the box folder %s", id);
	r = fd_open_dir(b->boxes, id, &b->dir, e);
	if (r == 0)
		r = write_spec(b, b->text, n, e);
	/* It is empty when there was no descriptor for its first file, and so none to look into it. */
	if (r < 0 && unlinkat(b->boxes, id, AT_REMOVEDIR) < 0)
		(void)!fd_rmtree(b->boxes, id, NULL);
	return r;
}

int box_prepare(const char *state_dir, const struct box_spec *spec, struct box **ret, struct err *e)
{
	auto_obj(box) b = new_box();
	int r;

	if (!b)
		return err_nomem(e);
	r = spec_with_boot(spec, &b->text, e);
	/* Read back as the keeper will: a spec that it would refuse is found here. */
	if (r == 0)
		r = spec_parse(b->text, strlen(b->text), &b->spec, e);
	if (r == 0)
		r = open_boxes(state_dir, &b->boxes, e);
	if (r == 0)
		r = make_claim(b, spec->attempt_id, e);
	if (r < 0)
		return r;
	b->state = BOX_NEW;
	*ret = take_ptr(b);
	return 0;
}

/* --- finding and adopting --------------------------------------------------------------------- */

const char *box_claim_text(const struct box *b)
{
	return b->text;
}

/* The box is there. After a crash its spec.json may be empty, or that of the box before, for which the folder
 * was used. */
static bool is_whole(int boxes, const char *id, const char *text, size_t n)
{
	auto_close int dir = -1;
	auto_buf struct buf b = { 0 };

	return fd_open_dir(boxes, id, &dir, NULL) == 0 &&
	       fd_read_file(dir, SPEC_FILE, SPEC_FILE_MAX, &b, NULL) == 0 && b.len == n &&
	       memcmp(b.data, text, n) == 0;
}

static int make_again(struct box *b, const char *text, size_t n, struct err *e)
{
	int r;

	if (mkdirat(b->boxes, b->spec->attempt_id, 0711) < 0 && errno != EEXIST)
		return err_sys(e, "make the box folder %s", b->spec->attempt_id);
	r = fd_open_dir(b->boxes, b->spec->attempt_id, &b->dir, e);
	return r < 0 ? r : write_spec(b, text, n, e);
}

int box_restore(const char *state_dir, const char *text, size_t n, struct err *e)
{
	auto_obj(box) b = new_box();
	int r;

	if (!b)
		return err_nomem(e);
	r = spec_parse(text, n, &b->spec, e);
	if (r == 0)
		r = open_boxes(state_dir, &b->boxes, e);
	if (r < 0)
		return r;
	if (is_whole(b->boxes, b->spec->attempt_id, text, n))
		return 1;
	if (spec_is_this_boot(b->spec) == 1)
		return 0;
	r = make_again(b, text, n, e);
	return r < 0 ? r : 1;
}

static bool is_old(int boxes, const char *name)
{
	struct stat st;

	return fstatat(boxes, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       time(NULL) - st.st_mtime >= STALE_SEC;
}

/* A folder without spec.json: its maker was killed before it was a box. */
static bool is_unfinished(int boxes, const char *id)
{
	auto_close int dir = -1;

	return fd_open_dir(boxes, id, &dir, NULL) == 0 &&
	       faccessat(dir, SPEC_FILE, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT;
}

/* While a host lives a spec.json is whole when it is there: this one was not yet on the disk when the host
 * crashed. Nor was a note of it, or it would have been made again. */
static bool is_torn(int boxes, const char *id)
{
	auto_buf struct buf b = { 0 };
	json_auto_t *spec = NULL;
	auto_close int dir = -1;

	return fd_open_dir(boxes, id, &dir, NULL) == 0 && journal_is_free(dir) &&
	       fd_read_file(dir, SPEC_FILE, SPEC_FILE_MAX, &b, NULL) == 0 &&
	       (js_parse(b.data ? b.data : "", b.len, JS_DEPTH_MAX, &spec, NULL) < 0 ||
		!str_eq(json_string_value(json_object_get(spec, "attempt_id")), id));
}

static void sweep(int boxes, const char *name)
{
	if (id_is_uuid(name) ? is_old(boxes, name) || is_torn(boxes, name)
			     : str_ends(name, ".gone"))
		(void)!fd_rmtree(boxes, name, NULL);
}

int box_list(const char *state_dir, char ***ret_ids, struct err *e)
{
	auto_strv char **ids = calloc(1, sizeof(char *));
	auto_close int boxes = -1;
	struct dirent **names = NULL;
	int n, r = ids ? open_boxes(state_dir, &boxes, e) : err_nomem(e);

	if (r < 0)
		return r;
	n = scandirat(boxes, ".", &names, NULL, alphasort);
	if (n < 0)
		return err_sys(e, "read the boxes folder");
	for (int i = 0; i < n; i++) {
		const char *name = names[i]->d_name;

		if (!id_is_uuid(name) || is_unfinished(boxes, name) || is_torn(boxes, name))
			sweep(boxes, name);
		else if (strv_add(&ids, name) < 0)
			r = err_nomem(e);
		free(names[i]);
	}
	free(names);
	if (r == 0)
		*ret_ids = take_ptr(ids);
	return r;
}

/* The order matters: a keeper writes its result before it lets go of its lock. */
static int find_state(struct box *b, struct err *e)
{
	bool busy = !journal_is_free(b->dir);
	auto_done(journal) j = { .phase = PHASE_RUN };
	int r = journal_salvage(b->dir, &j, e);

	if (r < 0)
		return r;
	if (j.done)
		b->state = BOX_ENDED;
	else if (busy)
		b->state = BOX_RUNNING;
	else if (!journal_is_empty(b->dir) || spec_is_this_boot(b->spec) == 0)
		b->state = BOX_DEAD;
	else
		b->state = BOX_NEW;
	return 0;
}

static int own(struct box *b, struct err *e)
{
	b->owner = openat(b->dir, SPEC_FILE, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (b->owner < 0)
		return err_sys(e, "open " SPEC_FILE);
	return flock(b->owner, LOCK_EX | LOCK_NB) < 0 ? err_sys(e, "lock " SPEC_FILE) : 0;
}

int box_open(const char *state_dir, const char *attempt_id, struct box **ret, struct err *e)
{
	auto_obj(box) b = new_box();
	int r;

	if (!b)
		return err_nomem(e);
	if (!id_is_uuid(attempt_id))
		return err_input(e, "'%s' is not the name of a box", STR_ESC(attempt_id));
	r = open_boxes(state_dir, &b->boxes, e);
	if (r == 0)
		r = fd_open_dir(b->boxes, attempt_id, &b->dir, e);
	if (r == 0)
		r = own(b, e);
	if (r == 0)
		r = spec_read(b->dir, &b->spec, e);
	if (r == 0)
		r = find_state(b, e);
	if (r < 0)
		return err_wrap(e, "box %s", attempt_id);
	*ret = take_ptr(b);
	return 0;
}

bool box_is_of_this_boot(const struct box *b)
{
	return spec_is_this_boot(b->spec) != 0;
}

enum box_state box_state(const struct box *b)
{
	return b->state;
}

const struct box_spec *box_spec(const struct box *b)
{
	return b->spec;
}

int box_dirfd(const struct box *b)
{
	return b->dir;
}

int box_result(const struct box *b, struct box_result *ret, struct err *e)
{
	int r = journal_result(b->dir, ret, e);

	if (r == 0)
		return err_set(e, ENOENT, ERR_HOST, "box %s has no result", b->spec->attempt_id);
	return r < 0 ? r : 0;
}

static const char *log_name(enum box_stream stream)
{
	return stream == BOX_OUT ? OUT_LOG_FILE : ERR_LOG_FILE;
}

int box_open_log(const struct box *b, enum box_stream stream, int *ret_fd, struct err *e)
{
	int fd = openat(b->dir, log_name(stream), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return err_sys(e, "open %s of box %s", log_name(stream), b->spec->attempt_id);
	*ret_fd = fd;
	return 0;
}

/* --- a result without a run ------------------------------------------------------------------- */

int box_conclude(struct box *b, enum box_reason reason, const char *detail, struct err *e)
{
	int r;

	if (b->state != BOX_NEW)
		return err_set(e, EBUSY, ERR_HOST, "box %s was started", b->spec->attempt_id);
	r = conclude_unstarted(b->dir, b->spec, reason, detail, e);
	if (r == 0)
		b->state = BOX_ENDED;
	return r;
}

/* --- following -------------------------------------------------------------------------------- */

/* Calls `member` of the user's callbacks; true if the box is gone afterwards. */
#define CALL(b, member, ...)                                                                       \
	({                                                                                         \
		(b)->calling = true;                                                               \
		if ((b)->calls.member)                                                             \
			(b)->calls.member((b)->user, (b), ##__VA_ARGS__);                          \
		called(b);                                                                         \
	})

static bool called(struct box *b)
{
	b->calling = false;
	if (!b->free_asked)
		return false;
	box_free(b);
	return true;
}

static bool say(const struct box *b, const char *text)
{
	return send(b->sock, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL) > 0;
}

/* What was asked for and the keeper has not been told yet. The little that we say fits any socket
 * buffer; if it does not go, the keeper is gone, or stopped for long, and hears it with what is next. */
static void send_asked(struct box *b)
{
	char text[96];

	if (b->sock < 0)
		return;
	if (b->cancel && say(b, "{\"t\":\"cancel\"}\n"))
		b->cancel = false;
	if (b->kill && say(b, "{\"t\":\"kill\"}\n"))
		b->kill = false;
	/* With the time: it may be stopped, and then reads it when others have taken over. */
	snprintf(text, sizeof(text), "{\"t\":\"lease\",\"usec\":%llu,\"at\":%llu}\n",
		 (unsigned long long)b->lease_usec, (unsigned long long)b->renewed_usec);
	if (b->lease_usec && say(b, text))
		b->lease_usec = 0;
}

static bool get_phase(const json_t *o, enum phase *ret)
{
	const char *name;

	return js_str(o, "phase", 32, &name, NULL) == 0 && phase_parse(name, ret) == 0;
}

/* True: the box is gone. */
static bool tell_started(struct box *b, const json_t *o)
{
	json_t *isolation = NULL;
	enum phase phase;
	const char *at;
	uint64_t usec;

	if (js_str(o, "at", TIME_TEXT_MAX, &at, NULL) < 0 || time_parse(at, &usec) < 0 ||
	    js_opt_obj(o, "isolation", &isolation, NULL) < 0)
		return false;
	return CALL(b, on_started, usec, isolation) ||
	       (get_phase(o, &phase) && CALL(b, on_phase, phase));
}

static bool tell_progress(struct box *b, const json_t *o)
{
	struct progress p;
	enum phase phase;

	if (!get_phase(o, &phase) ||
	    progress_from_json(json_object_get(o, "progress"), &p, NULL) < 0)
		return false;
	return CALL(b, on_progress, phase, &p);
}

static bool tell_violation(struct box *b, const json_t *o)
{
	json_t *violations = NULL;
	enum phase phase;

	return get_phase(o, &phase) && js_obj(o, "violations", &violations, NULL) == 0 &&
	       CALL(b, on_violation, phase, violations);
}

static bool tell_log(struct box *b, const json_t *o)
{
	int64_t out, err;

	if (js_int(o, "out", 0, INT64_MAX, &out, NULL) < 0 ||
	    js_int(o, "err", 0, INT64_MAX, &err, NULL) < 0)
		return false;
	return (out && CALL(b, on_log, BOX_OUT, (uint64_t)out)) ||
	       (err && CALL(b, on_log, BOX_ERR, (uint64_t)err));
}

static bool tell(struct box *b, const json_t *o)
{
	const char *type;
	enum phase phase;

	if (js_str(o, "t", 32, &type, NULL) < 0)
		return false;
	if (str_eq(type, "started"))
		return tell_started(b, o);
	if (str_eq(type, "phase"))
		return get_phase(o, &phase) && CALL(b, on_phase, phase);
	if (str_eq(type, "progress"))
		return tell_progress(b, o);
	if (str_eq(type, "violation"))
		return tell_violation(b, o);
	if (str_eq(type, "log"))
		return tell_log(b, o);
	if (str_eq(type, "end")) {
		b->end_told_usec = time_mono_usec();
		b->spare = json_is_true(json_object_get(o, "spare"));
		b->ready = json_is_true(json_object_get(o, "ready"));
	}
	return false;
}

/* All whole lines in the buffer; true: the box is gone. */
static bool tell_lines(struct box *b)
{
	char *nl;

	while (b->in.len && (nl = memchr(b->in.data, '\n', b->in.len))) {
		size_t n = (size_t)(nl - b->in.data);
		json_t *o = NULL;
		bool gone = false;

		if (js_parse(b->in.data, n, JS_DEPTH_MAX, &o, NULL) == 0)
			gone = tell(b, o);
		json_decref(o);
		if (gone)
			return true;
		buf_drop_front(&b->in, n + 1);
	}
	return false;
}

/* Our own keeper's socket keeps messages apart, so what comes after `end` stays for the pool. */
static void on_socket(void *user, int fd, unused_arg uint32_t events)
{
	struct box *b = user;

	for (int i = 0; i < READS_PER_TURN && b->sock >= 0 && !b->end_told_usec; i++) {
		ssize_t n;

		if (buf_reserve(&b->in, MESSAGE_MAX) < 0)
			return;
		n = recv(fd, b->in.data + b->in.len, MESSAGE_MAX, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		b->in.len += n > 0 ? (size_t)n : 0;
		if (n > 0 && tell_lines(b))
			return;
		if (n <= 0 || b->in.len > MESSAGE_MAX)
			close_socket(b, false);
	}
	if (b->sock < 0 || b->end_told_usec)
		check_end(b);
}

static void connected(struct box *b, int sock)
{
	b->sock = sock;
	b->retry_usec = RETRY_USEC;
	send_asked(b);
}

static bool connect_keeper(struct box *b)
{
	auto_close int fd = fd_connect_unix(b->dir, "control");

	if (fd < 0 || loop_fd(b->loop, fd, EPOLLIN, on_socket, b, &b->sock_src, NULL) < 0)
		return false;
	connected(b, take_fd(fd));
	return true;
}

static void on_timer(void *user)
{
	check_end(user);
}

static void look_again(struct box *b, uint64_t after_usec)
{
	loop_timer_set(b->timer, after_usec);
}

static void deliver(struct box *b, const struct box_result *r)
{
	b->state = BOX_ENDED;
	b->ended = true;
	close_socket(b, true);
	look_again(b, USEC_INFINITY);
	(void)CALL(b, on_end, r);
}

/* True: it was there, and the box may be gone. */
static bool deliver_result(struct box *b)
{
	auto_done(box_result) r;

	box_result_init(&r);
	if (box_result(b, &r, NULL) < 0)
		return false;
	deliver(b, &r);
	return true;
}

/* The keeper is dead and left no result. */
static void bury(struct box *b)
{
	uint64_t now = time_mono_usec();
	bool gone;

	if (!b->kill_since_usec)
		b->kill_since_usec = now;
	gone = leftover_kill(&b->spec->cgroup, b->spec->attempt_id);
	if (!gone && now - b->kill_since_usec < LEFTOVER_USEC) {
		look_again(b, RETRY_USEC);
		return;
	}
	leftover_remove(&b->spec->cgroup, b->spec->attempt_id);
	if (conclude_lost(b->dir, b->spec, gone, NULL) < 0 || !deliver_result(b))
		look_again(b, RETRY_MAX); /* a full disk, perhaps: the box waits */
}

/*
 * Is it over? With a result: yes, as soon as the keeper has gone; a keeper that said `end` and stays
 * has a process that will not die, and its result counts then too. Without: only if the keeper has
 * gone. Else connect (again), or wait.
 */
static void check_end(struct box *b)
{
	bool told;

	if (b->ended)
		return;
	b->gone = journal_is_free(b->dir);
	told = b->end_told_usec && time_mono_usec() - b->end_told_usec >= STUCK_USEC;
	/* Killed after it had written its result, it may not have come to this. */
	if (b->gone && !b->end_told_usec)
		leftover_remove(&b->spec->cgroup, b->spec->attempt_id);
	if ((b->gone || told) && deliver_result(b))
		return;
	if (b->gone) {
		bury(b);
		return;
	}
	if (b->sock >= 0) {
		look_again(b, b->end_told_usec ? STUCK_USEC : USEC_INFINITY);
		return;
	}
	if (!b->end_told_usec && connect_keeper(b))
		return;
	look_again(b, b->retry_usec);
	b->retry_usec = b->retry_usec * 2 < RETRY_MAX ? b->retry_usec * 2 : RETRY_MAX;
}

static int follow(struct box *b, struct loop *loop, const struct box_calls *calls, void *user,
		  struct err *e)
{
	b->loop = loop;
	b->calls = *calls;
	b->user = user;
	b->retry_usec = RETRY_USEC;
	return loop_timer(loop, USEC_INFINITY, on_timer, b, &b->timer, e);
}

int box_attach(struct box *b, struct loop *loop, const struct box_calls *calls, void *user,
	       struct err *e)
{
	int r;

	if (b->state == BOX_NEW || b->loop)
		return err_set(e, EINVAL, ERR_HOST, "box %s cannot be attached to",
			       b->spec->attempt_id);
	r = follow(b, loop, calls, user, e);
	if (r == 0)
		look_again(b, 0);
	return r;
}

/* The journal is handed over with its lock, so that there is no moment in which an adopter would find
 * it free and take the box for dead. */
static int hand_over(struct box *b, struct keepers *keepers, struct err *e)
{
	auto_close int journal = -1;
	struct keeper_job job = {
		.box_dirfd = b->dir,
		.lease_usec = b->lease_usec,
		.at_boot_usec = b->renewed_usec,
	};
	int r = journal_lock(b->dir, &journal, e);

	job.journal = journal;
	if (r == 0)
		r = keepers_hand(keepers, &job, on_socket, b, &b->keeper, e);
	if (r < 0)
		return r;
	b->state = BOX_RUNNING;
	b->lease_usec = 0;
	connected(b, keeper_socket(b->keeper));
	return 0;
}

int box_start(struct box *b, struct loop *loop, struct keepers *keepers,
	      const struct box_calls *calls, void *user, struct err *e)
{
	int r;

	if (b->state != BOX_NEW || b->loop)
		return err_set(e, EINVAL, ERR_HOST, "box %s cannot be started",
			       b->spec->attempt_id);
	r = follow(b, loop, calls, user, e);
	if (r == 0)
		r = hand_over(b, keepers, e);
	if (r < 0 && b->state == BOX_NEW) {
		b->timer = loop_src_free(b->timer);
		b->loop = NULL; /* so that it can be concluded and attached to */
	}
	return r;
}

static int ask_for_end(struct box *b, bool *how, struct err *e)
{
	if (b->state == BOX_NEW)
		return box_conclude(b, BOX_CANCELED, "canceled before it started", e);
	if (b->state != BOX_RUNNING)
		return 0;
	*how = true;
	send_asked(b);
	return 0;
}

int box_cancel(struct box *b, struct err *e)
{
	return ask_for_end(b, &b->cancel, e);
}

int box_kill(struct box *b, struct err *e)
{
	return ask_for_end(b, &b->kill, e);
}

int box_renew(struct box *b, uint64_t usec, struct err *e)
{
	if (!usec || usec > LEASE_USEC_MAX)
		return err_input(e, "a lease of %llu microseconds", (unsigned long long)usec);
	b->renewed_usec = time_boot_usec();
	b->lease_usec = usec;
	if (b->state == BOX_RUNNING)
		send_asked(b);
	return 0;
}

/* --- removal ---------------------------------------------------------------------------------- */

bool box_is_stuck(const struct box *b)
{
	return b->ended && !b->gone;
}

int box_release_sealed(const char *state_dir, const char *attempt_id, struct err *e)
{
	auto_free char *path = NULL;

	if (!id_is_uuid(attempt_id))
		return err_input(e, "'%s' is not the name of a box", STR_ESC(attempt_id));
	if (str_fmt(&path, "%s/sealed/%s", state_dir, attempt_id) < 0)
		return err_nomem(e);
	return fd_rmtree(AT_FDCWD, path, e);
}

/* Under its own name a folder is whole: it is kept for another box, or renamed first and removed under
 * the other name. */
static int remove_folder(const struct box *b, struct err *e)
{
	const char *id = b->spec->attempt_id;
	char gone[UUID_LEN + 8];

	if (b->spare && spare_keep(b->boxes, id, b->dir))
		return 0;
	snprintf(gone, sizeof(gone), ".%s.gone", id);
	if (renameat(b->boxes, id, b->boxes, gone) < 0 && errno != ENOENT)
		return err_sys(e, "rename box %s", id);
	return fd_rmtree(b->boxes, gone, e);
}

int box_release(struct box *b, bool sealed, struct err *e)
{
	auto_free char *path = NULL;
	int r;

	if (!b->gone && !journal_is_free(b->dir))
		return err_set(e, EBUSY, ERR_TRANSIENT, "the keeper of box %s is still there",
			       b->spec->attempt_id);
	if (sealed) {
		if (str_fmt(&path, "%s/%s", b->spec->sealed_dir, b->spec->attempt_id) < 0)
			return err_nomem(e);
		r = fd_rmtree(AT_FDCWD, path, e);
		if (r < 0)
			return r;
	}
	r = remove_folder(b, e);
	if (r == 0)
		box_free(b);
	return r;
}

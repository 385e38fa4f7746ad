/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The channel is a folder that several hosts may share, zr-channel(7). Requests are taken out of it
 * by renames (dirtree.h); a taken one stays in the worker's own folder until its end is told, so that
 * others find it when the worker is lost (dirlost.h). Durable events go through the stash on our own
 * disk into files that stay until a reader takes them: such a file has arrived. Everything is looked
 * for on a scan and, where the kernel helps, at once (dirwatch.h). A folder that fails is opened anew
 * at each scan.
 */
#include <string.h>
#include <sys/queue.h>
#include <syslog.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/json.h"
#include "base/str.h"
#include "messaging/channel.h"
#include "messaging/diragain.h"
#include "messaging/dircontrol.h"
#include "messaging/direvent.h"
#include "messaging/dirfile.h"
#include "messaging/dirlive.h"
#include "messaging/dirlost.h"
#include "messaging/dirpace.h"
#include "messaging/dirretry.h"
#include "messaging/dirtree.h"
#include "messaging/dirwatch.h"
#include "messaging/stash.h"
#include "messaging/tellings.h"

/* Events that are written before their folder is synced. */
#define EVENTS_BATCH 64

struct dir;

struct channel_request {
	TAILQ_ENTRY(channel_request) entry;
	struct dir *c;
	char *file; /* in claimed/HOST.N */
	char *name; /* in requests; NULL: it came another way */
};

struct dir {
	struct channel channel;
	struct loop *loop;
	const struct channel_ops *ops;
	void *user;
	const struct settings *settings;
	char *path;
	unsigned worker;

	struct dirtree tree;
	struct dirlost *lost;
	struct dirwatch *watch;
	uint64_t cursor;                        /* the last event that was written */
	TAILQ_HEAD(, channel_request) requests; /* not settled */
	struct tellings tellings;
	char **queue, **again; /* names that wait; files of ours from before */
	size_t queue_n, queue_at, again_at;
	struct diragain again_later; /* files of ours that wait for their time */
	struct dirpace pace;         /* of reading the list */
	bool news;                   /* since the list was read */
	struct dircontrol control;
	unsigned want;

	struct loop_src *sync, *closing;
	bool up, said_up, events_failed, unsynced;
	void (*closed)(void *user);
	void *closed_user;
};

printf_like(3, 4) static void report(const struct dir *d, int level, const char *fmt, ...)
{
	char text[640];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (d->ops->on_report)
		d->ops->on_report(d->user, level, text);
}

/* The folder failed: whatever it was, the next scan opens it again. */
static void set_down(struct dir *d, const struct err *why)
{
	d->up = false;
	d->ops->on_state(d->user, false, why);
}

/* --- requests ------------------------------------------------------------------------------ */

static void request_free(struct channel_request *t)
{
	if (!t)
		return;
	TAILQ_REMOVE(&t->c->requests, t, entry);
	free(t->file);
	free(t->name);
	free(t);
}

static struct channel_request *request_new(struct dir *d, const char *file, const char *name)
{
	struct channel_request *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->c = d;
	TAILQ_INSERT_TAIL(&d->requests, t, entry);
	t->file = file ? strdup(file) : NULL;
	t->name = name ? strdup(name) : NULL;
	if (t->file && (t->name || !name))
		return t;
	request_free(t);
	return NULL;
}

static bool holds(const struct channel *c, const struct channel_request *t)
{
	return faccessat(((const struct dir *)c)->tree.mine, t->file, F_OK, AT_SYMLINK_NOFOLLOW) ==
	       0;
}

/* Renames of one turn of the loop are synced together at its end. */
static void sync_soon(struct dir *d)
{
	d->unsynced = true;
	loop_defer_arm(d->sync);
}

static void on_sync(void *user)
{
	struct dir *d = user;
	struct err e = { 0 };

	if (d->unsynced && dirtree_sync(&d->tree, &e) < 0)
		report(d, LOG_WARNING, "%s", e.msg);
	d->unsynced = false;
}

static int settle_ack(struct channel *c, struct channel_request *t)
{
	struct dir *d = (struct dir *)c;
	struct err e = { 0 };
	int r = dirtree_settle(&d->tree, t->file, &e);

	/* Its end was told already, or others have taken it. */
	if (r == -ENOENT)
		r = 0;
	if (r < 0)
		report(d, LOG_WARNING, "%s", e.msg);
	request_free(t);
	sync_soon(d);
	return r;
}

static int settle_back(struct channel *c, struct channel_request *t)
{
	struct dir *d = (struct dir *)c;
	struct err e = { 0 };
	int r = dirtree_give_back(&d->tree, t->file, t->name, &e);

	if (r < 0 && r != -ENOENT)
		report(d, LOG_WARNING, "a request stays in claimed until the next start: %s",
		       e.msg);
	request_free(t);
	sync_soon(d);
	return r;
}

static int bury(struct dir *d, const char *file, const char *name, const char *reason,
		const char *detail)
{
	struct err e = { 0 };
	int r = dirtree_bury(&d->tree, file, name, reason, detail, &e);

	if (r < 0)
		report(d, LOG_ERR, "a refused request stays in claimed until the next start: %s",
		       e.msg);
	else
		report(d, LOG_ERR, "request %s is refused (%s): %s", STR_ESC(name), reason,
		       detail ? detail : "");
	return r;
}

static int settle_dead(struct channel *c, struct channel_request *t, const char *reason,
		       const char *detail)
{
	int r = bury((struct dir *)c, t->file, t->name ? t->name : t->file, reason, detail);

	request_free(t);
	return r;
}

/* --- what was taken ------------------------------------------------------------------------ */

/* Good: *ret is for message_free(). Else the file was put aside, or is gone. -EAGAIN: it is there and
 * cannot be read. */
static int read_taken(struct dir *d, const char *file, const char *name, struct message **ret,
		      struct err *e)
{
	auto_buf struct buf b = { 0 };
	enum message_bad bad;
	bool regular = false;
	int r = dirfile_is_regular(d->tree.mine, file, &regular, e);

	if (r == 0 && !regular)
		return bury(d, file, name, message_bad_name(MESSAGE_MALFORMED),
			    "it is not a regular file") < 0
			       ? -EAGAIN
			       : -EBADMSG;
	if (r == 0)
		r = fd_read_file(d->tree.mine, file, d->settings->message_max, &b, e);
	if (r == -EFBIG)
		return bury(d, file, name, message_bad_name(MESSAGE_TOO_LARGE), e->msg) < 0
			       ? -EAGAIN
			       : -EBADMSG;
	if (r < 0)
		return r == -ENOENT ? r : -EAGAIN;
	bad = message_decode(b.data ? b.data : "", b.len, d->settings->message_max, ret, e);
	if (bad == MESSAGE_GOOD && (*ret)->type != MESSAGE_REQUEST) {
		bad = MESSAGE_UNKNOWN_TYPE;
		err_input(e, "a message of type '%s' is no request",
			  message_type_name((*ret)->type));
		message_free(take_ptr(*ret));
	}
	if (bad == MESSAGE_NO_MEMORY)
		return -EAGAIN;
	if (bad != MESSAGE_GOOD)
		return bury(d, file, name, message_bad_name(bad), e->msg) < 0 ? -EAGAIN : -EBADMSG;
	return 0;
}

static void hand_out(struct dir *d, const char *file, const char *name, const struct message *m,
		     bool redelivered)
{
	struct channel_request *t = request_new(d, file, name);

	if (!t) {
		(void)!dirtree_give_back(&d->tree, file, name, NULL);
		return;
	}
	d->want--;
	d->ops->on_request(d->user, t, m, redelivered);
}

/* A file in our folder: UUID-NAME.json, or EV.ATT.UUID.req of a former worker. */
static void take_file(struct dir *d, const char *file, const char *name, bool redelivered)
{
	auto_obj(message) m = NULL;
	auto_free char *claim = NULL;
	struct err e = { 0 };
	int r = read_taken(d, file, name ? name : file, &m, &e);

	if (r == -EAGAIN)
		report(d, LOG_WARNING, "%s: left in claimed until the next start", e.msg);
	if (r < 0)
		return;
	if (str_ends(file, DIRTREE_CLAIM)) {
		hand_out(d, file, name, m, redelivered);
		return;
	}
	FAILPOINT("dir.taken");
	r = dirtree_claim(&d->tree, file, m->request.evaluation, m->request.attempt, &claim, &e);
	if (r == 0)
		hand_out(d, claim, name, m, redelivered);
	else
		report(d, LOG_WARNING, "%s: left in claimed until the next start", e.msg);
}

/* Who lost it may have begun it: it goes on as another attempt. */
static void take_lost(struct dir *d, const char *file, const char *worker)
{
	auto_obj(message) m = NULL;
	auto_free char *body = NULL, *claim = NULL;
	char id[UUID_LEN + 1];
	struct err e = { 0 };
	size_t n = 0;
	int r = read_taken(d, file, file, &m, &e);

	if (r < 0) {
		if (r == -EAGAIN)
			report(d, LOG_WARNING, "%s: left in claimed until the next start", e.msg);
		return;
	}
	dirlive_ended(d->tree.live, m->request.evaluation, m->request.attempt);
	r = dirretry_lost(m, d->settings, id, &e);
	if (r == 0) {
		(void)!bury(d, file, file, "lost",
			    "as many workers as infrastructure_retries allows were lost with it");
		return;
	}
	if (r == 1)
		r = message_encode(m, &body, &n, &e);
	if (r == 0)
		r = dirtree_again(&d->tree, file, m->request.evaluation, m->request.attempt, body,
				  n, &claim, &e);
	if (r < 0) {
		report(d, LOG_WARNING, "%s: left in claimed until the next start", e.msg);
		return;
	}
	report(d, LOG_NOTICE,
	       "evaluation %s is begun here as attempt %d: worker %s is not heard of any more",
	       m->request.evaluation, m->request.attempt, worker);
	hand_out(d, claim, NULL, m, false);
}

/* --- where requests come from -------------------------------------------------------------- */

static bool is_handed_out(const struct dir *d, const char *file)
{
	const struct channel_request *t;

	TAILQ_FOREACH (t, &d->requests, entry)
		if (str_eq(t->file, file))
			return true;
	return false;
}

/* Files that were not settled when a former worker ended. */
static bool take_again(struct dir *d)
{
	const char *file = d->again ? d->again[d->again_at] : NULL;

	if (!file)
		return false;
	d->again_at++;
	if (is_handed_out(d, file))
		return true;
	if (str_ends(file, DIRTREE_LOST))
		take_lost(d, file, "(a former one)");
	else if (str_ends(file, DIRTREE_CLAIM))
		take_file(d, file, NULL, true);
	else if (str_ends(file, DIRTREE_TAKEN))
		take_file(d, file, strlen(file) > UUID_LEN + 1 ? file + UUID_LEN + 1 : NULL, true);
	return true;
}

static bool take_waiting(struct dir *d)
{
	const char *name = d->queue ? d->queue[d->queue_at] : NULL;
	auto_free char *file = NULL;
	struct err e = { 0 };
	int r;

	if (!name)
		return false;
	d->queue_at++;
	r = dirtree_take(&d->tree, name, &file, &e);
	if (r == 0)
		take_file(d, file, name, false);
	else if (r != -ENOENT)
		set_down(d, &e);
	return true;
}

static bool take_from(struct dir *d, const char *worker)
{
	auto_close int fd = openat(d->tree.claimed, worker, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_strv char **names = NULL;
	bool any = false;

	if (fd < 0 || dirfile_list(fd, "", &names, NULL) < 0)
		return false;
	for (char **n = names; n && *n && d->want; n++) {
		auto_free char *file = NULL;

		/* It waited for its time, and has not begun. */
		if (str_ends(*n, DIRTREE_AGAIN)) {
			if (dirtree_take_again(&d->tree, worker, *n, NULL) == 0)
				(void)!diragain_add(&d->again_later, *n, 0, NULL);
			continue;
		}
		if (str_ends(*n, DIRTREE_OVER)) {
			(void)unlinkat(fd, *n, 0);
			continue;
		}
		if (dirtree_take_lost(&d->tree, worker, *n, &file, NULL) < 0)
			continue;
		take_lost(d, file, worker);
		any = true;
	}
	return any;
}

static void take_from_lost(struct dir *d)
{
	for (const char *w = NULL; d->want && (w = dirlost_next(d->lost, w));)
		(void)take_from(d, w);
}

static void list_waiting(struct dir *d)
{
	uint64_t since = time_mono_usec();
	struct err e = { 0 };

	strv_free(take_ptr(d->queue));
	d->queue_n = d->queue_at = 0;
	d->news = false;
	if (dirfile_list(d->tree.requests, DIRTREE_REQUEST, &d->queue, &e) < 0)
		set_down(d, &e);
	else
		d->queue_n = strv_len(d->queue);
	dirpace_note(&d->pace, since, time_mono_usec());
}

/* So that a late one with an early name has its place. */
static bool list_is_stale(const struct dir *d, bool scan)
{
	if (!d->queue || !d->queue[d->queue_at])
		return true;
	return (scan || d->news) && dirpace_due(&d->pace, time_mono_usec(), scan, d->queue_n) == 0;
}

static bool may_take(const struct dir *d)
{
	return d->up && d->want && !d->closed;
}

static void take_all(struct dir *d, bool scan)
{
	while (may_take(d) && take_again(d))
		;
	if (scan && may_take(d))
		take_from_lost(d);
	if (may_take(d) && list_is_stale(d, scan))
		list_waiting(d);
	while (may_take(d) && take_waiting(d))
		;
	/* The list was not read again for what came meanwhile, and is used up. */
	if (may_take(d) && d->news)
		dirwatch_soon(d->watch);
}

/* --- control ------------------------------------------------------------------------------- */

static void on_control(void *user, const struct message *m)
{
	struct dir *d = user;

	d->ops->on_control(d->user, m);
}

static void on_bad_control(void *user, const char *name, const char *why)
{
	report(user, LOG_WARNING, "control/%s is passed over: %s", STR_ESC(name), why);
}

static void read_controls(struct dir *d, bool scan)
{
	static const struct dircontrol_ops ops = { .on_control = on_control,
						   .on_bad = on_bad_control };
	struct err e = { 0 };

	if (dircontrol_read(&d->control, d->tree.control, d->settings->message_max, scan, &ops, d,
			    &e) < 0)
		set_down(d, &e);
}

/* --- events -------------------------------------------------------------------------------- */

static int send_event(struct channel *c, const char *key, const char *id, const void *body,
		      size_t n, bool durable, uint64_t *ret_id, struct err *e)
{
	struct dir *d = (struct dir *)c;
	auto_free char *more = NULL;

	if (!durable) {
		if (d->up)
			dirlive_write(d->tree.live, key, body, n);
		return 0;
	}
	if (direvent_add_results(d->settings->state_dir, body, n, &more, &n) == 0)
		body = more;
	return stash_event(d->channel.stash, key, id, body, n, ret_id, e);
}

/* Writes up to a batch of events; the number of those that may be synced, or -errno. */
static int write_batch(struct dir *d, uint64_t *ids, struct err *e)
{
	struct stash_record rec;
	uint64_t id = d->cursor;
	int n = 0, r = 0;

	while (n < EVENTS_BATCH && (r = stash_next(d->channel.stash, &id, &rec, e)) == 1) {
		r = direvent_write(&d->tree, &rec, d->settings, e);
		if (r < 0 && e->kind == ERR_INPUT) {
			report(d, LOG_ERR, "%s: parked", e->msg);
			r = stash_park(d->channel.stash, id, e);
			d->cursor = id;
			continue;
		}
		if (r < 0)
			return n ? n : r;
		ids[n++] = d->cursor = id;
	}
	return r < 0 && n == 0 ? r : n;
}

/* In the folder and safe there: only now anybody may forget them. The end of a request first, so that
 * it is not given to another after its end was told. */
static int confirm_batch(struct dir *d, const uint64_t *ids, int n, struct err *e)
{
	struct stash_record rec;
	int r = 0, done = 0;

	if (fsync(d->tree.events) < 0)
		return err_sys(e, "sync the folder of the events");
	FAILPOINT("dir.events");
	for (; done < n; done++) {
		uint64_t before = ids[done] - 1;

		if (stash_next(d->channel.stash, &before, &rec, NULL) == 1 && before == ids[done])
			r = direvent_tell_end(&d->tree, &rec, d->settings, &d->again_later, e);
		if (r < 0)
			break;
		FAILPOINT("dir.ended");
		stash_drop(d->channel.stash, ids[done]);
	}
	for (int i = 0; i < done && d->ops->on_confirmed; i++)
		d->ops->on_confirmed(d->user, ids[i]);
	return r;
}

static void pump(struct dir *d)
{
	uint64_t ids[EVENTS_BATCH];
	struct err e = { 0 };
	int n = 0;

	while (d->up && (n = write_batch(d, ids, &e)) > 0) {
		n = confirm_batch(d, ids, n, &e);
		if (n < 0)
			break;
	}
	if (n < 0) {
		d->cursor = 0; /* those that are there already are written again */
		report(d, d->events_failed ? LOG_DEBUG : LOG_WARNING,
		       "events wait on disk: %s; trying again", e.msg);
	}
	d->events_failed = n < 0;
}

static void on_durable(void *user, uint64_t id)
{
	struct dir *d = user;

	d->ops->on_durable(d->user, id);
	pump(d);
}

/* --- the worker's state -------------------------------------------------------------------- */

/* There to be read is told. Not synced: a crash of the host ends the lease anyway. */
static int tell(struct channel *c, unused_arg const char *key, unused_arg const char *id,
		const void *body, size_t n, channel_told_fn told, void *user, struct err *e)
{
	struct dir *d = (struct dir *)c;
	char name[ARRAY_LEN(d->tree.worker) + 8];
	int r;

	if (!d->up)
		return err_set(e, ENOTCONN, ERR_TRANSIENT, "the channel is not there");
	snprintf(name, sizeof(name), "%s.json", d->tree.worker);
	r = fd_write_file(d->tree.workers, name, body, n, 0644, false, e);
	return r < 0 ? r : tellings_add(&d->tellings, told, user, e);
}

/* --- coming up ----------------------------------------------------------------------------- */

static void watch_folders(struct dir *d)
{
	struct err e = { 0 };

	if (dirwatch_add(d->watch, d->tree.requests, &e) < 0 ||
	    dirwatch_add(d->watch, d->tree.control, &e) < 0)
		report(d, LOG_WARNING, "%s: looking every channel_scan only", e.msg);
}

static int open_tree(struct dir *d, struct err *e)
{
	struct dirtree fresh;
	int r = dirtree_open(d->path, d->settings->host, d->worker, &fresh, e);

	if (r < 0)
		return r;
	dirtree_done(&d->tree);
	d->tree = fresh;
	return 0;
}

static void come_up(struct dir *d)
{
	struct err e = { 0 };

	if (d->said_up && open_tree(d, &e) < 0) {
		d->ops->on_state(d->user, false, &e);
		return;
	}
	watch_folders(d);
	d->up = d->said_up = true;
	d->ops->on_state(d->user, true, NULL);
	d->cursor = 0;
	pump(d);
}

/* Not while an end of before is still to be told: it would be asked for twice. */
static void let_go(struct dir *d)
{
	struct err e = { 0 };

	if (!d->events_failed && diragain_release(&d->again_later, &d->tree, false, &e) < 0)
		report(d, LOG_WARNING, "further attempts wait: %s; trying again", e.msg);
}

static void on_look(void *user, enum dirwatch_why why)
{
	struct dir *d = user;
	bool scan = why == DIRWATCH_SCAN;
	struct err e = { 0 };

	d->news = d->news || why != DIRWATCH_SOON;
	if (scan && !d->up)
		come_up(d);
	if (d->up && scan && !dirtree_is_whole(&d->tree)) {
		err_set(&e, ESTALE, ERR_TRANSIENT, "a folder of %s was removed or moved", d->path);
		set_down(d, &e);
	}
	if (d->up && scan && d->events_failed)
		pump(d);
	if (d->up && scan && dirlost_look(d->lost, &d->tree, &e) < 0)
		set_down(d, &e);
	if (d->up && scan)
		let_go(d);
	if (d->up)
		read_controls(d, scan);
	take_all(d, scan);
}

static void set_want(struct channel *c, unsigned n)
{
	struct dir *d = (struct dir *)c;

	d->want = d->closed ? 0 : n;
	if (d->want && d->up)
		dirwatch_soon(d->watch);
}

static bool is_idle(const struct channel *c)
{
	return TAILQ_EMPTY(&((const struct dir *)c)->requests);
}

/* --- the rest of the interface ------------------------------------------------------------- */

static void on_closing(void *user)
{
	struct dir *d = user;

	on_sync(d);
	d->closed(d->closed_user);
}

static void close_channel(struct channel *c, void (*done)(void *user), void *user)
{
	struct dir *d = (struct dir *)c;

	if (d->closed)
		return;
	d->want = 0;
	d->closed = done;
	d->closed_user = user;
	loop_defer_arm(d->closing);
}

/* What was not settled goes back; the folder goes if nothing is left that we owe. */
static void leave_folder(struct dir *d)
{
	struct channel_request *t;

	while ((t = TAILQ_FIRST(&d->requests)))
		(void)!settle_back(&d->channel, t);
	if (d->tree.claimed >= 0) {
		if (!d->events_failed)
			(void)!diragain_release(&d->again_later, &d->tree, true, NULL);
		on_sync(d);
		(void)unlinkat(d->tree.claimed, d->tree.worker, AT_REMOVEDIR);
	}
}

static void dir_free(struct channel *c)
{
	struct dir *d = (struct dir *)c;

	tellings_done(&d->tellings);
	d->up = false;
	/* As long as the stash is locked, no other worker of this number has the folder. */
	if (d->said_up)
		leave_folder(d);
	stash_free(d->channel.stash);
	d->channel.stash = NULL;
	dirwatch_free(d->watch);
	dirlost_free(d->lost);
	dirtree_done(&d->tree);
	dircontrol_done(&d->control);
	diragain_done(&d->again_later);
	strv_free(d->queue);
	strv_free(d->again);
	loop_src_free(d->sync);
	loop_src_free(d->closing);
	free(d->path);
	free(d);
}

static const struct channel_type dir_type = {
	.name = "dir",
	.free = dir_free,
	.close = close_channel,
	.want = set_want,
	.holds = holds,
	.ack = settle_ack,
	.dead = settle_dead,
	.give_back = settle_back,
	.event = send_event,
	.tell = tell,
	.is_idle = is_idle,
};

/* --- opening ------------------------------------------------------------------------------- */

static void on_warning(void *user, const char *text)
{
	report(user, LOG_WARNING, "%s", text);
}

/* Whether the request that a note is about is still owed an end: no file of it is there when that was told.
 * True if nobody can say. */
static bool is_owed(const struct dir *d, const void *note, size_t n)
{
	auto_free char *name = NULL;
	auto_close int fd = -1;
	json_auto_t *o = NULL;
	const char *evaluation;

	if (js_parse(note, n, JS_DEPTH_MAX, &o, NULL) < 0)
		return true;
	evaluation = json_string_value(json_object_get(o, "evaluation"));
	return !evaluation || dirtree_find(&d->tree, evaluation,
					   (int)json_integer_value(json_object_get(o, "attempt")),
					   &fd, &name, NULL) != -ENOENT;
}

static bool on_note(void *user, uint64_t id, const char *name, const void *body, size_t n)
{
	struct dir *d = user;

	if (!is_owed(d, body, n))
		return false;
	return d->ops->on_kept && d->ops->on_kept(d->user, id, name, body, n);
}

static void on_sibling(void *user, const char *name)
{
	struct dir *d = user;
	struct err e = { 0 };

	if (dirtree_inherit(&d->tree, name, &e) < 0)
		report(d, LOG_WARNING, "%s", e.msg);
}

static const struct stash_ops stash_calls = {
	.on_durable = on_durable,
	.on_warning = on_warning,
	.on_note = on_note,
	.on_sibling = on_sibling,
};

static int open_stash(struct dir *d, uint64_t bytes_max, struct err *e)
{
	auto_free char *path = NULL;
	int r = stash_path(d->settings->state_dir, d->worker, &path, e);

	return r < 0 ? r
		     : stash_open(d->loop, path, bytes_max, &stash_calls, d, &d->channel.stash, e);
}

/* Our own folder as a former worker left it. Those of lost workers first: the next attempt of one may
 * have been written already, and is written over. */
static int list_again(struct dir *d, struct err *e)
{
	auto_strv char **all = NULL;
	int r = dirfile_list(d->tree.mine, DIRTREE_LOST, &d->again, e);

	if (r == 0)
		r = dirfile_list(d->tree.mine, "", &all, e);
	for (char **f = all; f && *f && r == 0; f++)
		if (str_ends(*f, DIRTREE_AGAIN))
			r = diragain_add(&d->again_later, *f, d->settings->retry_delay_usec, e);
		else if (str_ends(*f, DIRTREE_OVER))
			r = diragain_add(&d->again_later, *f, DIRAGAIN_OVER_USEC, e);
		else if (!str_ends(*f, DIRTREE_LOST) && strv_add(&d->again, *f) < 0)
			r = err_nomem(e);
	return r;
}

/* What a person has to put right is not tried for ever. */
static int open_first(struct dir *d, struct err *e)
{
	int r = open_tree(d, e);

	if (r == -EACCES || r == -EPERM || r == -ENOTDIR || r == -EROFS)
		e->kind = ERR_INPUT;
	return r;
}

static int open_watch(struct dir *d, struct err *e)
{
	bool notify = str_eq(d->settings->channel_watch, "inotify");
	struct err why = { 0 };

	if (dirwatch_new(d->loop, d->settings->channel_scan_usec, notify, on_look, d, &d->watch,
			 &why) == 0)
		return 0;
	if (!notify)
		return err_set(e, why.code, why.kind, "%s", why.msg);
	report(d, LOG_WARNING, "%s: looking every channel_scan only", why.msg);
	return dirwatch_new(d->loop, d->settings->channel_scan_usec, false, on_look, d, &d->watch,
			    e);
}

int channel_dir_new(struct loop *l, const struct channel_conf *conf, const struct channel_ops *ops,
		    void *user, struct channel **ret, struct err *e)
{
	struct dir *d = calloc(1, sizeof(*d));
	int r;

	if (!d)
		return err_nomem(e);
	*d = (struct dir){ .channel = { &dir_type },
			   .loop = l,
			   .ops = ops,
			   .user = user,
			   .settings = conf->settings,
			   .worker = conf->worker,
			   .tree = DIRTREE_NONE };
	TAILQ_INIT(&d->requests);
	diragain_init(&d->again_later);
	d->path = strdup(conf->folder);
	r = d->path ? tellings_init(&d->tellings, l, e) : err_nomem(e);
	if (r == 0)
		r = loop_defer(l, on_sync, d, &d->sync, e);
	if (r == 0)
		r = loop_defer(l, on_closing, d, &d->closing, e);
	if (r == 0)
		r = dirlost_new(conf->settings->lease_usec, &d->lost, e);
	if (r == 0)
		r = open_first(d, e);
	if (r == 0)
		r = open_stash(d, conf->spool_max, e);
	/* Who had the stash before us, or took it for that of a former worker, may have removed our
	 * folder. */
	if (r == 0)
		r = open_tree(d, e);
	if (r == 0)
		r = list_again(d, e);
	if (r == 0)
		r = open_watch(d, e);
	if (r < 0) {
		dir_free(&d->channel);
		return r;
	}
	*ret = &d->channel;
	return 0;
}

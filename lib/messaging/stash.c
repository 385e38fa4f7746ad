/* SPDX-License-Identifier: MIT */
#include "messaging/stash.h"

#include <dirent.h>
#include <search.h>
#include <string.h>

#include "base/fd.h"
#include "base/id.h"
#include "base/json.h"
#include "base/str.h"
#include "messaging/message.h"
#include "messaging/spool.h"

#define SEGMENT_BYTES (4u << 20)
#define PARKED        "parked"
/* Who starts beside us may hold our folder's lock while it looks whether anybody has it. */
#define LOCK_TRIES     50
#define LOCK_WAIT_NSEC 100000000

struct stash {
	const struct stash_ops *ops;
	void *user;
	char *dir;
	struct spool *spool;
	struct buf record;
	uint64_t notes; /* records that are not sent */
};

printf_like(2, 3) static void warn(const struct stash *s, const char *fmt, ...)
{
	char text[640];
	va_list ap;

	if (!s->ops->on_warning)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	s->ops->on_warning(s->user, text);
}

/* --- a record: routing key, NUL, message id, NUL, body; a note has an empty routing key -------- */

static int pack(struct buf *b, const char *key, const char *id, const void *body, size_t n)
{
	b->len = 0;
	if (buf_add(b, key, strlen(key) + 1) < 0 || buf_add(b, id, strlen(id) + 1) < 0)
		return -ENOMEM;
	return buf_add(b, body, n);
}

static bool unpack(const struct buf *b, struct stash_record *ret)
{
	const char *key = b->data, *id, *body;

	id = memchr(key, '\0', b->len);
	if (!id)
		return false;
	id++;
	body = memchr(id, '\0', b->len - (size_t)(id - key));
	if (!body)
		return false;
	body++;
	*ret = (struct stash_record){
		.key = key, .id = id, .body = body, .n = b->len - (size_t)(body - key)
	};
	return true;
}

static bool is_note(const struct stash_record *rec)
{
	return rec->key && !*rec->key;
}

static int append(struct stash *s, const char *key, const char *id, const void *body, size_t n,
		  uint64_t *ret_id, struct err *e)
{
	uint64_t number = 0;
	int r;

	if (pack(&s->record, key, id, body, n) < 0)
		return err_nomem(e);
	r = spool_append(s->spool, s->record.data, s->record.len, &number, e);
	if (r == 0 && ret_id)
		*ret_id = number;
	return r;
}

int stash_event(struct stash *s, const char *key, const char *id, const void *body, size_t n,
		uint64_t *ret_id, struct err *e)
{
	return append(s, key, id, body, n, ret_id, e);
}

int stash_note(struct stash *s, const char *name, const void *body, size_t n, uint64_t *ret_id,
	       struct err *e)
{
	int r = append(s, "", name, body, n, ret_id, e);

	if (r == 0)
		s->notes++;
	return r;
}

void stash_forget(struct stash *s, uint64_t id)
{
	s->notes--;
	spool_drop(s->spool, id);
}

void stash_drop(struct stash *s, uint64_t id)
{
	spool_drop(s->spool, id);
}

static int next_record(struct stash *s, uint64_t *id, struct stash_record *ret, struct err *e)
{
	int r = spool_next(s->spool, id, &s->record, e);

	if (r == 1 && !unpack(&s->record, ret))
		*ret = (struct stash_record){ .body = s->record.data, .n = s->record.len };
	return r;
}

int stash_next(struct stash *s, uint64_t *id, struct stash_record *ret, struct err *e)
{
	int r;

	do {
		r = next_record(s, id, ret, e);
	} while (r == 1 && is_note(ret));
	return r;
}

int stash_park(struct stash *s, uint64_t id, struct err *e)
{
	uint64_t before = id - 1;
	auto_free char *path = NULL;
	struct stash_record rec;
	char name[UUID_LEN + 1];
	int r = next_record(s, &before, &rec, e);

	if (r != 1 || before != id)
		return r < 0 ? r : 0;
	if (str_fmt(&path, "%s/" PARKED "/%s.json", s->dir, id_uuid7(name)) < 0)
		return err_nomem(e);
	r = fd_write_file(AT_FDCWD, path, rec.body, rec.n, 0600, true, e);
	if (r == 0)
		spool_drop(s->spool, id);
	return r;
}

uint64_t stash_waiting(const struct stash *s)
{
	return spool_records(s->spool) - s->notes;
}

int stash_sync(struct stash *s, struct err *e)
{
	return spool_sync(s->spool, e);
}

/* --- opening ------------------------------------------------------------------------------- */

static void on_durable(void *user, uint64_t id)
{
	struct stash *s = user;

	if (s->ops->on_durable)
		s->ops->on_durable(s->user, id);
}

static void on_error(void *user, const struct err *why)
{
	warn(user, "events are not safe yet: %s; trying again", why->msg);
}

static const struct spool_ops spool_calls = { .on_durable = on_durable, .on_error = on_error };

/* Moves what a former worker left in its folder into ours. Ours is durable before theirs goes, and its
 * lock is held until all is ours. */
static int empty_into(struct stash *s, struct loop *l, const char *dir, const char *name,
		      struct err *e)
{
	static const struct spool_ops silent = { 0 };
	auto_spool struct spool *from = NULL;
	uint64_t id = 0, copy, last = 0;
	int r = spool_open(l, dir, UINT64_MAX, SEGMENT_BYTES, &silent, NULL, &from, NULL, e);

	if (r < 0)
		return r;
	while ((r = spool_next(from, &id, &s->record, e)) == 1) {
		r = spool_append(s->spool, s->record.data, s->record.len, &copy, e);
		if (r < 0)
			return r;
		last = id;
	}
	if (r == 0)
		r = spool_sync(s->spool, e);
	for (id = 1; r == 0 && id <= last; id++)
		spool_drop(from, id);
	if (r == 0 && s->ops->on_sibling)
		s->ops->on_sibling(s->user, name);
	return r;
}

static void adopt_sibling(struct stash *s, struct loop *l, const char *parent, const char *name)
{
	auto_free char *path = NULL;
	struct err e = { 0 };
	int r = str_fmt(&path, "%s/%s", parent, name) < 0 ? err_nomem(&e)
							  : empty_into(s, l, path, name, &e);

	if (r < 0 && r != -EWOULDBLOCK)
		warn(s, "events of a former worker stay in %s/%s: %s", parent, name, e.msg);
}

static void adopt_siblings(struct stash *s, struct loop *l)
{
	auto_free char *parent = strdup(s->dir);
	char *slash = parent ? strrchr(parent, '/') : NULL;
	struct dirent *de;
	DIR *d;

	if (!slash || slash == parent)
		return;
	*slash = '\0';
	d = opendir(parent);
	while (d && (de = readdir(d)))
		if (de->d_name[0] != '.' && !str_eq(de->d_name, slash + 1) && de->d_type == DT_DIR)
			adopt_sibling(s, l, parent, de->d_name);
	if (d)
		closedir(d);
}

static int compare(const void *a, const void *b)
{
	return strcmp(a, b);
}

/* The attempts whose ends are here: tsearch(3). */
static int find_ends(struct stash *s, void **ends, struct err *e)
{
	struct stash_record rec;
	uint64_t id = 0;
	int r;

	while ((r = next_record(s, &id, &rec, e)) == 1) {
		json_auto_t *o = NULL;
		const char *attempt;
		char *name, **found;

		if (!rec.key || !message_key_is_end(rec.key) ||
		    js_parse(rec.body, rec.n, MESSAGE_DEPTH, &o, NULL) < 0)
			continue;
		attempt = json_string_value(json_object_get(o, "attempt_id"));
		name = attempt ? strdup(attempt) : NULL;
		found = name ? tsearch(name, ends, compare) : NULL;
		if (!found || *found != name)
			free(name);
	}
	return r;
}

/* Those that a former process left, here or in a sibling. What was dropped is here again, because that is not
 * written down: an end that was told is told again, and its note is not needed any more. */
static int find_notes(struct stash *s, struct err *e)
{
	struct stash_record rec;
	void *ends = NULL;
	uint64_t id = 0;
	int r = find_ends(s, &ends, e);

	while (r == 0 && (r = next_record(s, &id, &rec, e)) == 1) {
		r = 0;
		if (!is_note(&rec))
			continue;
		s->notes++;
		if (tfind(rec.id, &ends, compare) || !s->ops->on_note ||
		    !s->ops->on_note(s->user, id, rec.id, rec.body, rec.n))
			stash_forget(s, id);
	}
	tdestroy(ends, free);
	return r;
}

static int make_parked(const struct stash *s, struct err *e)
{
	auto_free char *path = NULL;

	if (str_fmt(&path, "%s/" PARKED, s->dir) < 0)
		return err_nomem(e);
	return fd_mkdirs(path, 0700, e);
}

static int open_spool(struct stash *s, struct loop *l, uint64_t bytes_max, uint64_t *cut,
		      struct err *e)
{
	const struct timespec pause = { .tv_nsec = LOCK_WAIT_NSEC };
	int r = -EWOULDBLOCK;

	for (int i = 0; i < LOCK_TRIES && r == -EWOULDBLOCK; i++) {
		if (i)
			(void)nanosleep(&pause, NULL);
		r = spool_open(l, s->dir, bytes_max, SEGMENT_BYTES, &spool_calls, s, &s->spool, cut,
			       e);
	}
	if (r == -EWOULDBLOCK)
		return err_set(e, EWOULDBLOCK, ERR_INPUT,
			       "%s is in use by another worker: end that one, or give this one a "
			       "state_dir of its own",
			       s->dir);
	return r;
}

int stash_path(const char *state_dir, unsigned worker, char **ret, struct err *e)
{
	return str_fmt(ret, "%s/spool/events/%u", state_dir, worker) < 0 ? err_nomem(e) : 0;
}

int stash_open(struct loop *l, const char *dir, uint64_t bytes_max, const struct stash_ops *ops,
	       void *user, struct stash **ret, struct err *e)
{
	auto_obj(stash) s = calloc(1, sizeof(*s));
	uint64_t cut = 0;
	int r;

	if (!s)
		return err_nomem(e);
	s->ops = ops;
	s->user = user;
	s->dir = strdup(dir);
	r = s->dir ? open_spool(s, l, bytes_max, &cut, e) : err_nomem(e);
	if (r == 0)
		r = make_parked(s, e);
	if (r < 0)
		return r;
	if (cut)
		warn(s, "%llu bytes that a crash tore off were cut from %s",
		     (unsigned long long)cut, dir);
	adopt_siblings(s, l);
	r = find_notes(s, e);
	if (r < 0)
		return r;
	*ret = take_ptr(s);
	return 0;
}

void stash_free(struct stash *s)
{
	if (!s)
		return;
	spool_close(s->spool);
	buf_done(&s->record);
	free(s->dir);
	free(s);
}

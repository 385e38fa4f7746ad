/* SPDX-License-Identifier: MIT */
#include "messaging/direvent.h"

#include <errno.h>
#include <string.h>

#include "base/fd.h"
#include "base/id.h"
#include "base/json.h"
#include "base/str.h"
#include "messaging/dirfile.h"
#include "messaging/dirlive.h"
#include "messaging/dirretry.h"
#include "messaging/message.h"

int direvent_add_results(const char *state_dir, const void *body, size_t n, char **ret,
			 size_t *ret_n)
{
	json_auto_t *o = NULL;
	auto_free char *path = NULL;
	const char *attempt;

	if (js_parse(body, n, MESSAGE_DEPTH, &o, NULL) < 0)
		return -EINVAL;
	attempt = json_string_value(json_object_get(o, "attempt_id"));
	if (!attempt || !json_object_get(json_object_get(o, "body"), "root_hash") ||
	    str_fmt(&path, "%s/sealed/%s", state_dir, attempt) < 0 ||
	    json_object_set_new(o, "results", json_string(path)) < 0)
		return -ENOENT;
	*ret = js_text(o);
	*ret_n = *ret ? strlen(*ret) : 0;
	return *ret ? 0 : -ENOMEM;
}

static int event_name(const json_t *event, char **ret, struct err *e)
{
	const char *attempt = json_string_value(json_object_get(event, "attempt_id"));
	const json_t *seq = json_object_get(event, "seq");

	if (!attempt || !id_is_uuid(attempt) || !json_is_integer(seq))
		return err_input(e, "an event in the stash is not of this program");
	return str_fmt(ret, "%s.%013lld.json", attempt, (long long)json_integer_value(seq)) < 0
		       ? err_nomem(e)
		       : 0;
}

/* What follows an end that was not the last word. */
struct next {
	int dirfd; /* where what it replaces lies */
	char *file, *body;
	size_t n;
	int attempt;
	uint64_t delay_usec;
};

static void next_done(struct next *x)
{
	if (x->dirfd >= 0)
		close(x->dirfd);
	free(x->file);
	free(x->body);
}
DEFINE_AUTO_DONE(next);

static int encode_next(struct message *m, const json_t *event, const struct settings *s,
		       struct next *x, struct err *e)
{
	char id[UUID_LEN + 1];
	int r = dirretry_after(m, json_object_get(event, "body"), s, id, &x->delay_usec, e);

	if (r == 1) {
		x->attempt = m->request.attempt;
		r = message_encode(m, &x->body, &x->n, e);
		return r < 0 ? r : 1;
	}
	return r;
}

/* 1: another attempt follows. 0: none does, or others have begun it. */
static int find_next(const struct dirtree *t, const json_t *event, const struct settings *s,
		     struct next *x, struct err *e)
{
	const char *evaluation = json_string_value(json_object_get(event, "evaluation"));
	int attempt = (int)json_integer_value(json_object_get(event, "attempt"));
	auto_buf struct buf b = { 0 };
	auto_obj(message) m = NULL;
	int r;

	if (!evaluation || !str_eq(json_string_value(json_object_get(event, "kind")), "failed"))
		return 0;
	r = dirtree_find(t, evaluation, attempt, &x->dirfd, &x->file, e);
	if (r == 0)
		r = fd_read_file(x->dirfd, x->file, s->message_max, &b, e);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	/* It was one when it was taken: somebody has been at it since. */
	if (message_decode(b.data ? b.data : "", b.len, s->message_max, &m, e) != MESSAGE_GOOD ||
	    m->type != MESSAGE_REQUEST)
		return 0;
	return encode_next(m, event, s, x, e);
}

static int put_next(const struct dirtree *t, const char *evaluation, const struct next *x,
		    struct diragain *again, struct err *e)
{
	auto_free char *next = NULL, *over = NULL;
	int r = dirtree_replace(t, x->dirfd, x->file, evaluation, x->attempt, x->body, x->n, &next,
				&over, e);

	if (r == 0)
		r = diragain_add(again, over, DIRAGAIN_OVER_USEC, e);
	return r < 0 ? r : diragain_add(again, next, x->delay_usec, e);
}

int direvent_tell_end(const struct dirtree *t, const struct stash_record *rec,
		      const struct settings *s, struct diragain *again, struct err *e)
{
	auto_done(next) x = { .dirfd = -1 };
	json_auto_t *o = NULL;
	const char *evaluation;
	int attempt, r;

	if (!message_key_is_end(rec->key) ||
	    js_parse(rec->body, rec->n, MESSAGE_DEPTH, &o, NULL) < 0)
		return 0;
	evaluation = json_string_value(json_object_get(o, "evaluation"));
	attempt = (int)json_integer_value(json_object_get(o, "attempt"));
	if (!evaluation)
		return 0;
	dirlive_ended(t->live, evaluation, attempt);
	r = find_next(t, o, s, &x, e);
	if (r == 1)
		r = put_next(t, evaluation, &x, again, e);
	if (r == 0)
		dirtree_ended(t, evaluation, attempt);
	return r;
}

static int write_as(const struct dirtree *t, const char *name, json_t *event,
		    const struct stash_record *rec, const struct settings *s, struct err *e)
{
	const char *evaluation = json_string_value(json_object_get(event, "evaluation"));
	auto_done(next) x = { .dirfd = -1 };
	auto_free char *text = NULL;
	int r = find_next(t, event, s, &x, e);

	/* Told again, after a crash in which the next one had been made already. */
	if (r == 0 && message_key_is_end(rec->key) && evaluation) {
		x.attempt = (int)json_integer_value(json_object_get(event, "attempt")) + 1;
		r = dirtree_is_replaced(t, evaluation, x.attempt - 1);
	}
	if (r <= 0)
		return r < 0 ? r : dirfile_write(t->events, name, rec->body, rec->n, e);
	if (json_object_set_new(event, "again", json_integer(x.attempt)) < 0 ||
	    !(text = js_text(event)))
		return err_nomem(e);
	return dirfile_write(t->events, name, text, strlen(text), e);
}

int direvent_write(const struct dirtree *t, const struct stash_record *rec,
		   const struct settings *s, struct err *e)
{
	json_auto_t *event = NULL;
	auto_free char *name = NULL;
	int r = rec->key ? js_parse(rec->body, rec->n, MESSAGE_DEPTH, &event, e)
			 : err_input(e, "a record in the stash is not of this program");

	if (r == 0)
		r = event_name(event, &name, e);
	return r < 0 ? r : write_as(t, name, event, rec, s, e);
}

/* SPDX-License-Identifier: MIT */
#include "messaging/pikeside.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>

#include "base/fd.h"
#include "base/id.h"
#include "base/str.h"
#include "base/time.h"
#include "messaging/pikefile.h"
#include "messaging/piketask.h"

/* Read in one go: a second of work, when each is large. */
#define EXAMINE_MAX 1000

#define HANDSHAKE "{\"type\": \"handshake\"}"

printf_like(3, 4) static void report(const struct pikeside *s, int level, const char *fmt, ...)
{
	char text[640];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	s->ops->on_report(s->user, level, text);
}

int pikeside_new(const char *input, const char *output, const struct pikeside_ops *ops, void *user,
		 const struct pikelines *lines, struct pikeside **ret, struct err *e)
{
	struct pikeside *s = calloc(1, sizeof(*s));

	if (!s)
		return err_nomem(e);
	*s = (struct pikeside){ .in = -1, .out = -1, .ops = ops, .user = user, .lines = lines };
	pikepairs_init(&s->pairs);
	s->input = input ? strdup(input) : NULL;
	s->output = strdup(output);
	if (!s->output || (input && !s->input)) {
		pikeside_free(s);
		return err_nomem(e);
	}
	*ret = s;
	return 0;
}

void pikeside_free(struct pikeside *s)
{
	if (!s)
		return;
	pikepairs_done(&s->pairs);
	loop_src_free(s->drain);
	if (s->in >= 0)
		close(s->in);
	if (s->out >= 0)
		close(s->out);
	free(s->input);
	free(s->output);
	free(s);
}

/* --- folders ------------------------------------------------------------------------------- */

int pikeside_open(struct pikeside *s, struct dirwatch *watch, struct err *e)
{
	int r = s->input ? pikefile_open_dir(s->input, &s->in, e) : 0;

	if (r == 1 && watch && dirwatch_add(watch, s->in, e) < 0)
		report(s, LOG_WARNING, "%s: looking every channel_scan only", e->msg);
	if (r >= 0)
		r = pikefile_open_dir(s->output, &s->out, e);
	return r < 0 ? r : 0;
}

int pikeside_look(struct pikeside *s, struct dirwatch *watch, struct err *e)
{
	int r = pikeside_open(s, watch, e);

	return r == 0 && s->input ? pikepairs_list(&s->pairs, s->in, e) : r;
}

void pikeside_finish(struct pikeside *s, struct pair *a)
{
	struct err e = { 0 };

	if (pikefile_remove(s->in, a->stem, &e) == 0 ||
	    pikefile_reject(s->in, a->stem, NULL) == 0) {
		pikepairs_drop(&s->pairs, a);
		return;
	}
	report(s, LOG_WARNING, "%s: it stays, and is passed over", e.msg);
	pikepairs_spend(&s->pairs, a);
}

/* --- answers ------------------------------------------------------------------------------- */

int pikeside_answer(const struct pikeside *s, const void *data, size_t n, struct err *e)
{
	char out[UUID_LEN + 1];
	int r = pikefile_write(s->out, id_uuid7(out), data, n, e);

	return r < 0 ? r : pikefile_say(s->out, out, e);
}

void pikeside_refuse(struct pikeside *s, struct pair *a, struct pj id, const char *why)
{
	auto_buf struct buf b = { 0 };
	struct err e = { 0 };

	if (piketask_refusal(id, why, &b) < 0 || pikeside_answer(s, b.data, b.len, &e) < 0) {
		report(s, LOG_WARNING, "an answer waits: %s; trying again", e.msg);
		s->stalled = true;
		return;
	}
	report(s, LOG_NOTICE, "task %s is not begun: %s", STR_ESC(a->stem), why);
	pikeside_finish(s, a);
}

void pikeside_refuse_all(struct pikeside *s, const char *why)
{
	struct pair *a, *next;

	for (a = TAILQ_FIRST(&s->pairs.queue); a; a = next) {
		auto_buf struct buf b = { 0 };
		struct pj m = { 0 }, id = { 0 };

		next = TAILQ_NEXT(a, entry);
		if (pikefile_read(s->in, a->stem, &b, NULL) == 0 &&
		    pj_check(b.data ? b.data : "", b.len, &m, NULL) == 0 && pj_member(m, "id", &id))
			pikeside_refuse(s, a, id, why);
		else
			pikepairs_drop(&s->pairs, a);
	}
}

int pikeside_give_up(const struct pikeside *s, const struct piketask *t, const char *why,
		     struct err *e)
{
	auto_buf struct buf b = { 0 };
	int r = pikefile_read(s->out, t->out, &b, NULL);

	if (r < 0) {
		buf_done(&b);
		r = piketask_refusal((struct pj){ t->id, strlen(t->id) }, why, &b);
		if (r == 0)
			r = pikefile_write(s->out, t->out, b.data, b.len, e);
	}
	return r < 0 ? r : pikefile_say(s->out, t->out, e);
}

/* What cannot be an evaluation; with an answer if it says for whom. */
static void reject(struct pikeside *s, struct pair *a, const struct buf *b, const char *why)
{
	struct pj text = { b->data, b->len }, id = { 0 };
	auto_buf struct buf said = { 0 };
	struct err e = { 0 };

	/* Of a text that is not UTF-8 the id may be what is not, and would make the answer no JSON. */
	if (pj_member(text, "id", &id) && str_utf8_valid(id.p, id.n) &&
	    (piketask_refusal(id, why, &said) < 0 ||
	     pikeside_answer(s, said.data, said.len, &e) < 0)) {
		report(s, LOG_WARNING, "an answer waits: %s; trying again", e.msg);
		a->tried = true;
		return;
	}
	report(s, LOG_WARNING, "%s.json is rejected: %s", STR_ESC(a->stem), why);
	if (pikefile_reject(s->in, a->stem, &e) == 0) {
		pikepairs_drop(&s->pairs, a);
		return;
	}
	report(s, LOG_WARNING, "%s: it stays, and is passed over", e.msg);
	a->rejected = true;
	pikepairs_spend(&s->pairs, a);
}

/* --- understanding pairs ------------------------------------------------------------------- */

/* A driver that comes after one that has closed is a new one. */
static void greet(struct pikeside *s, struct pair *a)
{
	struct err e = { 0 };

	if (pikeside_answer(s, HANDSHAKE, strlen(HANDSHAKE), &e) < 0) {
		report(s, LOG_WARNING, "the handshake waits: %s", e.msg);
		return;
	}
	pikelines_handshake(s->lines);
	pikeside_finish(s, a);
	if (s->closed)
		s->closing = s->closed = false;
}

static void begin_closing(struct pikeside *s, struct pair *a)
{
	pikeside_finish(s, a);
	pikelines_close(s->lines);
	report(s, LOG_NOTICE, "told to close: %zu tasks wait, no others are taken",
	       s->pairs.n_queued);
	s->closing = true;
	s->ops->on_close(s->user, s);
}

static void sort_out(struct pikeside *s, struct pair *a, struct pj m, const struct buf *b)
{
	struct pj type = { 0 }, other = { 0 };
	bool typed = pj_member(m, "type", &type);

	if (pj_is(type, "handshake"))
		greet(s, a);
	else if (pj_is(type, "close"))
		begin_closing(s, a);
	else if (!typed && !pj_member(m, "code", &other))
		reject(s, a, b, "it has neither a type nor code");
	else if (!pj_member(m, "id", &other))
		reject(s, a, b, "it has no id, so that nobody can be answered");
	else if (!str_utf8_valid(a->stem, strlen(a->stem)))
		reject(s, a, b, "its name is not UTF-8");
	else if (!s->closing)
		pikepairs_enqueue(&s->pairs, a);
	else
		a->tried = true;
}

static bool is_final(int r)
{
	return r == -EILSEQ || r == -EBADMSG || r == -EFBIG;
}

/* Where a network file system shows the second file before all of the first, time will tell. */
static void examine(struct pikeside *s, struct pair *a, uint64_t grace_usec)
{
	auto_buf struct buf b = { 0 };
	struct err e = { 0 };
	struct timespec t;
	struct pj m = { 0 };
	int r = pikefile_read(s->in, a->stem, &b, &e);

	if (r == 0)
		r = pj_check(b.data ? b.data : "", b.len, &m, &e);
	if (r == 0 && pj_type(m) != PJ_OBJECT)
		r = err_set(&e, EBADMSG, ERR_INPUT, "it is not an object");
	if (r == 0)
		sort_out(s, a, m, &b);
	else if (is_final(r) || time_mono_usec() - a->seen_usec > grace_usec)
		reject(s, a, &b, e.msg);
	else if (pikefile_time(s->in, a->stem, &t, NULL) == -ENOENT)
		pikepairs_drop(&s->pairs, a);
	else
		a->tried = true;
}

/* Whatever kept them may have gone. */
static void remove_spent(struct pikeside *s)
{
	struct pair *a, *next;

	for (a = TAILQ_FIRST(&s->pairs.spent); a; a = next) {
		next = TAILQ_NEXT(a, entry);
		if ((!a->rejected && pikefile_remove(s->in, a->stem, NULL) == 0) ||
		    pikefile_reject(s->in, a->stem, NULL) == 0)
			pikepairs_drop(&s->pairs, a);
	}
}

bool pikeside_examine(struct pikeside *s, uint64_t grace_usec, bool scan)
{
	struct pair *a, *next;
	unsigned n = 0;

	if (scan)
		remove_spent(s);
	for (a = TAILQ_FIRST(&s->pairs.unread); a && n < EXAMINE_MAX; a = next) {
		next = TAILQ_NEXT(a, entry);
		if (a->tried && !scan)
			continue;
		examine(s, a, grace_usec);
		n++;
	}
	return a != NULL;
}

/* SPDX-License-Identifier: MIT */
#include "line.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/json.h"
#include "base/time.h"

/* A progress line that is not on a terminal comes at these steps. */
#define LINE_FRACTION 0.1
#define LINE_USEC     (10 * USEC_PER_SEC)
#define BAR_COLUMNS   24

static const char *text_of(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

double line_fraction(const json_t *evaluation)
{
	const json_t *p = json_object_get(evaluation, "progress");
	const json_t *fraction = json_object_get(p, "fraction");
	double done = json_number_value(json_object_get(p, "done"));
	double total = json_number_value(json_object_get(p, "total"));
	double f = -1;

	if (json_is_number(fraction))
		f = json_number_value(fraction);
	else if (total > 0)
		f = done / total;
	return f > 1 ? 1 : f;
}

int line_progress(const json_t *evaluation, struct buf *b)
{
	const json_t *p = json_object_get(evaluation, "progress");
	const json_t *done = json_object_get(p, "done"), *total = json_object_get(p, "total");
	double f = line_fraction(evaluation);

	if (json_is_integer(done) && json_is_integer(total))
		return buf_fmt(b, "%lld of %lld", (long long)json_integer_value(done),
			       (long long)json_integer_value(total));
	if (json_is_integer(done))
		return buf_fmt(b, "%lld", (long long)json_integer_value(done));
	if (f >= 0)
		return buf_fmt(b, "%.0f %%", f * 100);
	return buf_str(b, "-");
}

static int add_bar(struct buf *b, double fraction, int width)
{
	int full = (int)(fraction * width + 0.5), r = buf_str(b, " [");

	for (int i = 0; i < width && r == 0; i++)
		r = buf_str(b, i < full ? "#" : ".");
	return r == 0 ? buf_str(b, "]") : r;
}

/* How an ended one ended. */
static int add_outcome(const json_t *v, struct buf *b)
{
	const char *reason = text_of(v, "reason"), *detail = text_of(v, "detail");
	int r = 0;

	if (reason && !str_eq(reason, "ok") && !str_eq(reason, text_of(v, "status")))
		r = buf_fmt(b, " (%s)", STR_ESC(reason));
	return r == 0 && detail ? buf_fmt(b, ": %s", STR_ESC(detail)) : r;
}

/* A bar leaves no room for the place. */
static int add_work(const json_t *v, int width, struct buf *b)
{
	const json_t *p = json_object_get(v, "progress");
	const char *text = text_of(p, "text"), *phase = text_of(p, "phase");
	const char *where = text_of(v, "worker");
	double f = line_fraction(v);
	int r = 0;

	if (!width && where)
		r = buf_fmt(b, " on %s", STR_ESC(where));
	if (r == 0 && !width && phase)
		r = buf_fmt(b, ", %s", STR_ESC(phase));
	if (r == 0 && width && f >= 0)
		r = add_bar(b, f, width);
	if (r == 0 && json_is_object(p))
		r = buf_str(b, width ? " " : ": ");
	if (r == 0 && json_is_object(p))
		r = line_progress(v, b);
	return r == 0 && text && *text ? buf_fmt(b, ", %s", STR_ESC(text)) : r;
}

int line_text(const json_t *evaluation, int width, struct buf *b)
{
	const char *status = text_of(evaluation, "status");
	int r = buf_str(b, STR_ESC(status));

	if (r < 0)
		return r;
	return str_eq(status, "running") ? add_work(evaluation, width, b)
					 : add_outcome(evaluation, b);
}

void line_shown_done(struct line_shown *s)
{
	json_decref(s->head);
	s->head = NULL;
}

bool line_is_worth(struct line_shown *s, const json_t *evaluation)
{
	json_t *head = json_pack("[O?, O?, O?]", json_object_get(evaluation, "status"),
				 json_object_get(evaluation, "worker"),
				 json_object_get(evaluation, "attempt"));
	double f = line_fraction(evaluation);
	uint64_t now = time_mono_usec();
	const char *status = json_string_value(json_object_get(evaluation, "status"));
	bool running = status && strcmp(status, "running") == 0;
	bool worth = !json_equal(head, s->head) || f - s->fraction >= LINE_FRACTION ||
		     (running && now - s->at >= LINE_USEC);

	line_shown_done(s);
	s->head = head;
	if (worth) {
		s->fraction = f;
		s->at = now;
	}
	return worth;
}

int line_columns(int fd)
{
	struct winsize w = { 0 };

	return ioctl(fd, TIOCGWINSZ, &w) == 0 && w.ws_col > 0 ? w.ws_col : 80;
}

void line_cut(struct buf *b, int columns)
{
	for (size_t i = 0; i < b->len; i++) {
		/* Continuation bytes of UTF-8 take no room. */
		if (((unsigned char)b->data[i] & 0xc0) == 0x80)
			continue;
		if (columns-- > 0)
			continue;
		b->data[i] = '\0';
		b->len = i;
	}
}

/* --- the line on stderr ------------------------------------------------------------------------- */

void line_hide(struct line *l)
{
	if (l->drawn)
		fputs("\r\033[K", stderr);
	l->drawn = false;
}

void line_done(struct line *l)
{
	if (l->drawn)
		fputc('\n', stderr);
	buf_done(&l->text);
	line_shown_done(&l->shown);
}

static void draw(struct line *l, const char *title, const char *text)
{
	auto_buf struct buf b = { 0 };

	if (buf_fmt(&b, "%s: %s", title, text) < 0)
		return;
	line_cut(&b, line_columns(STDERR_FILENO) - 1);
	fprintf(stderr, "\r\033[K%s", b.data);
	l->drawn = true;
}

void line_show(struct line *l, const char *title, const json_t *evaluation)
{
	bool tty = isatty(STDERR_FILENO) == 1;
	auto_buf struct buf b = { 0 };

	if (line_text(evaluation, tty ? BAR_COLUMNS : 0, &b) < 0)
		return;
	if (l->text.data && str_eq(b.data, l->text.data) && (l->drawn || !tty))
		return;
	if (tty)
		draw(l, title, b.data);
	else if (line_is_worth(&l->shown, evaluation))
		fprintf(stderr, "%s: %s\n", title, b.data);
	buf_done(&l->text);
	l->text = b;
	b = (struct buf){ 0 };
}

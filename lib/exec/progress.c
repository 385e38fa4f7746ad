/* SPDX-License-Identifier: MIT */
#include "exec/progress.h"

#include <ctype.h>
#include <math.h>
#include <regex.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"

#define UNKNOWN (-1.0)
/* Beyond this a double no longer counts by ones. */
#define COUNT_MAX 9007199254740992.0

static void init(struct progress *p)
{
	*p = (struct progress){ .fraction = UNKNOWN, .done = UNKNOWN, .total = UNKNOWN };
}

static json_t *known(double v)
{
	return v < 0                            ? json_null()
	       : v == floor(v) && v < COUNT_MAX ? json_integer((json_int_t)v)
						: json_real(v);
}

json_t *progress_json(const struct progress *p)
{
	return json_pack("{s:o, s:o, s:o, s:o}", "fraction",
			 p->fraction < 0 ? json_null() : json_real(p->fraction), "done",
			 known(p->done), "total", known(p->total), "text",
			 js_from_bytes(p->text, strlen(p->text)));
}

/* Control characters become blanks; a text is cut between characters. */
static void set_text(struct progress *p, const char *s)
{
	size_t n = strlen(s);

	if (n > PROGRESS_TEXT_MAX)
		for (n = PROGRESS_TEXT_MAX; n && ((unsigned char)s[n] & 0xc0) == 0x80;)
			n--;
	for (size_t i = 0; i < n; i++)
		p->text[i] = (unsigned char)s[i] < 0x20 || s[i] == 0x7f ? ' ' : s[i];
	p->text[n] = '\0';
}

/* A number of something, or the fraction; 0 absent, 1 present, -EINVAL out of range. */
static int count(const json_t *o, const char *key, double max, double *ret)
{
	double v;
	int r = js_opt_num(o, key, &v, NULL);

	if (r <= 0)
		return r;
	if (v < 0 || v > max)
		return -EINVAL;
	*ret = v;
	return 1;
}

static void derive_fraction(struct progress *p)
{
	if (p->fraction < 0 && p->done >= 0 && p->total > 0)
		p->fraction = p->done < p->total ? p->done / p->total : 1;
}

int progress_from_json(const json_t *o, struct progress *ret, struct err *e)
{
	struct progress p;
	const char *text = NULL;

	init(&p);
	if (!json_is_object(o) || count(o, "fraction", 1, &p.fraction) < 0 ||
	    count(o, "done", COUNT_MAX, &p.done) < 0 ||
	    count(o, "total", COUNT_MAX, &p.total) < 0 ||
	    js_opt_str(o, "text", PROGRESS_LINE_MAX, &text, NULL) < 0)
		return err_input(e, "not a progress object");
	if (p.fraction < 0 && p.done < 0 && !text)
		return err_input(e, "a progress object without 'fraction', 'done' or 'text'");
	if (text)
		set_text(&p, text);
	derive_fraction(&p);
	*ret = p;
	return 0;
}

bool progress_parse_line(const char *line, size_t n, struct progress *ret)
{
	json_t *o = NULL;
	bool ok;

	if (n > PROGRESS_LINE_MAX || js_parse(line, n, 4, &o, NULL) < 0)
		return false;
	ok = progress_from_json(o, ret, NULL) == 0;
	json_decref(o);
	return ok;
}

/* --- lines of the log ------------------------------------------------------------------------- */

struct progress_pattern {
	regex_t re;
};

int progress_pattern_new(const char *regex, struct progress_pattern **ret, struct err *e)
{
	struct progress_pattern *p = calloc(1, sizeof(*p));
	char why[128];
	int r;

	if (!p)
		return err_nomem(e);
	r = regcomp(&p->re, regex, REG_EXTENDED);
	if (r) {
		regerror(r, &p->re, why, sizeof(why));
		free(p);
		return err_input(e, "bad pattern '%s': %s", STR_ESC(regex), why);
	}
	*ret = p;
	return 0;
}

void progress_pattern_free(struct progress_pattern *p)
{
	if (!p)
		return;
	regfree(&p->re);
	free(p);
}

static bool digits(const char **s, const char *end, double *ret)
{
	const char *p = *s;
	double v = 0;

	for (; p < end && isdigit((unsigned char)*p) && p - *s < 16; p++)
		v = v * 10 + (*p - '0');
	if (p == *s || (p < end && isdigit((unsigned char)*p)))
		return false;
	*s = p;
	*ret = v;
	return true;
}

static bool blanks(const char **s, const char *end, bool required)
{
	const char *p = *s;

	while (p < end && (*p == ' ' || *p == '\t'))
		p++;
	if (required && p == *s)
		return false;
	*s = p;
	return true;
}

/* "Test 15 of 200 …": without regular expressions, because nearly every job has this one. */
static bool built_in(const char *s, const char *end, struct progress *p)
{
	(void)blanks(&s, end, false);
	if (s == end || !isalpha((unsigned char)*s))
		return false;
	while (s < end && isalpha((unsigned char)*s))
		s++;
	return blanks(&s, end, true) && digits(&s, end, &p->done) && blanks(&s, end, true) &&
	       end - s > 2 && memcmp(s, "of", 2) == 0 && (s += 2, blanks(&s, end, true)) &&
	       digits(&s, end, &p->total) &&
	       (s == end || (!isalnum((unsigned char)*s) && *s != '.'));
}

static bool group(const char *line, const regmatch_t *m, double *ret)
{
	char text[32] = "";
	size_t n = (size_t)(m->rm_eo - m->rm_so);

	if (m->rm_so < 0 || n == 0 || n >= sizeof(text))
		return false;
	memcpy(text, line + m->rm_so, n);
	return str_double(text, ret) == 0 && *ret >= 0 && *ret <= COUNT_MAX;
}

/* Two groups: done and total. One: a percentage. */
static bool by_regex(const struct progress_pattern *pat, const char *line, size_t n,
		     struct progress *p)
{
	regmatch_t m[3] = { { .rm_so = 0, .rm_eo = (regoff_t)n } };
	double v;

	if (regexec(&pat->re, line, ARRAY_LEN(m), m, REG_STARTEND))
		return false;
	if (pat->re.re_nsub >= 2)
		return group(line, &m[1], &p->done) && group(line, &m[2], &p->total);
	if (pat->re.re_nsub < 1 || !group(line, &m[1], &v) || v > 100)
		return false;
	p->fraction = v / 100;
	return true;
}

bool progress_match(const struct progress_pattern *pat, const char *line, size_t n,
		    struct progress *ret)
{
	char text[PROGRESS_TEXT_MAX + 1];
	struct progress p;

	init(&p);
	if (pat ? !by_regex(pat, line, n, &p) : !built_in(line, line + n, &p))
		return false;
	if (p.total >= 0 && (p.total <= 0 || p.done > p.total))
		return false;
	set_text(&p, str_escape(text, sizeof(text), line, n));
	derive_fraction(&p);
	*ret = p;
	return true;
}

/* --- streams ---------------------------------------------------------------------------------- */

#define LOG_LINE_MAX 512
#define WINDOW_USEC  100000
#define WINDOW_LINES 500
#define FLOOD_TAIL   1024

void progress_feed_init(struct progress_feed *f, enum progress_source source,
			const struct progress_pattern *pattern)
{
	f->source = source;
	f->pattern = pattern;
	f->len = 0;
	f->skipping = f->fresh = false;
	f->refused = f->window = 0;
	f->looked = 0;
}

static size_t line_max(const struct progress_feed *f)
{
	return f->source == PROGRESS_LOG ? LOG_LINE_MAX : sizeof(f->line);
}

static void end_line(struct progress_feed *f)
{
	bool skipped = f->skipping, found = false;
	struct progress p;

	if (!skipped && f->len) {
		f->looked++;
		found = f->source == PROGRESS_LOG ? progress_match(f->pattern, f->line, f->len, &p)
						  : progress_parse_line(f->line, f->len, &p);
	}
	if (found) {
		f->last = p;
		f->fresh = true;
	} else if (f->source == PROGRESS_DESCRIPTOR && (skipped || f->len)) {
		f->refused++;
	}
	f->len = 0;
	f->skipping = false;
}

static void add_piece(struct progress_feed *f, const char *data, size_t n)
{
	if (f->skipping || !n)
		return;
	if (f->len + n > line_max(f)) {
		f->skipping = true;
		return;
	}
	memcpy(f->line + f->len, data, n);
	f->len += n;
}

static const char *line_end(const struct progress_feed *f, const char *p, const char *end)
{
	const char *nl = memchr(p, '\n', (size_t)(end - p));
	const char *cr;

	if (f->source != PROGRESS_LOG)
		return nl;
	cr = memchr(p, '\r', (size_t)((nl ? nl : end) - p));
	return cr ? cr : nl;
}

/* Over its budget, a chunk is only looked at near its end, from a line's start on. */
static const char *skip_flood(struct progress_feed *f, const char *p, const char *end)
{
	const char *near = end - p > FLOOD_TAIL ? end - FLOOD_TAIL : p;
	const char *nl;

	if (near == p)
		return p;
	nl = line_end(f, near, end);
	f->len = 0;
	f->skipping = !nl;
	return nl ? nl + 1 : end;
}

void progress_feed_add(struct progress_feed *f, const char *data, size_t n, uint64_t now_usec)
{
	const char *p = data, *end = data + n, *nl;
	bool skipped = false;

	if (f->window != now_usec / WINDOW_USEC) {
		f->window = now_usec / WINDOW_USEC;
		f->looked = 0;
	}
	while (p < end && (nl = line_end(f, p, end))) {
		if (f->looked >= WINDOW_LINES && !skipped) {
			skipped = true;
			p = skip_flood(f, p, end);
			continue;
		}
		add_piece(f, p, (size_t)(nl - p));
		end_line(f);
		p = nl + 1;
	}
	if (p < end)
		add_piece(f, p, (size_t)(end - p));
}

void progress_feed_end(struct progress_feed *f)
{
	end_line(f);
}

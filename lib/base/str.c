/* SPDX-License-Identifier: MIT */
#include "base/str.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

bool str_starts(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool str_ends(const char *s, const char *suffix)
{
	size_t n = strlen(s), m = strlen(suffix);

	return n >= m && memcmp(s + n - m, suffix, m) == 0;
}

int str_fmt(char **ret, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(ret, fmt, ap);
	va_end(ap);
	if (n < 0)
		*ret = NULL;
	return n < 0 ? -ENOMEM : n;
}

int buf_reserve(struct buf *b, size_t more)
{
	size_t need, cap = b->cap ? b->cap : 128;
	char *p;

	if (__builtin_add_overflow(b->len, more, &need) || need > SIZE_MAX / 2 - 1)
		return -ENOMEM;
	need++;
	if (need <= b->cap)
		return 0;
	while (cap < need)
		cap *= 2;
	p = realloc(b->data, cap);
	if (!p)
		return -ENOMEM;
	b->data = p;
	b->cap = cap;
	b->data[b->len] = '\0';
	return 0;
}

int buf_add(struct buf *b, const void *data, size_t n)
{
	if (buf_reserve(b, n) < 0)
		return -ENOMEM;
	if (n)
		memcpy(b->data + b->len, data, n);
	b->len += n;
	b->data[b->len] = '\0';
	return 0;
}

int buf_str(struct buf *b, const char *s)
{
	return buf_add(b, s, strlen(s));
}

int buf_fmt(struct buf *b, const char *fmt, ...)
{
	auto_free char *s = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	if (n < 0) {
		s = NULL;
		return -ENOMEM;
	}
	return buf_add(b, s, (size_t)n);
}

int buf_quoted(struct buf *b, const char *text)
{
	int r = buf_str(b, "'");

	for (const char *p = text; *p && r == 0; p++)
		r = *p == '\'' ? buf_str(b, "'\\''") : buf_add(b, p, 1);
	return r < 0 ? r : buf_str(b, "'");
}

void buf_drop_front(struct buf *b, size_t n)
{
	if (n > b->len)
		n = b->len;
	if (!n)
		return;
	memmove(b->data, b->data + n, b->len - n + 1);
	b->len -= n;
}

void buf_done(struct buf *b)
{
	free(b->data);
	*b = (struct buf){ 0 };
}

/* Length of the valid UTF-8 sequence at p (RFC 3629: no overlong forms, no surrogates), or 0. */
static size_t utf8_len(const unsigned char *p, size_t n)
{
	static const struct {
		unsigned char lo, hi, second_lo, second_hi;
		size_t len;
	} forms[] = {
		{ 0x00, 0x7f, 0, 0, 1 },       { 0xc2, 0xdf, 0x80, 0xbf, 2 },
		{ 0xe0, 0xe0, 0xa0, 0xbf, 3 }, { 0xe1, 0xec, 0x80, 0xbf, 3 },
		{ 0xed, 0xed, 0x80, 0x9f, 3 }, { 0xee, 0xef, 0x80, 0xbf, 3 },
		{ 0xf0, 0xf0, 0x90, 0xbf, 4 }, { 0xf1, 0xf3, 0x80, 0xbf, 4 },
		{ 0xf4, 0xf4, 0x80, 0x8f, 4 },
	};

	for (size_t i = 0; n && i < ARRAY_LEN(forms); i++) {
		if (*p < forms[i].lo || *p > forms[i].hi)
			continue;
		if (forms[i].len > n)
			return 0;
		if (forms[i].len > 1 && (p[1] < forms[i].second_lo || p[1] > forms[i].second_hi))
			return 0;
		for (size_t k = 2; k < forms[i].len; k++)
			if ((p[k] & 0xc0) != 0x80)
				return 0;
		return forms[i].len;
	}
	return 0;
}

bool str_utf8_valid(const void *data, size_t n)
{
	const unsigned char *p = data;

	while (n) {
		size_t k = utf8_len(p, n);

		if (!k)
			return false;
		p += k;
		n -= k;
	}
	return true;
}

char *str_escape(char *out, size_t size, const void *data, size_t n)
{
	const unsigned char *p = data;
	size_t w = 0;

	while (n) {
		size_t k = utf8_len(p, n);
		bool plain = k > 1 ? !(k == 2 && p[0] == 0xc2 && p[1] < 0xa0)
				   : k && *p >= 0x20 && *p != 0x7f;
		size_t need = plain ? k : 4;

		if (w + need + 4 > size) {
			if (size >= 4)
				w += (size_t)snprintf(out + w, size - w, "...");
			break;
		}
		if (plain)
			memcpy(out + w, p, k);
		else
			snprintf(out + w, size - w, "\\x%02x", *p);
		w += need;
		p += plain ? k : 1;
		n -= plain ? k : 1;
	}
	if (size)
		out[w < size ? w : size - 1] = '\0';
	return out;
}

int str_u64(const char *s, uint64_t *ret)
{
	uint64_t v = 0;

	if (!*s)
		return -EINVAL;
	for (; *s; s++) {
		if (!isdigit((unsigned char)*s))
			return -EINVAL;
		if (__builtin_mul_overflow(v, 10u, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*s - '0'), &v))
			return -ERANGE;
	}
	*ret = v;
	return 0;
}

int str_i64(const char *s, int64_t *ret)
{
	bool neg = *s == '-';
	uint64_t v;
	int r = str_u64(s + neg, &v);

	if (r < 0)
		return r;
	if (v > (uint64_t)INT64_MAX + (neg ? 1 : 0))
		return -ERANGE;
	*ret = neg ? (int64_t)(0 - v) : (int64_t)v;
	return 0;
}

int str_double(const char *s, double *ret)
{
	char *end;
	double v;

	/* strtod() would also take blanks, hexadecimal digits, "inf" and "nan". */
	if (!*s || s[strspn(s, "+-.0123456789eE")])
		return -EINVAL;
	v = strtod(s, &end);
	if (*end || end == s)
		return -EINVAL;
	if (!isfinite(v))
		return -ERANGE;
	*ret = v;
	return 0;
}

static int scale(uint64_t v, uint64_t unit, uint64_t *ret)
{
	return __builtin_mul_overflow(v, unit, ret) ? -ERANGE : 0;
}

/* Splits "12abc" into the number and the rest. */
static int number_prefix(const char **s, uint64_t *ret)
{
	char digits[24];
	size_t n = strspn(*s, "0123456789");

	if (!n)
		return -EINVAL;
	if (n >= sizeof(digits))
		return -ERANGE;
	memcpy(digits, *s, n);
	digits[n] = '\0';
	*s += n;
	return str_u64(digits, ret);
}

int str_size(const char *s, uint64_t *ret_bytes)
{
	static const char units[] = "KMGT";
	uint64_t v, unit = 1;
	const char *u;
	int r = number_prefix(&s, &v);

	if (r < 0)
		return r;
	if (*s && (u = strchr(units, toupper((unsigned char)*s)))) {
		unit = (uint64_t)1 << (10 * (u - units + 1));
		s++;
		if (*s == 'i')
			s++;
	}
	if (*s == 'B')
		s++;
	return *s ? -EINVAL : scale(v, unit, ret_bytes);
}

static const struct {
	const char *name;
	uint64_t usec;
} span_units[] = {
	{ "us", 1 },         { "ms", 1000 },      { "s", 1000000 },     { "m", 60000000 },
	{ "min", 60000000 }, { "h", 3600000000 }, { "d", 86400000000 },
};

static int span_unit(const char **s, uint64_t *ret)
{
	size_t n = strspn(*s, "abcdefghijklmnopqrstuvwxyz");

	for (size_t i = 0; i < ARRAY_LEN(span_units); i++) {
		if (strlen(span_units[i].name) != n || memcmp(*s, span_units[i].name, n) != 0)
			continue;
		*s += n;
		*ret = span_units[i].usec;
		return 0;
	}
	return -EINVAL;
}

int str_span(const char *s, uint64_t *ret_usec)
{
	uint64_t sum = 0, v, unit;
	bool first = true;

	if (!*s)
		return -EINVAL;
	for (; *s; first = false) {
		int r = number_prefix(&s, &v);

		if (r < 0)
			return r;
		if (!*s && first)
			unit = 1000000;
		else if (span_unit(&s, &unit) < 0)
			return -EINVAL;
		if (scale(v, unit, &v) < 0 || __builtin_add_overflow(sum, v, &sum))
			return -ERANGE;
	}
	*ret_usec = sum;
	return 0;
}

char *str_span_text(char *out, size_t size, uint64_t usec)
{
	static const struct {
		uint64_t usec;
		const char *name;
	} units[] = { { 86400000000, "d" }, { 3600000000, "h" }, { 60000000, "m" },
		      { 1000000, "s" },     { 1000, "ms" },      { 1, "us" } };

	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		if (usec % units[i].usec)
			continue;
		snprintf(out, size, "%llu%s", (unsigned long long)(usec / units[i].usec),
			 usec ? units[i].name : "s");
		return out;
	}
	return out;
}

char *str_size_text(char *out, size_t size, uint64_t bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	double v = (double)bytes;
	size_t i = 0;

	while (v >= 1024 && i + 1 < ARRAY_LEN(units)) {
		v /= 1024;
		i++;
	}
	snprintf(out, size, i ? "%.1f %s" : "%.0f %s", v, units[i]);
	return out;
}

void strv_free(char **v)
{
	for (char **p = v; p && *p; p++)
		free(*p);
	free(v);
}

size_t strv_len(char *const *v)
{
	size_t n = 0;

	while (v && v[n])
		n++;
	return n;
}

static int strv_take(char ***v, char *s)
{
	size_t n = strv_len(*v);
	char **p = s ? realloc(*v, (n + 2) * sizeof(*p)) : NULL;

	if (!p) {
		free(s);
		return -ENOMEM;
	}
	p[n] = s;
	p[n + 1] = NULL;
	*v = p;
	return 0;
}

int strv_add(char ***v, const char *s)
{
	return strv_take(v, strdup(s));
}

int strv_addf(char ***v, const char *fmt, ...)
{
	char *s = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	return n < 0 ? -ENOMEM : strv_take(v, s);
}

/* One word at *s, quotes resolved, into `word`. -EINVAL: a quote or escape is not closed. */
static int next_word(const char **s, struct buf *word)
{
	char quote = 0;

	for (; **s && (quote || !isspace((unsigned char)**s)); (*s)++) {
		char c = **s;

		if (quote && c == quote) {
			quote = 0;
			continue;
		}
		if (!quote && (c == '\'' || c == '"')) {
			quote = c;
			continue;
		}
		if (c == '\\' && quote != '\'') {
			if (!*++*s)
				return -EINVAL;
			c = **s;
		}
		if (buf_add(word, &c, 1) < 0)
			return -ENOMEM;
	}
	return quote ? -EINVAL : 0;
}

int strv_words(const char *line, char ***ret, struct err *e)
{
	auto_strv char **v = calloc(1, sizeof(char *));

	if (!v)
		return err_nomem(e);
	for (const char *s = line;;) {
		auto_buf struct buf word = { 0 };
		int r;

		while (isspace((unsigned char)*s))
			s++;
		if (!*s)
			break;
		r = next_word(&s, &word);
		if (r == -EINVAL)
			return err_input(e, "a quote is not closed in '%s'", STR_ESC(line));
		if (r < 0 || strv_add(&v, word.data ? word.data : "") < 0)
			return err_nomem(e);
	}
	*ret = take_ptr(v);
	return 0;
}

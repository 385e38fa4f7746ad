/* SPDX-License-Identifier: MIT */
#include "base/pyjson.h"

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define REPLACEMENT 0xfffd

/* --- the grammar: each returns what is behind it, NULL if it is not there --------------------- */

static const char *skip_blanks(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r'))
		p++;
	return p;
}

static const char *skip_word(const char *p, const char *end, const char *word)
{
	size_t n = strlen(word);

	return (size_t)(end - p) >= n && memcmp(p, word, n) == 0 ? p + n : NULL;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_hex(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static const char *skip_digits(const char *p, const char *end)
{
	const char *from = p;

	while (p < end && is_digit(*p))
		p++;
	return p > from ? p : NULL;
}

static const char *skip_exponent(const char *p, const char *end)
{
	if (p == end || (*p != 'e' && *p != 'E'))
		return p;
	p++;
	if (p < end && (*p == '+' || *p == '-'))
		p++;
	return skip_digits(p, end);
}

static const char *skip_number(const char *p, const char *end)
{
	if (*p == '-' && ++p < end && *p == 'I')
		return skip_word(p, end, "Infinity");
	if (p < end && *p == '0')
		p++;
	else
		p = skip_digits(p, end);
	if (p && p < end && *p == '.')
		p = skip_digits(p + 1, end);
	return p ? skip_exponent(p, end) : NULL;
}

static const char *skip_escape(const char *p, const char *end)
{
	if (p == end)
		return NULL;
	if (*p != 'u')
		return strchr("\"\\/bfnrt", *p) && *p ? p + 1 : NULL;
	for (int i = 1; i <= 4; i++)
		if (p + i >= end || !is_hex(p[i]))
			return NULL;
	return p + 5;
}

static const char *skip_string(const char *p, const char *end)
{
	for (p++; p && p < end && *p != '"';) {
		if ((unsigned char)*p < 0x20)
			return NULL;
		p = *p == '\\' ? skip_escape(p + 1, end) : p + 1;
	}
	return p && p < end ? p + 1 : NULL;
}

static const char *skip_value(const char *p, const char *end, unsigned depth);

/* A key and its colon, up to the value. */
static const char *skip_key(const char *p, const char *end)
{
	p = p < end && *p == '"' ? skip_string(p, end) : NULL;
	p = p ? skip_blanks(p, end) : NULL;
	return p && p < end && *p == ':' ? skip_blanks(p + 1, end) : NULL;
}

static const char *skip_container(const char *p, const char *end, char close, unsigned depth)
{
	p = skip_blanks(p + 1, end);
	if (p < end && *p == close)
		return p + 1;
	while (p && p < end) {
		p = close == '}' ? skip_key(p, end) : p;
		p = p ? skip_value(p, end, depth + 1) : NULL;
		p = p ? skip_blanks(p, end) : NULL;
		if (!p || p == end)
			return NULL;
		if (*p == close)
			return p + 1;
		p = *p == ',' ? skip_blanks(p + 1, end) : NULL;
	}
	return NULL;
}

static const char *skip_value(const char *p, const char *end, unsigned depth)
{
	if (p == end || depth > PJ_DEPTH_MAX)
		return NULL;
	switch (*p) {
	case '{':
		return skip_container(p, end, '}', depth);
	case '[':
		return skip_container(p, end, ']', depth);
	case '"':
		return skip_string(p, end);
	case 't':
		return skip_word(p, end, "true");
	case 'f':
		return skip_word(p, end, "false");
	case 'n':
		return skip_word(p, end, "null");
	case 'N':
		return skip_word(p, end, "NaN");
	case 'I':
		return skip_word(p, end, "Infinity");
	default:
		return skip_number(p, end);
	}
}

int pj_check(const void *data, size_t n, struct pj *ret, struct err *e)
{
	const char *from = data, *end, *p, *after;

	if (!str_utf8_valid(data, n))
		return err_set(e, EILSEQ, ERR_INPUT, "it is not UTF-8");
	end = from + n;
	p = skip_blanks(from, end);
	after = skip_value(p, end, 0);
	if (!after || skip_blanks(after, end) != end)
		return err_input(e, "it is not one JSON value");
	*ret = (struct pj){ p, (size_t)(after - p) };
	return 0;
}

/* --- looking -------------------------------------------------------------------------------- */

enum pj_type pj_type(struct pj v)
{
	if (!v.n)
		return PJ_NONE;
	switch (*v.p) {
	case '{':
		return PJ_OBJECT;
	case '[':
		return PJ_ARRAY;
	case '"':
		return PJ_STRING;
	case 't':
		return PJ_TRUE;
	case 'f':
		return PJ_FALSE;
	case 'n':
		return PJ_NULL;
	default:
		return PJ_NUMBER;
	}
}

static bool is_key(const char *p, const char *key)
{
	auto_buf struct buf b = { 0 };
	const char *end = skip_string(p, p + strlen(key) * 6 + 2);

	return end && pj_text((struct pj){ p, (size_t)(end - p) }, &b) == 0 &&
	       b.len == strlen(key) && memcmp(b.data ? b.data : "", key, b.len) == 0;
}

bool pj_member(struct pj object, const char *key, struct pj *ret)
{
	const char *end, *p;
	bool found = false;

	if (pj_type(object) != PJ_OBJECT)
		return false;
	end = object.p + object.n;
	for (p = skip_blanks(object.p + 1, end); p && p < end;) {
		const char *name = p, *value = skip_key(p, end);

		p = value ? skip_value(value, end, 1) : NULL;
		if (!p)
			break;
		if (is_key(name, key)) {
			*ret = (struct pj){ value, (size_t)(p - value) };
			found = true;
		}
		p = skip_blanks(p, end);
		p = p < end && *p == ',' ? skip_blanks(p + 1, end) : NULL;
	}
	return found;
}

bool pj_item(struct pj array, size_t *at, struct pj *ret)
{
	const char *end, *p, *after;

	if (pj_type(array) != PJ_ARRAY)
		return false;
	end = array.p + array.n;
	p = skip_blanks(array.p + (*at ? *at : 1), end);
	if (*at && p < end && *p == ',')
		p = skip_blanks(p + 1, end);
	after = p < end && *p != ']' ? skip_value(p, end, 1) : NULL;
	if (!after)
		return false;
	*ret = (struct pj){ p, (size_t)(after - p) };
	*at = (size_t)(after - array.p);
	return true;
}

/* --- values --------------------------------------------------------------------------------- */

static int add_code_point(struct buf *b, uint32_t c)
{
	char out[4];
	size_t n = 0;

	if (c < 0x80) {
		out[n++] = (char)c;
	} else if (c < 0x800) {
		out[n++] = (char)(0xc0 | c >> 6);
		out[n++] = (char)(0x80 | (c & 0x3f));
	} else if (c < 0x10000) {
		out[n++] = (char)(0xe0 | c >> 12);
		out[n++] = (char)(0x80 | (c >> 6 & 0x3f));
		out[n++] = (char)(0x80 | (c & 0x3f));
	} else {
		out[n++] = (char)(0xf0 | c >> 18);
		out[n++] = (char)(0x80 | (c >> 12 & 0x3f));
		out[n++] = (char)(0x80 | (c >> 6 & 0x3f));
		out[n++] = (char)(0x80 | (c & 0x3f));
	}
	return buf_add(b, out, n);
}

/* The four digits behind \u. */
static uint32_t hex4(const char *p)
{
	uint32_t v = 0;

	for (int i = 0; i < 4; i++)
		v = v << 4 | (uint32_t)(is_digit(p[i]) ? p[i] - '0' : (p[i] | 0x20) - 'a' + 10);
	return v;
}

/* At the letter behind a backslash; moves behind the whole of it. */
static uint32_t unescape(const char **at, const char *end)
{
	static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
	const char *p = *at, *letter = strchr(from, *p);
	uint32_t c, low;

	*at = p + 1;
	if (*p != 'u')
		return letter && *p ? (uint32_t)to[letter - from] : (uint32_t)*p;
	*at = p + 5;
	c = hex4(p + 1);
	if (c < 0xd800 || c > 0xdfff)
		return c;
	if (c > 0xdbff || end - *at < 6 || (*at)[0] != '\\' || (*at)[1] != 'u')
		return REPLACEMENT;
	low = hex4(*at + 2);
	if (low < 0xdc00 || low > 0xdfff)
		return REPLACEMENT;
	*at += 6;
	return 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
}

int pj_text(struct pj string, struct buf *b)
{
	const char *p = string.p + 1, *end = string.p + string.n - 1;

	if (pj_type(string) != PJ_STRING || skip_string(string.p, end + 1) != end + 1)
		return -EINVAL;
	while (p < end) {
		const char *plain = p;
		int r;

		while (p < end && *p != '\\')
			p++;
		r = buf_add(b, plain, (size_t)(p - plain));
		if (r == 0 && p < end) {
			p++;
			r = add_code_point(b, unescape(&p, end));
		}
		if (r < 0)
			return r;
	}
	return 0;
}

bool pj_number(struct pj v, double *ret)
{
	auto_buf struct buf b = { 0 };
	char *end;

	if (pj_type(v) != PJ_NUMBER || buf_add(&b, v.p, v.n) < 0)
		return false;
	*ret = strtod(b.data, &end);
	return end > b.data && !*end;
}

bool pj_is(struct pj v, const char *text)
{
	return pj_type(v) == PJ_STRING && v.n == strlen(text) + 2 &&
	       memcmp(v.p + 1, text, strlen(text)) == 0;
}

/* --- writing -------------------------------------------------------------------------------- */

static int add_escaped(struct buf *b, uint32_t c)
{
	static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
	const char *special = c < 0x80 && c ? strchr(from, (int)c) : NULL;

	if (special)
		return buf_fmt(b, "\\%c", to[special - from]);
	if (c >= 0x20 && c < 0x7f)
		return buf_add(b, &(char){ (char)c }, 1);
	if (c < 0x10000)
		return buf_fmt(b, "\\u%04x", c);
	c -= 0x10000;
	return buf_fmt(b, "\\u%04x\\u%04x", 0xd800 + (c >> 10), 0xdc00 + (c & 0x3ff));
}

/* The character at p; *ret_n are its bytes. */
static uint32_t take_utf8(const unsigned char *p, size_t n, size_t *ret_n)
{
	size_t len = *p < 0x80 ? 1 : *p < 0xe0 ? 2 : *p < 0xf0 ? 3 : 4;
	uint32_t c = len == 1 ? *p : *p & (0xffu >> (len + 1));

	*ret_n = 1;
	if (len > n || !str_utf8_valid(p, len))
		return REPLACEMENT;
	for (size_t i = 1; i < len; i++)
		c = c << 6 | (p[i] & 0x3f);
	*ret_n = len;
	return c;
}

int pj_add_text(struct buf *b, const void *data, size_t n)
{
	const unsigned char *p = data;
	int r = buf_reserve(b, n + 2);

	if (r == 0)
		r = buf_add(b, "\"", 1);
	for (size_t i = 0, k; i < n && r == 0; i += k) {
		for (k = 0; i + k < n && p[i + k] >= 0x20 && p[i + k] < 0x7f && p[i + k] != '"' &&
			    p[i + k] != '\\';)
			k++;
		r = k ? buf_add(b, p + i, k) : add_escaped(b, take_utf8(p + i, n - i, &k));
	}
	return r < 0 ? r : buf_add(b, "\"", 1);
}

/* The fewest digits that read as the same number, and as one that is not whole by its form. */
int pj_add_number(struct buf *b, double v)
{
	char text[40];

	if (isnan(v))
		return buf_str(b, "NaN");
	if (isinf(v))
		return buf_str(b, v > 0 ? "Infinity" : "-Infinity");
	/* Up to 15 digits come back as they were, without those that say nothing; numbers that are too
	 * small to have so many need fewer. */
	for (int digits = isnormal(v) ? DBL_DIG : 1; digits <= 17; digits++) {
		double again = 0;

		snprintf(text, sizeof(text), "%.*g", digits, v);
		if (str_double(text, &again) == 0 && !(again < v) && !(again > v))
			break;
	}
	return buf_fmt(b, "%s%s", text, strpbrk(text, ".e") ? "" : ".0");
}

/* SPDX-License-Identifier: MIT */
#include "transfer/path.h"

#include <string.h>

#include "transfer/fold_table.h"

const char *path_check_name(const char *name, size_t n)
{
	if (n == 0)
		return "an empty name";
	if (n > PATH_NAME_MAX)
		return "a name longer than 255 bytes";
	if (name[0] == '.' && (n == 1 || (n == 2 && name[1] == '.')))
		return "a name '.' or '..'";
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)name[i];

		if (c < 0x20 || c == 0x7f)
			return "a control character";
		if (c == '/')
			return "a '/' in a name";
		/* U+0080 to U+009F, control characters too */
		if (c == 0xc2 && i + 1 < n && (unsigned char)name[i + 1] < 0xa0)
			return "a control character";
	}
	return str_utf8_valid(name, n) ? NULL : "a name that is not UTF-8";
}

const char *path_check(const char *path, size_t n)
{
	unsigned depth = 0;

	if (n > PATH_BYTES_MAX)
		return "a path longer than 1024 bytes";
	if (n && path[0] == '/')
		return "an absolute path";
	for (size_t at = 0;;) {
		const char *slash = memchr(path + at, '/', n - at);
		size_t len = slash ? (size_t)(slash - path) - at : n - at;
		const char *why = path_check_name(path + at, len);

		if (why)
			return why;
		if (++depth > PATH_DEPTH_MAX)
			return "folders nested more than 64 deep";
		if (!slash)
			return NULL;
		at += len + 1;
	}
}

/* Of text known to be valid UTF-8. */
static uint32_t next_point(const unsigned char **p)
{
	const unsigned char *s = *p;

	if (s[0] < 0x80) {
		*p += 1;
		return s[0];
	}
	if (s[0] < 0xe0) {
		*p += 2;
		return (s[0] & 0x1fu) << 6 | (s[1] & 0x3fu);
	}
	if (s[0] < 0xf0) {
		*p += 3;
		return (s[0] & 0xfu) << 12 | (s[1] & 0x3fu) << 6 | (s[2] & 0x3fu);
	}
	*p += 4;
	return (s[0] & 7u) << 18 | (s[1] & 0x3fu) << 12 | (s[2] & 0x3fu) << 6 | (s[3] & 0x3fu);
}

/* The longest replacement in the table, and a decomposed Hangul syllable, are shorter than this. */
#define FOLD_MAX 8

static size_t fold_hangul(uint32_t c, uint32_t out[FOLD_MAX])
{
	uint32_t s = c - 0xac00;
	size_t n = 0;

	out[n++] = 0x1100 + s / 588;
	out[n++] = 0x1161 + s % 588 / 28;
	if (s % 28)
		out[n++] = 0x11a7 + s % 28;
	return n;
}

static size_t fold_point(uint32_t c, uint32_t out[FOLD_MAX])
{
	size_t lo = 0, hi = ARRAY_LEN(fold_from), n = 0;

	if (c >= 0xac00 && c <= 0xd7a3)
		return fold_hangul(c, out);
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (fold_from[mid] < c)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo < ARRAY_LEN(fold_from) && fold_from[lo] == c)
		for (const uint32_t *s = fold_seq + fold_to[lo]; *s; s++)
			out[n++] = *s;
	else
		out[n++] = c;
	return n;
}

static bool is_mark(uint32_t c)
{
	size_t lo = 0, hi = ARRAY_LEN(fold_marks);

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (fold_marks[mid][1] < c)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < ARRAY_LEN(fold_marks) && fold_marks[lo][0] <= c;
}

/* Marks on one letter are written in one order whatever order they came in. */
static void sort_marks(uint32_t *p, size_t n)
{
	for (size_t i = 1; i < n; i++)
		for (size_t k = i; k && p[k - 1] > p[k] && is_mark(p[k]) && is_mark(p[k - 1]);
		     k--) {
			uint32_t t = p[k];

			p[k] = p[k - 1];
			p[k - 1] = t;
		}
}

static int add_points(struct buf *b, const uint32_t *p, size_t n)
{
	if (buf_reserve(b, 4 * n) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		uint32_t c = p[i];

		if (c < 0x80) {
			b->data[b->len++] = (char)c;
			continue;
		}
		if (c >= 0x10000)
			b->data[b->len++] = (char)(0xf0 | c >> 18);
		if (c >= 0x800)
			b->data[b->len++] =
				(char)(c >= 0x10000 ? 0x80 | (c >> 12 & 0x3f) : 0xe0 | c >> 12);
		b->data[b->len++] = (char)(c >= 0x800 ? 0x80 | (c >> 6 & 0x3f) : 0xc0 | c >> 6);
		b->data[b->len++] = (char)(0x80 | (c & 0x3f));
	}
	b->data[b->len] = '\0';
	return 0;
}

static int fold_wide(struct buf *b, const char *path, size_t n)
{
	const unsigned char *p = (const unsigned char *)path, *end = p + n;
	/* One code point of at least two bytes becomes at most FOLD_MAX; ASCII stays one. */
	auto_free uint32_t *out = calloc(n * FOLD_MAX + 1, sizeof(*out));
	size_t k = 0;

	if (!out)
		return -ENOMEM;
	while (p < end) {
		uint32_t c = next_point(&p);

		if (c >= 0x80)
			k += fold_point(c, out + k);
		else
			out[k++] = c >= 'A' && c <= 'Z' ? c + 32 : c;
	}
	sort_marks(out, k);
	return add_points(b, out, k);
}

int path_fold(struct buf *b, const char *path, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)path[i] >= 0x80)
			return fold_wide(b, path, n);
	if (buf_reserve(b, n + 1) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		b->data[b->len++] =
			(char)(path[i] >= 'A' && path[i] <= 'Z' ? path[i] + 32 : path[i]);
	b->data[b->len] = '\0';
	return 0;
}

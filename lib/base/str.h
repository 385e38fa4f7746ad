/* SPDX-License-Identifier: MIT */
/*
 * Text: allocation by format, growing buffers, strict number, size and time-span parsers, and the
 * escaping of foreign bytes for logs and terminals.
 */
#ifndef ZR_BASE_STR_H
#define ZR_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"

static inline bool str_eq(const char *a, const char *b)
{
	return a == b || (a && b && __builtin_strcmp(a, b) == 0);
}

bool str_starts(const char *s, const char *prefix);
bool str_ends(const char *s, const char *suffix);

/* asprintf() that leaves *ret NULL on failure. Returns the length or -ENOMEM. */
int str_fmt(char **ret, const char *fmt, ...) printf_like(2, 3) must_check;

/* A growing byte string. `data` is NUL-terminated whenever it is not NULL; len excludes the NUL. */
struct buf {
	char *data;
	size_t len, cap;
};
int buf_reserve(struct buf *b, size_t more) must_check;
int buf_add(struct buf *b, const void *data, size_t n) must_check;
int buf_str(struct buf *b, const char *s) must_check;
int buf_fmt(struct buf *b, const char *fmt, ...) printf_like(2, 3) must_check;
/* As one word for a shell. */
int buf_quoted(struct buf *b, const char *text) must_check;
void buf_drop_front(struct buf *b, size_t n); /* forgets the first n bytes; keeps the memory */
void buf_done(struct buf *b);
#define auto_buf __attribute__((cleanup(buf_done)))

/*
 * Writes `n` foreign bytes as printable text into out[size], always terminated: control bytes and
 * invalid UTF-8 become \xNN, a cut is marked "...". Returns out.
 */
char *str_escape(char *out, size_t size, const void *data, size_t n);
/* The same for a C string, with room for the usual log line. */
#define STR_ESC(s) str_escape_text((char[320]){ 0 }, 320, (s))
static inline char *str_escape_text(char *out, size_t size, const char *s)
{
	return str_escape(out, size, s ? s : "", s ? __builtin_strlen(s) : 0);
}

bool str_utf8_valid(const void *data, size_t n);

/* Decimal only, whole string, no sign for the unsigned form. -EINVAL or -ERANGE. */
int str_u64(const char *s, uint64_t *ret) must_check;
int str_i64(const char *s, int64_t *ret) must_check;
int str_double(const char *s, double *ret) must_check; /* finite */

/* "512", "64K", "512M", "2G", "1T" (powers of 1024; "KiB"-style endings allowed) to bytes. */
int str_size(const char *s, uint64_t *ret_bytes) must_check;
/* "250ms", "90s", "5m", "2h", "1d", "1h30m"; a bare number is seconds. To microseconds. */
int str_span(const char *s, uint64_t *ret_usec) must_check;
/* Back to text, exact: "90s" not "1.5m". */
char *str_span_text(char *out, size_t size, uint64_t usec);
char *str_size_text(char *out, size_t size, uint64_t bytes); /* for people: "1.5 GiB" */

/*
 * A NULL-terminated vector of owned strings. strv_words() splits like a shell without expansions:
 * blanks separate, '…' and "…" quote, \ escapes. -EINVAL, ERR_INPUT: a quote is not closed.
 */
void strv_free(char **v);
static inline void auto_strv_(char ***v)
{
	strv_free(*v);
}
#define auto_strv __attribute__((cleanup(auto_strv_)))
size_t strv_len(char *const *v);
int strv_add(char ***v, const char *s) must_check;
int strv_addf(char ***v, const char *fmt, ...) printf_like(2, 3) must_check;
int strv_words(const char *line, char ***ret, struct err *e) must_check;

#endif

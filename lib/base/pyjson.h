/* SPDX-License-Identifier: MIT */
/*
 * JSON as Python's json module reads and writes it: with the bare words NaN, Infinity and -Infinity,
 * escapes for half a surrogate pair, and of a key that comes twice the last value. base/json takes
 * none of these. Values are pieces of the text they were found in: nothing is copied or built, and
 * what is passed on is passed on as it was written.
 */
#ifndef ZR_BASE_PYJSON_H
#define ZR_BASE_PYJSON_H

#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/str.h"

#define PJ_DEPTH_MAX 200

struct pj {
	const char *p;
	size_t n;
};

enum pj_type {
	PJ_NONE, /* not a value */
	PJ_OBJECT,
	PJ_ARRAY,
	PJ_STRING,
	PJ_NUMBER, /* also NaN and the infinities */
	PJ_TRUE,
	PJ_FALSE,
	PJ_NULL,
};

/* The whole text is one value. -EILSEQ: not UTF-8; -EINVAL: not JSON. Both ERR_INPUT. */
int pj_check(const void *data, size_t n, struct pj *ret, struct err *e) must_check;

enum pj_type pj_type(struct pj v);

/* Also of a text that pj_check() refused: up to where it breaks, and only values that are whole. False:
 * no such member, or not an object. */
bool pj_member(struct pj object, const char *key, struct pj *ret);
/* The next item of an array; *at starts at 0. */
bool pj_item(struct pj array, size_t *at, struct pj *ret);

/* Appends the text of a string in UTF-8; half a surrogate pair becomes U+FFFD. -EINVAL: it is none. */
int pj_text(struct pj string, struct buf *b) must_check;
bool pj_number(struct pj v, double *ret);
/* It is this plain text, written without escapes. */
bool pj_is(struct pj v, const char *text);

/* Append to a text as Python would write it; bytes that are not UTF-8 become U+FFFD. */
int pj_add_text(struct buf *b, const void *data, size_t n) must_check;
int pj_add_number(struct buf *b, double v) must_check;

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Strict JSON on jansson: bounded size and depth, no duplicate keys, valid UTF-8, finite numbers.
 * The getters name the key and say what was wanted; `max` of a text is in bytes.
 */
#ifndef ZR_BASE_JSON_H
#define ZR_BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"

#define JS_DEPTH_MAX 32

/* The whole of data[n] must be one object or array, at most `depth_max` deep. ERR_INPUT names the
 * line and column. */
int js_parse(const void *data, size_t n, unsigned depth_max, json_t **ret,
	     struct err *e) must_check;
/* Any value, of any depth, whose numbers know no bounds, as PostgreSQL's do: an integer that needs more
 * than 64 bits becomes a real, and what exceeds every double a text. For what passed js_parse() once. */
int js_parse_numeric(const char *data, size_t n, json_t **ret, struct err *e) must_check;
int js_read_file(int dirfd, const char *name, size_t max, json_t **ret, struct err *e) must_check;

/* Required members. The text stays the object's. */
int js_str(const json_t *o, const char *key, size_t max, const char **ret,
	   struct err *e) must_check;
int js_int(const json_t *o, const char *key, int64_t min, int64_t max, int64_t *ret,
	   struct err *e) must_check;
int js_num(const json_t *o, const char *key, double *ret, struct err *e) must_check;
int js_bool(const json_t *o, const char *key, bool *ret, struct err *e) must_check;
int js_obj(const json_t *o, const char *key, json_t **ret, struct err *e) must_check;
int js_arr(const json_t *o, const char *key, json_t **ret, struct err *e) must_check;

/* Optional members: absent or null leaves *ret as it is and returns 0; present returns 1. */
int js_opt_str(const json_t *o, const char *key, size_t max, const char **ret,
	       struct err *e) must_check;
int js_opt_int(const json_t *o, const char *key, int64_t min, int64_t max, int64_t *ret,
	       struct err *e) must_check;
int js_opt_num(const json_t *o, const char *key, double *ret, struct err *e) must_check;
int js_opt_bool(const json_t *o, const char *key, bool *ret, struct err *e) must_check;
int js_opt_obj(const json_t *o, const char *key, json_t **ret, struct err *e) must_check;
int js_opt_arr(const json_t *o, const char *key, json_t **ret, struct err *e) must_check;

/* ERR_INPUT: a member that is not among the `known`, which end with NULL. */
int js_only(const json_t *o, const char *const *known, struct err *e) must_check;

/* Compact text on one line, keys in the order they were set; NULL only without memory. Reals have as
 * many digits as it takes to read the same value again. */
char *js_text(const json_t *j);
/* The same with sorted keys: one byte string for one value. */
char *js_canonical(const json_t *j);
/* Indented, for people and for files. */
char *js_pretty(const json_t *j);

/* json_string() of foreign bytes: invalid UTF-8 is replaced by U+FFFD, NUL by U+2400. */
json_t *js_from_bytes(const void *data, size_t n);
/* A vector of UTF-8 texts that ends with NULL, or NULL, as a list. NULL: out of memory, or no text. */
json_t *js_strings(char *const *v);

#endif

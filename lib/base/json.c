/* SPDX-License-Identifier: MIT */
#include "base/json.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/str.h"

/* jansson's own bound is 2,048 levels of C recursion; ours is checked before it starts. */
static bool deeper_than(const char *s, size_t n, unsigned max)
{
	bool in_text = false;
	unsigned depth = 0;

	for (size_t i = 0; i < n; i++) {
		if (in_text) {
			if (s[i] == '\\')
				i++;
			else if (s[i] == '"')
				in_text = false;
		} else if (s[i] == '"') {
			in_text = true;
		} else if (s[i] == '{' || s[i] == '[') {
			if (++depth > max)
				return true;
		} else if ((s[i] == '}' || s[i] == ']') && depth) {
			depth--;
		}
	}
	return false;
}

int js_parse(const void *data, size_t n, unsigned depth_max, json_t **ret, struct err *e)
{
	json_error_t je;
	json_t *j;

	if (deeper_than(data, n, depth_max))
		return err_input(e, "JSON is nested more than %u deep", depth_max);
	j = json_loadb(n ? data : "", n, JSON_REJECT_DUPLICATES, &je);
	if (!j && json_error_code(&je) == json_error_out_of_memory)
		return err_nomem(e);
	if (!j)
		return err_input(e, "JSON, line %d column %d: %s", je.line, je.column,
				 STR_ESC(je.text));
	*ret = j;
	return 0;
}

/* --- numbers --------------------------------------------------------------------------------- */

/* Where the next number outside of texts begins; *ret_n is its length. NULL: there is none. */
static const char *next_number(const char *s, const char *end, size_t *ret_n)
{
	bool in_text = false;

	for (; s < end; s++) {
		const char *from = s;

		if (*s == '"')
			in_text = !in_text;
		else if (in_text && *s == '\\')
			s++;
		if (in_text || (*s != '-' && !isdigit((unsigned char)*s)))
			continue;
		while (s < end && (isdigit((unsigned char)*s) || (*s && strchr("+-.eE", *s))))
			s++;
		*ret_n = (size_t)(s - from);
		return from;
	}
	return NULL;
}

/* What jansson can hold of a number: itself, as a real, or its text. */
static int add_number(struct buf *b, const char *s, size_t n)
{
	auto_free char *text = strndup(s, n);
	bool integer;

	if (!text)
		return -ENOMEM;
	integer = strcspn(text, ".eE") == n;
	errno = 0;
	if (integer)
		(void)strtoll(text, NULL, 10);
	if (integer && errno == 0)
		return buf_str(b, text);
	return isfinite(strtod(text, NULL)) ? buf_fmt(b, "%s%s", text, integer ? ".0" : "")
					    : buf_fmt(b, "\"%s\"", text);
}

/* The same JSON, its numbers within the bounds of jansson's. */
static int tame_numbers(const char *s, size_t n, struct buf *b)
{
	const char *end = s + n, *number;
	size_t len = 0;
	int r = 0;

	while (r == 0 && (number = next_number(s, end, &len))) {
		r = buf_add(b, s, (size_t)(number - s));
		if (r == 0)
			r = add_number(b, number, len);
		s = number + len;
	}
	return r == 0 ? buf_add(b, s, (size_t)(end - s)) : r;
}

int js_parse_numeric(const char *data, size_t n, json_t **ret, struct err *e)
{
	auto_buf struct buf b = { 0 };
	json_error_t je;
	json_t *j = json_loadb(data, n, JSON_DECODE_ANY, &je);

	if (!j && json_error_code(&je) == json_error_numeric_overflow) {
		if (tame_numbers(data, n, &b) < 0)
			return err_nomem(e);
		j = json_loadb(b.data, b.len, JSON_DECODE_ANY, &je);
	}
	if (!j)
		return err_input(e, "%s", STR_ESC(je.text));
	*ret = j;
	return 0;
}

/* The fewest digits that give the same double, where jansson writes all 17: 0.3, not
 * 0.29999999999999999. In place: a number never grows. */
static char *shorten_reals(char *text)
{
	const char *from = text, *end = text ? text + strlen(text) : NULL, *number;
	char *to = text, one[40];
	size_t n = 0;

	while (text && (number = next_number(from, end, &n))) {
		const char *write = number;
		double d = n > 16 ? strtod(number, NULL) : 0;
		size_t len = n;

		memmove(to, from, (size_t)(number - from));
		to += number - from;
		for (int digits = 15; n > 16 && write == number && digits < 17; digits++) {
			int k = snprintf(one, sizeof(one) - 2, "%.*g", digits, d);

			if (strcspn(one, ".e") == (size_t)k) {
				memcpy(one + k, ".0", 3);
				k += 2;
			}
			if ((size_t)k < n && memchr(number, '.', n) && strtod(one, NULL) == d) {
				write = one;
				len = (size_t)k;
			}
		}
		memmove(to, write, len);
		to += len;
		from = number + n;
	}
	if (text)
		memmove(to, from, (size_t)(end - from) + 1);
	return text;
}

int js_read_file(int dirfd, const char *name, size_t max, json_t **ret, struct err *e)
{
	auto_buf struct buf b = { 0 };
	int r = fd_read_file(dirfd, name, max, &b, e);

	if (r < 0)
		return r;
	r = js_parse(b.data, b.len, JS_DEPTH_MAX, ret, e);
	return r < 0 ? err_wrap(e, "%s", STR_ESC(name)) : 0;
}

/* The member, or NULL if absent or null. */
static json_t *member(const json_t *o, const char *key)
{
	json_t *v = json_object_get(o, key);

	return json_is_null(v) ? NULL : v;
}

static int missing(struct err *e, const char *key)
{
	return err_input(e, "'%s' is missing", key);
}

#define REQUIRED(call)                                                                             \
	({                                                                                         \
		int r_ = (call);                                                                   \
		r_ < 0 ? r_ : r_ == 0 ? missing(e, key) : 0;                                       \
	})

int js_opt_str(const json_t *o, const char *key, size_t max, const char **ret, struct err *e)
{
	const json_t *v = member(o, key);

	if (!v)
		return 0;
	if (!json_is_string(v))
		return err_input(e, "'%s' is not a text", key);
	if (json_string_length(v) > max)
		return err_input(e, "'%s' is longer than %zu bytes", key, max);
	*ret = json_string_value(v);
	return 1;
}

int js_opt_int(const json_t *o, const char *key, int64_t min, int64_t max, int64_t *ret,
	       struct err *e)
{
	const json_t *v = member(o, key);

	if (!v)
		return 0;
	if (!json_is_integer(v))
		return err_input(e, "'%s' is not an integer", key);
	if (json_integer_value(v) < min || json_integer_value(v) > max)
		return err_input(e, "'%s' is %lld, outside %lld to %lld", key,
				 (long long)json_integer_value(v), (long long)min, (long long)max);
	*ret = json_integer_value(v);
	return 1;
}

int js_opt_num(const json_t *o, const char *key, double *ret, struct err *e)
{
	const json_t *v = member(o, key);

	if (!v)
		return 0;
	if (!json_is_number(v) || !isfinite(json_number_value(v)))
		return err_input(e, "'%s' is not a finite number", key);
	*ret = json_number_value(v);
	return 1;
}

int js_opt_bool(const json_t *o, const char *key, bool *ret, struct err *e)
{
	const json_t *v = member(o, key);

	if (!v)
		return 0;
	if (!json_is_boolean(v))
		return err_input(e, "'%s' is neither true nor false", key);
	*ret = json_is_true(v);
	return 1;
}

int js_only(const json_t *o, const char *const *known, struct err *e)
{
	json_t *obj = (json_t *)(uintptr_t)o;

	for (void *it = json_object_iter(obj); it; it = json_object_iter_next(obj, it)) {
		const char *key = json_object_iter_key(it);
		const char *const *k = known;

		while (*k && !str_eq(*k, key))
			k++;
		if (!*k)
			return err_input(e, "there is no member '%s'", STR_ESC(key));
	}
	return 0;
}

int js_opt_obj(const json_t *o, const char *key, json_t **ret, struct err *e)
{
	json_t *v = member(o, key);

	if (!v)
		return 0;
	if (!json_is_object(v))
		return err_input(e, "'%s' is not an object", key);
	*ret = v;
	return 1;
}

int js_opt_arr(const json_t *o, const char *key, json_t **ret, struct err *e)
{
	json_t *v = member(o, key);

	if (!v)
		return 0;
	if (!json_is_array(v))
		return err_input(e, "'%s' is not a list", key);
	*ret = v;
	return 1;
}

int js_str(const json_t *o, const char *key, size_t max, const char **ret, struct err *e)
{
	return REQUIRED(js_opt_str(o, key, max, ret, e));
}

int js_int(const json_t *o, const char *key, int64_t min, int64_t max, int64_t *ret, struct err *e)
{
	return REQUIRED(js_opt_int(o, key, min, max, ret, e));
}

int js_num(const json_t *o, const char *key, double *ret, struct err *e)
{
	return REQUIRED(js_opt_num(o, key, ret, e));
}

int js_bool(const json_t *o, const char *key, bool *ret, struct err *e)
{
	return REQUIRED(js_opt_bool(o, key, ret, e));
}

int js_obj(const json_t *o, const char *key, json_t **ret, struct err *e)
{
	return REQUIRED(js_opt_obj(o, key, ret, e));
}

int js_arr(const json_t *o, const char *key, json_t **ret, struct err *e)
{
	return REQUIRED(js_opt_arr(o, key, ret, e));
}

char *js_text(const json_t *j)
{
	return shorten_reals(json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY));
}

char *js_canonical(const json_t *j)
{
	return shorten_reals(json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS));
}

char *js_pretty(const json_t *j)
{
	return shorten_reals(json_dumps(j, JSON_INDENT(2) | JSON_ENCODE_ANY));
}

json_t *js_from_bytes(const void *data, size_t n)
{
	auto_buf struct buf b = { 0 };
	const char *p = data;

	if (str_utf8_valid(data, n) && !memchr(data, 0, n))
		return json_stringn(n ? data : "", n);
	for (size_t i = 0, k; i < n; i += k) {
		const char *piece = p + i;

		for (k = 1; k < 4 && i + k <= n && !str_utf8_valid(piece, k); k++)
			;
		if (i + k > n || !str_utf8_valid(piece, k)) {
			k = 1;
			piece = "\xef\xbf\xbd";
		} else if (!*piece) {
			piece = "\xe2\x90\x80";
		}
		if (buf_add(&b, piece, piece == p + i ? k : 3) < 0)
			return NULL;
	}
	return json_stringn(b.data ? b.data : "", b.len);
}

json_t *js_strings(char *const *v)
{
	json_t *a = json_array();

	for (; a && v && *v; v++)
		if (json_array_append_new(a, json_string(*v)) < 0) {
			json_decref(a);
			return NULL;
		}
	return a;
}

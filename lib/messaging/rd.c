/* SPDX-License-Identifier: MIT */
#include "messaging/rd.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/id.h"
#include "base/json.h"
#include "base/str.h"
#include "base/time.h"

const char *message_bad_name(enum message_bad b)
{
	static const char *const names[MESSAGE_BAD_N] = {
		"good",         "malformed",       "too-large",     "too-deep",
		"bad-utf8",     "duplicate-key",   "missing-field", "bad-value",
		"unknown-type", "unknown-version", "no-memory",
	};

	return names[b];
}

void rd_fail(struct message_reader *rd, enum message_bad bad, const char *fmt, ...)
{
	char text[400];
	va_list ap;

	if (rd->bad)
		return;
	rd->bad = bad;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	err_input(rd->e, "%s", text);
}

static bool any_text(unused_arg const char *s)
{
	return true;
}

const struct rd_rule rd_id = { ID_MAX, id_valid, "a name of letters, digits, '.', '_', '-'" };
const struct rd_rule rd_uuid = { UUID_LEN, id_is_uuid, "a UUID in lower case" };
const struct rd_rule rd_digest = { 71, id_is_digest, "sha256: and 64 hexadecimal digits" };
const struct rd_rule rd_text = { 1024, any_text, "" };
const struct rd_rule rd_long_text = { 64u << 10, any_text, "" };
const struct rd_rule rd_any_text = { SIZE_MAX, any_text, "" };
const struct rd_rule rd_arg = { 4096, any_text, "" };

/* True if `r`, the result of a js_opt_…() call, found the member. */
static bool found(struct message_reader *rd, const char *key, bool optional, int r,
		  const struct err *e)
{
	if (r < 0)
		rd_fail(rd, MESSAGE_BAD_VALUE, "%s", e->msg);
	else if (r == 0 && !optional)
		rd_fail(rd, MESSAGE_MISSING_FIELD, "'%s' is missing", key);
	return r > 0;
}

static bool obeys(struct message_reader *rd, const char *key, const struct rd_rule *rule,
		  const char *s)
{
	if (rule->valid(s))
		return true;
	rd_fail(rd, MESSAGE_BAD_VALUE, "'%s' is '%s', not %s", key, STR_ESC(s), rule->want);
	return false;
}

void rd_str(struct message_reader *rd, const char *key, const struct rd_rule *rule, bool optional,
	    const char **ret)
{
	const char *s = NULL;
	struct err e = { 0 };

	if (!rd->bad && found(rd, key, optional, js_opt_str(rd->o, key, rule->max, &s, &e), &e) &&
	    !obeys(rd, key, rule, s))
		s = NULL;
	*ret = s;
}

void rd_int(struct message_reader *rd, const char *key, int64_t min, int64_t max, bool optional,
	    int64_t *ret)
{
	struct err e = { 0 };

	if (!rd->bad)
		found(rd, key, optional, js_opt_int(rd->o, key, min, max, ret, &e), &e);
}

void rd_time(struct message_reader *rd, const char *key, uint64_t *ret_wall_usec)
{
	static const struct rd_rule rule = { 64, any_text, "" };
	const char *s;

	rd_str(rd, key, &rule, false, &s);
	if (s && time_parse(s, ret_wall_usec) < 0)
		rd_fail(rd, MESSAGE_BAD_VALUE, "'%s' is '%s', not an RFC 3339 time", key,
			STR_ESC(s));
}

void rd_word(struct message_reader *rd, const char *key, const char *const *words, int *ret)
{
	const char *s;

	rd_str(rd, key, &rd_text, false, &s);
	for (int i = 0; s && words[i]; i++) {
		if (str_eq(s, words[i])) {
			*ret = i;
			return;
		}
	}
	if (s)
		rd_fail(rd, MESSAGE_BAD_VALUE, "'%s' cannot be '%s'", key, STR_ESC(s));
}

void rd_object(struct message_reader *rd, const char *key, bool optional, json_t **ret)
{
	struct err e = { 0 };

	*ret = NULL;
	if (!rd->bad)
		found(rd, key, optional, js_opt_obj(rd->o, key, ret, &e), &e);
}

static bool is_text(const json_t *v, const struct rd_rule *rule)
{
	return json_is_string(v) && json_string_length(v) <= rule->max &&
	       rule->valid(json_string_value(v));
}

void rd_texts(struct message_reader *rd, const char *key, size_t count_max,
	      const struct rd_rule *rule, bool optional, json_t **ret)
{
	struct err e = { 0 };

	*ret = NULL;
	if (rd->bad || !found(rd, key, optional, js_opt_arr(rd->o, key, ret, &e), &e))
		return;
	if (json_array_size(*ret) > count_max)
		rd_fail(rd, MESSAGE_BAD_VALUE, "'%s' has more than %zu members", key, count_max);
	for (size_t i = 0; !rd->bad && i < json_array_size(*ret); i++)
		if (!is_text(json_array_get(*ret, i), rule))
			rd_fail(rd, MESSAGE_BAD_VALUE,
				"member %zu of '%s' is not a text as it must be", i + 1, key);
}

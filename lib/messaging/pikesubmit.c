/* SPDX-License-Identifier: MIT */
#include "messaging/pikesubmit.h"

#include <math.h>
#include <string.h>

#include "base/pyjson.h"

#define WHOLE_MAX 1e15

/* As Python's str() of it: what is a text stays as it was written. */
static int add_text(struct pj v, struct buf *b)
{
	switch (pj_type(v)) {
	case PJ_STRING:
		return buf_add(b, v.p, v.n);
	case PJ_NUMBER:
		return buf_fmt(b, "\"%.*s\"", (int)v.n, v.p);
	case PJ_TRUE:
		return buf_str(b, "\"True\"");
	case PJ_FALSE:
		return buf_str(b, "\"False\"");
	case PJ_NULL:
		return buf_str(b, "\"None\"");
	case PJ_NONE:
	case PJ_OBJECT:
	case PJ_ARRAY:
		break;
	}
	return -EINVAL;
}

/* "7", " +7 ": the digits and a minus. */
static int add_whole_text(struct pj v, struct buf *b)
{
	auto_buf struct buf text = { 0 };
	const char *p, *end;
	bool minus = false;
	int r = pj_text(v, &text);

	if (r < 0 || !text.len)
		return -EINVAL;
	for (p = text.data, end = p + text.len; p < end && strchr(" \t\n\r", *p);)
		p++;
	while (end > p && strchr(" \t\n\r", end[-1]))
		end--;
	if (p < end && (*p == '-' || *p == '+'))
		minus = *p++ == '-';
	while (end - p > 1 && *p == '0')
		p++;
	if (p == end || strspn(p, "0123456789") < (size_t)(end - p))
		return -EINVAL;
	return buf_fmt(b, "%s%.*s", minus ? "-" : "", (int)(end - p), p);
}

static bool is_whole(struct pj v)
{
	for (size_t i = 0; i < v.n; i++)
		if (strchr(".eEIN", v.p[i]))
			return false;
	return true;
}

/* As Python's int() of it. */
static int add_whole(struct pj v, struct buf *b)
{
	double d;

	switch (pj_type(v)) {
	case PJ_STRING:
		return add_whole_text(v, b);
	case PJ_TRUE:
		return buf_str(b, "1");
	case PJ_FALSE:
		return buf_str(b, "0");
	case PJ_NUMBER:
		break;
	case PJ_NONE:
	case PJ_OBJECT:
	case PJ_ARRAY:
	case PJ_NULL:
		return -EINVAL;
	}
	if (is_whole(v))
		return buf_add(b, v.p, v.n);
	if (!pj_number(v, &d) || isnan(d) || fabs(d) > WHOLE_MAX)
		return -EINVAL;
	return buf_fmt(b, "%.0f", trunc(d) + 0.0);
}

int pikesubmit_message(const void *data, size_t n, const char *id, struct buf *ret)
{
	struct pj m = { 0 }, code = { 0 }, level = { 0 }, task = { 0 }, mode = { 0 };
	int r;

	if (pj_check(data, n, &m, NULL) < 0 || !pj_member(m, "code", &code) ||
	    !pj_member(m, "level", &level) || !pj_member(m, "task", &task))
		return -EINVAL;
	r = buf_fmt(ret, "{\"id\": \"%s\", \"type\": \"eval\", \"level\": ", id);
	if (r == 0)
		r = add_text(level, ret);
	if (r == 0)
		r = buf_str(ret, ", \"task\": ");
	if (r == 0)
		r = add_whole(task, ret);
	if (r == 0)
		r = buf_str(ret, ", \"code\": ");
	if (r == 0)
		r = pj_type(code) == PJ_STRING ? buf_add(ret, code.p, code.n) : -EBADMSG;
	if (r == 0)
		r = buf_str(ret, ", \"mode\": ");
	if (r == 0)
		r = pj_member(m, "mode", &mode) ? add_text(mode, ret) : buf_str(ret, "\"eager\"");
	return r < 0 ? r : buf_str(ret, "}");
}

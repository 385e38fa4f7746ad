/* SPDX-License-Identifier: MIT */
/* The text parsers: numbers, sizes, spans, times, words, escaping. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/id.h"
#include "base/str.h"
#include "base/time.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void numbers(const char *s)
{
	char out[TIME_TEXT_MAX];
	uint64_t u, back;
	int64_t i;
	double d;

	if (str_u64(s, &u) == 0)
		assert(strspn(s, "0123456789") == strlen(s));
	if (str_i64(s, &i) == 0)
		assert(strspn(s, "-0123456789") == strlen(s));
	if (str_double(s, &d) == 0)
		assert(d - d == 0);
	if (str_span(s, &u) == 0) {
		str_span_text(out, sizeof(out), u);
		assert(str_span(out, &back) == 0 && back == u);
	}
	if (str_size(s, &u) == 0)
		str_size_text(out, sizeof(out), u);
	if (time_parse(s, &u) == 0)
		assert(time_parse(time_text(out, u), &back) == 0 && back == u);
	if (id_valid(s))
		assert(!strchr(s, '/') && strlen(s) <= ID_MAX);
	if (id_is_uuid(s))
		assert(id_valid(s));
}

static void escaped(const uint8_t *data, size_t size)
{
	char out[64];

	str_escape(out, sizeof(out), data, size);
	assert(strlen(out) < sizeof(out) && str_utf8_valid(out, strlen(out)));
	for (const char *p = out; *p; p++)
		assert((unsigned char)*p >= 0x20 && *p != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_buf struct buf b = { 0 };
	auto_strv char **words = NULL;
	struct err e = { 0 };

	if (buf_add(&b, data, size) < 0)
		return 0;
	numbers(b.data);
	escaped(data, size);
	if (strv_words(b.data, &words, &e) == 0)
		assert(strv_len(words) <= size);
	return 0;
}

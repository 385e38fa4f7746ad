/* SPDX-License-Identifier: MIT */
/* JSON of Python: looking at anything is safe, and a text or number that was written reads the same. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/pyjson.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look(struct pj v)
{
	auto_buf struct buf b = { 0 }, text = { 0 }, again = { 0 };
	struct pj w;
	size_t at = 0;
	double d, same;

	if (pj_member(v, "id", &w))
		look(w);
	while (pj_item(v, &at, &w))
		if (pj_number(w, &d)) {
			b.len = 0;
			assert(pj_add_number(&b, d) == 0);
			assert(pj_number((struct pj){ b.data, b.len }, &same) &&
			       (same == d || d != d));
		}
	if (pj_text(v, &text) < 0 || !text.len)
		return;
	b.len = 0;
	assert(pj_add_text(&b, text.data, text.len) == 0);
	assert(pj_text((struct pj){ b.data, b.len }, &again) == 0);
	assert(again.len == text.len || !str_utf8_valid(text.data, text.len));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_free char *exact = malloc(size ? size : 1);
	struct pj v;

	memcpy(exact, data, size);
	look((struct pj){ exact, size });
	return pj_check(exact, size, &v, NULL) == 0 ? (look(v), 0) : 0;
}

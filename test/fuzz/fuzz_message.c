/* SPDX-License-Identifier: MIT */
/* What decodes must encode, and decode again to the same value. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"
#include "messaging/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_free char *text = NULL, *again_text = NULL;
	auto_obj(message) m = NULL;
	auto_obj(message) again = NULL;
	struct err e = { 0 };
	size_t n = 0;

	if (message_decode(data, size, 64u << 10, &m, &e) != MESSAGE_GOOD) {
		assert(e.code);
		return 0;
	}
	assert(message_encode(m, &text, &n, &e) == 0);
	assert(message_decode(text, n, SIZE_MAX, &again, &e) == MESSAGE_GOOD);
	assert(message_encode(again, &again_text, &n, &e) == 0);
	assert(str_eq(text, again_text));
	return 0;
}

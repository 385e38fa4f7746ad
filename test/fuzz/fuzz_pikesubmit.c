/* SPDX-License-Identifier: MIT */
/* What an HTTP client submits is refused, or becomes a message that the worker's side takes. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/pyjson.h"
#include "messaging/pikesubmit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_buf struct buf b = { 0 };
	struct pj m, v;

	if (pikesubmit_message(data, size, "id", &b) < 0)
		return 0;
	assert(pj_check(b.data, b.len, &m, NULL) == 0);
	assert(pj_member(m, "id", &v) && pj_is(v, "id"));
	assert(pj_member(m, "task", &v) && pj_type(v) == PJ_NUMBER);
	assert(pj_member(m, "level", &v) && pj_type(v) == PJ_STRING);
	return 0;
}

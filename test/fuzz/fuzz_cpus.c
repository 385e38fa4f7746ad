/* SPDX-License-Identifier: MIT */
/* A list of processors: its shortest text means the same. */
#include <assert.h>
#include <stdint.h>

#include "base/str.h"
#include "exec/cpus.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_buf struct buf b = { 0 };
	char text[CPUS_TEXT_MAX];
	cpu_set_t set, again;
	struct err e = { 0 };

	if (buf_add(&b, data, size) < 0 || cpus_parse(b.data, &set, &e) < 0)
		return 0;
	assert(CPU_COUNT(&set) > 0);
	assert(cpus_parse(cpus_text(&set, text, sizeof(text)), &again, &e) == 0);
	assert(CPU_EQUAL(&set, &again));
	return 0;
}

/* SPDX-License-Identifier: MIT */
/* spec.json: what is accepted must be written again as something that is accepted, and equal. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "exec/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_free char *first = NULL, *second = NULL;
	auto_spec a = NULL;
	auto_spec b = NULL;
	struct err e;

	if (spec_parse(data, size, &a, &e) < 0)
		return 0;
	if (spec_text(a, &first, &e) < 0 || spec_parse(first, strlen(first), &b, &e) < 0 ||
	    spec_text(b, &second, &e) < 0 || !str_eq(first, second))
		abort();
	return 0;
}

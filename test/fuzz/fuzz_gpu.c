/* SPDX-License-Identifier: MIT */
/* What zr-gpu prints: each GPU that is accepted must be written again as one that is, and equal. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"
#include "exec/gpu.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_obj(gpu_list) l = NULL;
	struct gpu g;
	struct err e;

	if (gpu_parse(data, size, &l, &e) < 0)
		return 0;
	for (size_t i = 0; i < l->n; i++) {
		json_auto_t *a = gpu_json(&l->gpu[i]), *b = NULL;

		if (!a || gpu_from_json(a, &g, &e) < 0 || !(b = gpu_json(&g)) || !json_equal(a, b))
			abort();
	}
	return 0;
}

/* SPDX-License-Identifier: MIT */
/* The journal of a box, and in it the result: what is accepted can be written again. */
#include <stdint.h>
#include <stdlib.h>

#include "exec/journal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_done(journal) j = { .phase = PHASE_RUN };
	auto_done(box_result) again;
	struct err e;
	json_t *o;

	box_result_init(&again);
	if (journal_parse(data, size, &j, &e) < 0 || !j.done)
		return 0;
	o = box_result_json(&j.result);
	if (!o || box_result_from_json(o, &again, &e) < 0)
		abort();
	json_decref(o);
	return 0;
}

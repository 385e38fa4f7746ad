/* SPDX-License-Identifier: MIT */
/* Dialect pike: any request is a task or a refusal, any output of a child one of three results. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "messaging/piketask.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void is_json(const struct buf *b)
{
	struct pj v;

	assert(pj_check(b->data, b->len, &v, NULL) == 0 && pj_type(v) == PJ_OBJECT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_buf struct buf results = { 0 }, code = { 0 }, refusal = { 0 };
	auto_obj(piketask) t = NULL;
	struct err e = { 0 };
	struct pj m, id;

	assert(piketask_results(data, size, &results) == 0);
	is_json(&results);
	if (pj_check(data, size, &m, NULL) < 0)
		return 0;
	if (piketask_read(m, "stem", 0, &t, &code, &e) == 0)
		assert(!strchr(t->level, '/') && !strchr(t->task, '/') && t->id);
	else if (pj_member(m, "id", &id)) {
		assert(piketask_refusal(id, e.msg, &refusal) == 0);
		is_json(&refusal);
	}
	return 0;
}

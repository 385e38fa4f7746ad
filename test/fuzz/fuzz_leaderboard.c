/* SPDX-License-Identifier: MIT */
/* {"definition": …, "entries": […], "external": […]}: parsed, ranked, written as CSV. */
#include <stdint.h>
#include <stdlib.h>

#include "base/json.h"
#include "store/leaderboard.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void rank(const struct leaderboard *b, const json_t *entries, const json_t *external)
{
	json_auto_t *board = NULL, *skipped = json_array();
	auto_free char *csv = NULL, *text = NULL;
	size_t n = json_array_size(entries) + json_array_size(external);

	if (leaderboard_rank(b, entries, external, "T", &board, skipped, NULL) < 0)
		abort();
	if (json_array_size(json_object_get(board, "data")) + json_array_size(skipped) > n)
		abort();
	text = js_text(board);
	if (!text || leaderboard_csv(board, &csv, NULL) < 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_auto_t *j = NULL;
	auto_obj(leaderboard) b = NULL;

	if (js_parse(data, size, JS_DEPTH_MAX, &j, NULL) < 0)
		return 0;
	if (leaderboard_parse(json_object_get(j, "definition"), &b, NULL) == 0)
		rank(b, json_object_get(j, "entries"), json_object_get(j, "external"));
	return 0;
}

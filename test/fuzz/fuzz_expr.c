/* SPDX-License-Identifier: MIT */
/* The expression is the first line, the scores are the rest. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "store/expr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_free char *text = strndup((const char *)data, size);
	size_t n = strcspn(text, "\n"), len = strlen(text);
	auto_obj(expr) x = NULL;
	json_auto_t *scores = NULL;
	double v = 0;

	text[n] = '\0';
	if (expr_parse(text, &x, NULL) < 0)
		return 0;
	if (n < len && js_parse(text + n + 1, len - n - 1, 8, &scores, NULL) < 0)
		return 0;
	if (expr_eval(x, scores, &v, NULL) == 0 && !isfinite(v))
		abort();
	return 0;
}

/* SPDX-License-Identifier: MIT */
/* Strict JSON: what is accepted has one canonical text, which parses to the same value. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void getters(const json_t *j)
{
	const char *s;
	json_t *o;
	int64_t i;
	double d;
	bool b;

	(void)!js_opt_str(j, "a", 8, &s, NULL);
	(void)!js_opt_int(j, "a", -5, 5, &i, NULL);
	(void)!js_opt_num(j, "a", &d, NULL);
	(void)!js_opt_bool(j, "a", &b, NULL);
	(void)!js_opt_obj(j, "a", &o, NULL);
	(void)!js_opt_arr(j, "a", &o, NULL);
}

static void same_again(const json_t *j)
{
	auto_free char *text = js_canonical(j), *again = NULL;
	json_auto_t *k = NULL;
	struct err e = { 0 };

	assert(text && str_utf8_valid(text, strlen(text)));
	assert(js_parse(text, strlen(text), JS_DEPTH_MAX, &k, &e) == 0);
	again = js_canonical(k);
	assert(strcmp(text, again) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_auto_t *j = NULL, *text = js_from_bytes(data, size);
	struct err e = { 0 };

	assert(json_is_string(text));
	assert(strlen(json_string_value(text)) == json_string_length(text));
	if (js_parse(data, size, JS_DEPTH_MAX, &j, &e) < 0)
		return 0;
	getters(j);
	same_again(j);
	return 0;
}

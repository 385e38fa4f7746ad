/* SPDX-License-Identifier: MIT */
/* Configuration text: every kind of key, lists, sections with titles. A line "---" parts
 * two files that are read onto one object. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static cfg_opt_t section[] = {
	CFG_STR("address", NULL, CFGF_NONE),
	CFG_INT("port", 22, CFGF_NONE),
	CFG_END(),
};

static void parse(cfg_t *cfg, const char *text, size_t n)
{
	struct err e = { 0 };

	if (conf_text(cfg, "f", text, n, &e) == 0)
		return;
	/* Every error names the file, has words and blames what was given. */
	assert(e.code && (e.kind == ERR_INPUT || e.code == ENOMEM));
	assert(strncmp(e.msg, "f:", 2) == 0 && strlen(e.msg) > 4);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cfg_opt_t opts[] = {
		CFG_STR("pool_dir", "/x", CFGF_NONE),
		CFG_STR_LIST("pool", NULL, CFGF_NODEFAULT),
		CFG_BOOL("timing", cfg_false, CFGF_NONE),
		CFG_FLOAT("share", 1.0, CFGF_NONE),
		CONF_SIZE("memory", 0, CFGF_NODEFAULT),
		CONF_SPAN("lease", 0, CFGF_NODEFAULT),
		CFG_SEC("host", section, CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES),
		CONF_END,
	};
	auto_conf cfg_t *cfg = NULL;
	const char *text = (const char *)data, *cut = memmem(text, size, "\n---\n", 5);
	size_t first = cut ? (size_t)(cut - text) + 1 : size;

	if (conf_new(opts, &cfg, NULL) < 0)
		return 0;
	parse(cfg, text, first);
	if (cut)
		parse(cfg, cut + 5, size - first - 4);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * Configuration files on libconfuse, made strict. On top of the library's own checks: line numbers
 * count comments, a missing '}' and a key given twice are errors, every message starts with
 * "file:line: ". Comments stand on lines of their own.
 *
 * A table is an array of cfg_opt_t that ends with CONF_END. Use CONF_SIZE() and CONF_SPAN() for
 * bytes ("64K") and microseconds ("90s"); their values are read with cfg_getint().
 */
#ifndef ZR_BASE_CONF_H
#define ZR_BASE_CONF_H

#include <confuse.h>
#include <stddef.h>

#include "base/attr.h"
#include "base/err.h"

#define CONF_FILE_MAX (1u << 20)

/* The sentinel by which an unclosed section is noticed, and the end of the table. */
#define CONF_END CFG_BOOL("end_of_file", cfg_false, CFGF_NODEFAULT), CFG_END()

#define CONF_SIZE(name, bytes, flags) CFG_INT_CB(name, bytes, flags, conf_parse_size)
#define CONF_SPAN(name, usec, flags)  CFG_INT_CB(name, usec, flags, conf_parse_span)

/* Value parsers for the macros above. */
int conf_parse_size(cfg_t *cfg, cfg_opt_t *opt, const char *value, void *result);
int conf_parse_span(cfg_t *cfg, cfg_opt_t *opt, const char *value, void *result);

/* An empty configuration with the table's defaults; to be released with conf_free(). */
int conf_new(cfg_opt_t *opts, cfg_t **ret, struct err *e) must_check;
void conf_free(cfg_t *cfg);
static inline void auto_conf_(cfg_t **cfg)
{
	conf_free(*cfg);
}
#define auto_conf __attribute__((cleanup(auto_conf_)))

/* Reads a file, or text[n] named `name`, onto cfg; what an earlier file set is replaced key by key.
 * -ENOENT if the file is missing; ERR_INPUT, "name:line: …" for its content. */
int conf_file(cfg_t *cfg, int dirfd, const char *path, struct err *e) must_check;
int conf_text(cfg_t *cfg, const char *name, const char *text, size_t n, struct err *e) must_check;

/* "name: bad value for 'key': 'value' (want …)" for checks made after parsing. */
int conf_bad(struct err *e, const char *name, const char *key, const char *value, const char *want);

#endif

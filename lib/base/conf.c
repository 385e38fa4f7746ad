/* SPDX-License-Identifier: MIT */
#include "base/conf.h"

#include <string.h>

#include "base/fd.h"
#include "base/str.h"

#define SEEN_MAX 512
#define SENTINEL "end_of_file"

/*
 * libconfuse hands no user pointer to its callbacks, so the one parse that is under way is kept
 * here. conf_text() sets and clears it; parses do not nest.
 */
static struct parse {
	const char *name;
	struct err *e;
	bool failed;
	const cfg_opt_t *seen[SEEN_MAX];
	size_t n_seen;
} * current;

int conf_bad(struct err *e, const char *name, const char *key, const char *value, const char *want)
{
	return err_input(e, "%s: bad value for '%s': '%s' (want %s)", name, key, STR_ESC(value),
			 want);
}

printf_like(2, 0) static void on_error(cfg_t *cfg, const char *fmt, va_list ap)
{
	char msg[320];

	if (!current || current->failed)
		return;
	current->failed = true;
	vsnprintf(msg, sizeof(msg), fmt, ap);
	if (strstr(msg, SENTINEL))
		snprintf(msg, sizeof(msg), "missing '}' before the end of the file");
	else if (strstr(msg, "premature end of file"))
		snprintf(msg, sizeof(msg), "missing '\"' before the end of the file");
	err_input(current->e, "%s:%d: %s", current->name, cfg->line, STR_ESC(msg));
}

static int parse_value(cfg_t *cfg, cfg_opt_t *opt, const char *value, void *result,
		       int (*parse)(const char *, uint64_t *), const char *want)
{
	uint64_t v;

	if (parse(value, &v) < 0 || v > INT64_MAX) {
		cfg_error(cfg, "bad value for '%s': '%s' (want %s)", opt->name, value, want);
		return -1;
	}
	*(long *)result = (long)v;
	return 0;
}

int conf_parse_size(cfg_t *cfg, cfg_opt_t *opt, const char *value, void *result)
{
	return parse_value(cfg, opt, value, result, str_size, "e.g. 512M");
}

int conf_parse_span(cfg_t *cfg, cfg_opt_t *opt, const char *value, void *result)
{
	return parse_value(cfg, opt, value, result, str_span, "e.g. 90s, 5m, 2h");
}

/* The second assignment to the same option of one file is an error. */
static int note_assigned(cfg_t *cfg, cfg_opt_t *opt)
{
	if (!current)
		return 0;
	for (size_t i = 0; i < current->n_seen; i++) {
		if (current->seen[i] != opt)
			continue;
		cfg_error(cfg, "'%s' is given twice", opt->name);
		return -1;
	}
	if (current->n_seen < SEEN_MAX)
		current->seen[current->n_seen++] = opt;
	return 0;
}

static int on_assigned(cfg_t *cfg, cfg_opt_t *opt)
{
	return opt->type == CFGT_SEC || opt->flags & CFGF_LIST ? 0 : note_assigned(cfg, opt);
}

/* The library validates a list after each value and once more at its '}'. Values come here just
 * once each, and the first one finds the list empty but for its own place. */
static int on_list_value(cfg_t *cfg, cfg_opt_t *opt, const char *value, void *result)
{
	*(const char **)result = value;
	return cfg_opt_size(opt) == 1 ? note_assigned(cfg, opt) : 0;
}

static void watch_options(cfg_opt_t *opts)
{
	for (cfg_opt_t *o = opts; o && o->name; o++) {
		o->validcb = on_assigned;
		if (o->type == CFGT_STR && o->flags & CFGF_LIST && !o->parsecb)
			o->parsecb = on_list_value;
		if (o->type == CFGT_SEC)
			watch_options(o->subopts);
	}
}

int conf_new(cfg_opt_t *opts, cfg_t **ret, struct err *e)
{
	cfg_t *cfg = cfg_init(opts, CFGF_NONE);

	if (!cfg)
		return err_nomem(e);
	cfg_set_error_function(cfg, on_error);
	watch_options(cfg->opts);
	*ret = cfg;
	return 0;
}

void conf_free(cfg_t *cfg)
{
	if (cfg)
		cfg_free(cfg);
}

/* The library's line count goes wrong at comments: whole-line ones are blanked in place. */
static void blank_comments(char *text)
{
	for (char *line = text; line && *line;) {
		char *end = strchrnul(line, '\n');
		char *p = line + strspn(line, " \t");

		if (*p == '#')
			memset(p, ' ', (size_t)(end - p));
		line = *end ? end + 1 : NULL;
	}
}

int conf_text(cfg_t *cfg, const char *name, const char *text, size_t n, struct err *e)
{
	struct parse parse = { .name = name, .e = e };
	auto_buf struct buf b = { 0 };
	int r;

	if (memchr(text, '\0', n))
		return err_input(e, "%s: a NUL byte is not text", name);
	if (buf_add(&b, text, n) < 0 || (n && text[n - 1] != '\n' && buf_str(&b, "\n") < 0) ||
	    buf_str(&b, SENTINEL " = yes\n") < 0)
		return err_nomem(e);
	blank_comments(b.data);
	current = &parse;
	r = cfg_parse_buf(cfg, b.data);
	current = NULL;
	if (parse.failed)
		return -EINVAL;
	return r == CFG_SUCCESS ? 0 : err_input(e, "%s: not a configuration file", name);
}

int conf_file(cfg_t *cfg, int dirfd, const char *path, struct err *e)
{
	auto_buf struct buf b = { 0 };
	int r = fd_read_file(dirfd, path, CONF_FILE_MAX, &b, e);

	return r < 0 ? r : conf_text(cfg, path, b.data ? b.data : "", b.len, e);
}

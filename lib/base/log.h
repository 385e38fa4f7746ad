/* SPDX-License-Identifier: MIT */
/*
 * The daemons' log. Only programs log; libraries return errors. The sink is chosen once: the
 * journal's socket when stderr is the journal ($JOURNAL_STREAM), plain text on a terminal, else one
 * "<N>text key=value" line (sd-daemon(3)) on stderr. No call fails or changes errno.
 *
 * Levels: ERR something is given up; WARNING odd, and the text says what is done about it; NOTICE
 * the operator should know; INFO a line at the start and the end of each job; DEBUG.
 */
#ifndef ZR_BASE_LOG_H
#define ZR_BASE_LOG_H

#include <syslog.h>

#include "base/attr.h"

/* What a line is about; any member may be NULL or 0. Becomes ZR_* fields of the journal. */
struct log_ctx {
	const char *evaluation;
	const char *attempt_id;
	const char *queue;
	const char *peer;
};

void log_init(const char *program, int level_max);
void log_set_level(int level_max);
int log_level(void);
/* "err", "warning", "notice", "info", "debug"; -EINVAL otherwise. */
int log_parse_level(const char *name);

void log_at(const struct log_ctx *ctx, int level, const char *file, int line, const char *fmt, ...)
	printf_like(5, 6);

#define log_ctx(ctx, level, ...) log_at((ctx), (level), __FILE__, __LINE__, __VA_ARGS__)
#define log_err(...)             log_ctx(NULL, LOG_ERR, __VA_ARGS__)
#define log_warning(...)         log_ctx(NULL, LOG_WARNING, __VA_ARGS__)
#define log_notice(...)          log_ctx(NULL, LOG_NOTICE, __VA_ARGS__)
#define log_info(...)            log_ctx(NULL, LOG_INFO, __VA_ARGS__)
#define log_debug(...)           log_ctx(NULL, LOG_DEBUG, __VA_ARGS__)

#endif

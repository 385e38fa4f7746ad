/* SPDX-License-Identifier: MIT */
#define SD_JOURNAL_SUPPRESS_LOCATION
#include "base/log.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-journal.h>

#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"

static struct {
	const char *program;
	int level_max;
	enum {
		SINK_PREFIXED,
		SINK_JOURNAL,
		SINK_TERMINAL,
	} sink;
} state = { .program = "zr", .level_max = LOG_INFO };

static const struct {
	const char *name;
	int level;
} levels[] = {
	{ "err", LOG_ERR },   { "warning", LOG_WARNING }, { "notice", LOG_NOTICE },
	{ "info", LOG_INFO }, { "debug", LOG_DEBUG },
};

/* systemd.exec(5): $JOURNAL_STREAM is "device:inode" of the stream; it may be inherited by mistake. */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	return stream && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 &&
	       fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

void log_init(const char *program, int level_max)
{
	state.program = program;
	state.level_max = level_max;
	state.sink = stderr_is_journal()     ? SINK_JOURNAL
		     : isatty(STDERR_FILENO) ? SINK_TERMINAL
					     : SINK_PREFIXED;
}

void log_set_level(int level_max)
{
	state.level_max = level_max;
}

int log_level(void)
{
	return state.level_max;
}

int log_parse_level(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(levels); i++)
		if (strcmp(levels[i].name, name) == 0)
			return levels[i].level;
	return -EINVAL;
}

static const char *level_name(int level)
{
	for (size_t i = 0; i < ARRAY_LEN(levels); i++)
		if (levels[i].level == level)
			return levels[i].name;
	return "?";
}

struct field {
	const char *journal, *text, *value;
};

static void send_journal(const struct field *f, size_t n, int level, const char *file, int line,
			 const char *msg)
{
	char fixed[4][640], extra[4][160];
	struct iovec iov[8];
	int k = 0;

	snprintf(fixed[0], sizeof(fixed[0]), "MESSAGE=%s", msg);
	snprintf(fixed[1], sizeof(fixed[1]), "PRIORITY=%d", level);
	snprintf(fixed[2], sizeof(fixed[2]), "CODE_FILE=%s", file);
	snprintf(fixed[3], sizeof(fixed[3]), "CODE_LINE=%d", line);
	for (size_t i = 0; i < ARRAY_LEN(fixed); i++)
		iov[k++] = (struct iovec){ fixed[i], strlen(fixed[i]) };
	for (size_t i = 0; i < n; i++) {
		if (!f[i].value)
			continue;
		snprintf(extra[i], sizeof(extra[i]), "%s=%s", f[i].journal, f[i].value);
		iov[k++] = (struct iovec){ extra[i], strlen(extra[i]) };
	}
	(void)sd_journal_sendv(iov, k);
}

/* One write per line, so that lines of several processes do not mix. */
static void send_text(const struct field *f, size_t n, int level, const char *msg)
{
	auto_buf struct buf line = { 0 };
	char now[TIME_TEXT_MAX];
	int r;

	if (state.sink == SINK_TERMINAL)
		r = buf_fmt(&line, "%.8s %s %s: %s", time_text(now, time_wall_usec()) + 11,
			    state.program, level_name(level), msg);
	else
		r = buf_fmt(&line, "<%d>%s", level, msg);
	for (size_t i = 0; i < n && r == 0; i++)
		if (f[i].value)
			r = buf_fmt(&line, " %s=%s", f[i].text, f[i].value);
	if (r == 0)
		r = buf_str(&line, "\n");
	/* When even that fails there is nowhere to say so. */
	if (r == 0)
		(void)fd_write_all(STDERR_FILENO, line.data, line.len);
}

/* What a line is about comes from outside as well, so it is escaped like the text. */
#define FIELD(value) ((value) ? STR_ESC(value) : NULL)

static void send_line(const struct log_ctx *c, int level, const char *file, int line,
		      const char *msg)
{
	const struct field fields[] = {
		{ "ZR_EVALUATION", "evaluation", FIELD(c->evaluation) },
		{ "ZR_ATTEMPT", "attempt", FIELD(c->attempt_id) },
		{ "ZR_QUEUE", "queue", FIELD(c->queue) },
		{ "ZR_PEER", "peer", FIELD(c->peer) },
	};

	if (state.sink == SINK_JOURNAL)
		send_journal(fields, ARRAY_LEN(fields), level, file, line, msg);
	else
		send_text(fields, ARRAY_LEN(fields), level, msg);
}

void log_at(const struct log_ctx *ctx, int level, const char *file, int line, const char *fmt, ...)
{
	static const struct log_ctx none;
	int saved_errno = errno;
	char msg[1024], safe[600];
	va_list ap;

	if (level > state.level_max)
		return;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	str_escape(safe, sizeof(safe), msg, strlen(msg));
	send_line(ctx ? ctx : &none, level, file, line, safe);
	errno = saved_errno;
}

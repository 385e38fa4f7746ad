/* SPDX-License-Identifier: MIT */
/*
 * Progress of a job: JSON lines on ZR_PROGRESS_FD, {"fraction"} or {"done", "total"}, with an
 * optional "text", and lines of its log like "Test 15 of 200". Both are the job's claims; they are
 * bounded and cleaned here and mean nothing beyond that.
 */
#ifndef ZR_EXEC_PROGRESS_H
#define ZR_EXEC_PROGRESS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"

#define PROGRESS_LINE_MAX 4096
#define PROGRESS_TEXT_MAX 200

struct progress {
	double fraction;    /* 0 to 1, or -1: unknown */
	double done, total; /* -1: unknown */
	char text[PROGRESS_TEXT_MAX + 1];
};

/* {"fraction", "done", "total", "text"}, null for what is unknown; NULL: no memory. */
json_t *progress_json(const struct progress *p);
int progress_from_json(const json_t *o, struct progress *ret, struct err *e) must_check;

/* One line of the progress descriptor, without its newline. False: not one of ours. */
bool progress_parse_line(const char *line, size_t n, struct progress *ret);

/* Looks for progress in a line of the log. `pattern` NULL: the built-in one, which wants a word,
 * a number, "of" and a number at the start of the line. */
struct progress_pattern;
int progress_pattern_new(const char *regex, struct progress_pattern **ret,
			 struct err *e) must_check;
void progress_pattern_free(struct progress_pattern *p);
DEFINE_AUTO(progress_pattern);
bool progress_match(const struct progress_pattern *p, const char *line, size_t n,
		    struct progress *ret);

/*
 * Finds progress in a stream of bytes. It costs little however much comes: lines longer than they
 * may be are skipped, and of a flood of log lines only the last ones are looked at.
 */
enum progress_source {
	PROGRESS_DESCRIPTOR, /* every line must be one of ours: others are counted */
	PROGRESS_LOG,        /* \r ends a line too */
};
struct progress_feed {
	enum progress_source source;
	const struct progress_pattern *pattern;
	char line[PROGRESS_LINE_MAX];
	size_t len;
	bool skipping;    /* the rest of a line that was too long */
	uint64_t refused; /* lines of the descriptor that made no sense */
	uint64_t window;  /* of 100 ms, */
	unsigned looked;  /* lines looked at in it */
	bool fresh;       /* `last` is newer than the caller has seen; the caller clears it */
	struct progress last;
};
void progress_feed_init(struct progress_feed *f, enum progress_source source,
			const struct progress_pattern *pattern);
void progress_feed_add(struct progress_feed *f, const char *data, size_t n, uint64_t now_usec);
/* End of the stream: a last line without a newline counts too. */
void progress_feed_end(struct progress_feed *f);

#endif

/* SPDX-License-Identifier: MIT */
/* An evaluation on one line: as text, and as the line on stderr that follows it. */
#ifndef ZR_CMD_ZR_LINE_H
#define ZR_CMD_ZR_LINE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/str.h"

/* "running on oberon/1, run: 15 of 200 words"; foreign bytes are escaped. `width` > 0: a bar of so
 * many columns instead of the place. */
int line_text(const json_t *evaluation, int width, struct buf *b) must_check;
/* The progress alone: "15/200", "40 %", or "-". */
int line_progress(const json_t *evaluation, struct buf *b) must_check;
/* 0 to 1, or negative if it is not known. */
double line_fraction(const json_t *evaluation);

/* What was last shown of an evaluation where lines stay for ever: the steps of the progress are
 * thinned out, a change of status, worker or attempt always counts. Starts as { .fraction = -1 }. */
struct line_shown {
	json_t *head;
	double fraction;
	uint64_t at;
};
void line_shown_done(struct line_shown *s);
bool line_is_worth(struct line_shown *s, const json_t *evaluation);

/* Columns of the terminal at `fd`; 80 if it does not say. */
int line_columns(int fd);
/* Cuts a line to so many columns. */
void line_cut(struct buf *b, int columns);

/*
 * The line on stderr: on a terminal it is drawn anew in its place, elsewhere a line is printed when one
 * is worth it. Whoever prints something else in between hides it first.
 */
struct line {
	struct buf text; /* shown last */
	struct line_shown shown;
	bool drawn; /* it stands on the terminal, with the cursor at its end */
};
#define LINE_NEW                                                                                   \
	{                                                                                          \
		.shown = {.fraction = -1 }                                                         \
	}
void line_show(struct line *l, const char *title, const json_t *evaluation);
void line_hide(struct line *l);
/* Leaves it where it is. */
void line_done(struct line *l);
DEFINE_AUTO_DONE(line);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * One box in the foreground: its log goes to stderr as it comes, its progress to a line there. SIGINT,
 * SIGTERM and SIGHUP cancel the job, a second one kills it, a third one leaves at once; the keeper then
 * ends the job by itself, as it does when we are killed (spec.h, `attended`).
 */
#ifndef ZR_CMD_ZR_ATTEND_H
#define ZR_CMD_ZR_ATTEND_H

#include <jansson.h>
#include <signal.h>
#include <stdbool.h>

#include "base/attr.h"
#include "base/err.h"
#include "exec/result.h"
#include "exec/spec.h"

struct attended {
	struct box_result result;
	int signal;  /* the first that came; 0: none */
	bool left;   /* before the end: there is no result */
	bool stuck;  /* something of the job will not die, and its keeper stays */
	json_t *err; /* the last lines of standard error, a text; NULL: there are none */
};
void attended_done(struct attended *a);
DEFINE_AUTO_DONE(attended);

/* From here on these signals only set what this points to, until attend() looks after them. */
const volatile sig_atomic_t *attend_signals(void);

/* `title` stands before the progress. An error is this host's: there was no box. */
int attend(const char *state_dir, const struct box_spec *spec, const char *title,
	   struct attended *ret, struct err *e) must_check;

#endif

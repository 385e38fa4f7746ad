/* SPDX-License-Identifier: MIT */
/*
 * Levels of isolation, and what an evaluator says about the walls of its boxes. It is a part of
 * spec.json; zr-box builds the walls from it.
 */
#ifndef ZR_EXEC_SANDBOX_H
#define ZR_EXEC_SANDBOX_H

#include <jansson.h>
#include <stdbool.h>

#include "base/attr.h"
#include "base/err.h"

enum isolation {
	ISOLATION_NONE,
	ISOLATION_SANDBOX,
	ISOLATION_CONTAINER,
	ISOLATION_N,
};
const char *isolation_name(enum isolation i);
/* -EINVAL: no such level. */
int isolation_parse(const char *name, enum isolation *ret) must_check;

struct sandbox {
	enum isolation level;
	bool network;  /* the host's; otherwise there is a loopback interface and nothing else */
	bool bare;     /* of the evaluator's folder only the program itself is shown */
	bool stop;     /* at the first forbidden system call or attempt to reach a network */
	bool writes;   /* calls that change files are watched */
	bool data;     /* nothing of the submission is executed: `run` may see the reference data */
	char **mounts; /* absolute paths, shown read-only at the same place in all phases */
	char **beside; /* absolute paths, shown read-only beside the evaluator's folder, at /NAME */
	char **reference; /* absolute, or relative to the evaluator's folder: shown to `score` */
};
void sandbox_done(struct sandbox *s);

/* The member "isolation" of spec.json: {"level", "network", "bare", "data", "stop",
 * "writes", "mounts", "beside", "reference"}. */
int sandbox_from_json(const json_t *o, struct sandbox *ret, struct err *e) must_check;
json_t *sandbox_to_json(const struct sandbox *s);

/* NULL, or what is wrong with a path that is to be shown in a box: relative where it may not be, not
 * in its shortest form, or in a place that is the box's own. */
const char *sandbox_path_fault(const char *path, bool relative);
/* Is `path` the folder `dir` or in it? Both without a slash at the end. */
bool sandbox_path_in(const char *path, const char *dir);

#endif

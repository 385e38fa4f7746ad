/* SPDX-License-Identifier: MIT */
/*
 * Level `container`: what an engine, podman or docker, is to be told. Engines are driven by their
 * command lines; an image is named by its evaluator, never by a request.
 */
#ifndef ZR_EXEC_CONTAINER_H
#define ZR_EXEC_CONTAINER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"
#include "base/err.h"

/* Below the spool: how to reach the engine, written by the first keeper that used it and read by
 * `zr-box --sweep`. */
#define CONTAINER_FILE  "container.json"
#define CONTAINER_LABEL "zr.box" /* on all that we make, with the attempt_id */

struct container {
	char *engine;   /* a program: a path, or a name in the usual folders */
	char **env;     /* of the engine, not of the job */
	char *group;    /* --cgroup-parent of all boxes; NULL: the engine starts in the box's own */
	char *image;    /* name, without a digest; with `imported` that of `score`, or NULL */
	char *digest;   /* "sha256:…" that it must have; or NULL */
	char *file;     /* archive to load it from, absolute; or NULL */
	char *imported; /* a root file system of the submission's, below its folder; or NULL */
	bool pull;      /* from its registry, if it is not there */
};
void container_free(struct container *c);

/* The member "container" of spec.json. */
int container_from_json(const json_t *o, struct container **ret, struct err *e) must_check;
json_t *container_to_json(const struct container *c);

/* NULL, or what is wrong with "name[:tag][@sha256:…]". */
const char *container_image_fault(const char *image);
/* Splits it: *ret_digest is NULL where there is none. */
int container_image_split(const char *image, char **ret_name, char **ret_digest) must_check;

#endif

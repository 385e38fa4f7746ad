/* SPDX-License-Identifier: MIT */
/*
 * The rule for a path inside a sealed object, applied by the side that packs and again by the side
 * that extracts: relative, '/' between components, valid UTF-8, no control characters, no empty,
 * "." or ".." component. Two paths are twins when they differ only by letter case or by Unicode
 * normalisation: on some file systems they are one file, so only one of them is accepted.
 */
#ifndef ZR_TRANSFER_PATH_H
#define ZR_TRANSFER_PATH_H

#include <stddef.h>

#include "base/str.h"

#define PATH_BYTES_MAX 1024
#define PATH_NAME_MAX  255
#define PATH_DEPTH_MAX 64

/* NULL: the path keeps the rule; otherwise the reason in words, a constant. */
const char *path_check(const char *path, size_t n) must_check;
/* The same for one component. */
const char *path_check_name(const char *name, size_t n) must_check;

/*
 * Appends the form in which twins are equal. It maps a few more pairs to one form than Unicode
 * does (the order of combining marks is ignored), never fewer. `path` must keep the rule above.
 */
int path_fold(struct buf *b, const char *path, size_t n) must_check;

#endif

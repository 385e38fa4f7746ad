/* SPDX-License-Identifier: MIT */
/*
 * The pair protocol of zr-channel(7), dialect pike: a message is NAME.json and then an empty
 * NAME.done, which alone says that it is there. The receiver deletes both, the text first.
 */
#ifndef ZR_MESSAGING_PIKEFILE_H
#define ZR_MESSAGING_PIKEFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/str.h"

#define PIKE_MESSAGE_MAX (64u << 20)

/* Makes and opens a folder, if *fd is not the one that has this path now. 1: it is another one than
 * before. */
int pikefile_open_dir(const char *path, int *fd, struct err *e) must_check;

/* The text of a pair. -ENOENT: it is not there (yet), or no file. -EFBIG: over PIKE_MESSAGE_MAX. */
int pikefile_read(int dirfd, const char *stem, struct buf *b, struct err *e) must_check;
/* When NAME.done came. -ENOENT: it has gone. */
int pikefile_time(int dirfd, const char *stem, struct timespec *ret, struct err *e) must_check;
int pikefile_remove(int dirfd, const char *stem, struct err *e);
/* Into the folder `rejected` beside it, as it is. */
int pikefile_reject(int dirfd, const char *stem, struct err *e) must_check;

/* The text under its name, without the word that it is there. */
int pikefile_write(int dirfd, const char *stem, const void *data, size_t n,
		   struct err *e) must_check;
/* That word. What else has its name is removed. */
int pikefile_say(int dirfd, const char *stem, struct err *e) must_check;
bool pikefile_is_said(int dirfd, const char *stem);

#endif

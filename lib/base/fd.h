/* SPDX-License-Identifier: MIT */
/*
 * Descriptors and files. Every descriptor is close-on-exec; paths are (dirfd, name) pairs, AT_FDCWD
 * for the working directory. "Durable" means: content synced, renamed into place, folder synced.
 */
#ifndef ZR_BASE_FD_H
#define ZR_BASE_FD_H

#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/str.h"

/* Appends the whole file to *b. -EFBIG, ERR_INPUT: larger than max. Follows no final symlink. */
int fd_read_file(int dirfd, const char *name, size_t max, struct buf *b, struct err *e) must_check;
/* Reads to the end of `fd` under the same rule. `what` names it in errors. */
int fd_read_all(int fd, const char *what, size_t max, struct buf *b, struct err *e) must_check;

/* Writes all n bytes to a blocking descriptor. */
int fd_write_all(int fd, const void *data, size_t n);

/* Creates or replaces `name` by a temporary file and rename. `durable` as above. */
int fd_write_file(int dirfd, const char *name, const void *data, size_t n, mode_t mode,
		  bool durable, struct err *e) must_check;

/* rename() and sync of both folders. With `no_replace` -EEXIST if the target is there. */
int fd_rename_durable(int old_dirfd, const char *old_name, int new_dirfd, const char *new_name,
		      bool no_replace, struct err *e) must_check;

/* mkdir -p; existing folders are fine, their mode is left. -ENOTDIR: something else is there. */
int fd_mkdirs(const char *path, mode_t mode, struct err *e) must_check;
/* Opens a folder, O_NOFOLLOW. */
int fd_open_dir(int dirfd, const char *name, int *ret_fd, struct err *e) must_check;
/* The folder's path is made if it is missing, then opened; unlike above it may be a link. */
int fd_make_dir(const char *path, mode_t mode, int *ret_fd, struct err *e) must_check;

/* Removes a file or a tree of any depth without following links or entering a mount (-EXDEV); a
 * missing name is success. */
int fd_rmtree(int dirfd, const char *name, struct err *e) must_check;

/* Path beneath `dirfd` with no symlink in it, no way out by "..". */
int fd_open_beneath(int dirfd, const char *path, int flags, mode_t mode, int *ret_fd,
		    struct err *e) must_check;

/* One and the same file or folder? False, too, if either cannot be looked at. */
bool fd_same(int fd, int other) must_check;
/* Is `fd` what has this name now? flags: AT_SYMLINK_NOFOLLOW or 0. False, too, if nothing has it. */
bool fd_is_at(int fd, int dirfd, const char *name, int flags) must_check;

int fd_set_nonblock(int fd, bool on) must_check;

/* Exclusive flock(); -EWOULDBLOCK without `wait` if another holds it. The file is never unlinked. */
int fd_lock(int dirfd, const char *name, bool wait, int *ret_fd, struct err *e) must_check;

/* A non-blocking stream connected to the socket `name`; the descriptor or -errno. The length of the
 * folder's path does not matter. */
int fd_connect_unix(int dirfd, const char *name) must_check;

/* Bytes free for us on the file system of `path`. */
int fd_free_bytes(const char *path, uint64_t *ret, struct err *e) must_check;

#endif

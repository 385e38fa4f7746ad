/* SPDX-License-Identifier: MIT */
/*
 * Box folders that are used again: making and removing files costs more than all the rest of a
 * short job, on a file system without a journal of its own many times as much (ext4 then looks at
 * each inode that was freed in the last minute before it takes one). A spare lies in
 * <state_dir>/spool/spare/N, N < SPARES_MAX, with a spec.json of the past, an empty journal and the
 * empty job folders. Whoever has the lock on its spec.json owns it.
 */
#ifndef ZR_EXEC_SPARE_H
#define ZR_EXEC_SPARE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"

#define SPARES_MAX 32

/* The folders of a job, with mode 0700. */
extern const char *const job_folders[3];

/* Takes a spare from beside the folder `boxes`, writes its spec.json, and gives it the name of the
 * box. True: *ret_dir is the box, *ret_owner its locked spec.json. False: there is none. */
bool spare_take(int boxes, const char *id, const char *text, size_t n, int *ret_dir,
		int *ret_owner) must_check;

/* Makes a spare of the box `id`, open as `dir`, whose spec.json the caller has locked, in which nobody
 * works any more, and whose job folders are all there and pristine. False: it is a box still. */
bool spare_keep(int boxes, const char *id, int dir) must_check;

/* A folder with nothing in it, of our own, and with nothing about it that a job could have changed
 * for the next one: owner, mode, attributes, access lists. */
bool spare_is_pristine(int dirfd, const char *name);

#endif

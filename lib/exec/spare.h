/* SPDX-License-Identifier: MIT */
/*
 * Box folders that are used again: making and removing files costs more than all the rest of a
 * short job, on a file system without a journal of its own many times as much (ext4 then looks at
 * each inode that was freed in the last minute before it takes one). A spare lies in
 * <state_dir>/spool/spare/N, N < SPARES_MAX, with an empty `.spec.new`, an empty journal and, if
 * they are as a keeper makes them, the empty job folders. Whoever has the lock on its spec file
 * owns it.
 */
#ifndef ZR_EXEC_SPARE_H
#define ZR_EXEC_SPARE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"

#define SPARES_MAX 32
/* What spec.json is called until it is whole. */
#define SPEC_NEW ".spec.new"

/* The folders of a job, with mode 0700. */
extern const char *const job_folders[3];

/* Takes a spare from beside the folder `boxes`, writes and names its spec.json, and gives the box
 * its name. True: *ret_dir is the box, *ret_owner its locked spec.json. False: there is none. */
bool spare_take(int boxes, const char *id, const char *text, size_t n, int *ret_dir,
		int *ret_owner) must_check;

/* Makes a spare of the folder `name` in `boxes`, whose spec.json the caller has locked and in which
 * nobody works any more. False: it is left as it was or in part, to be removed. */
bool spare_keep(int boxes, const char *name) must_check;

/* Removes what a maker that was killed has left in between. */
void spare_sweep(int boxes);

/* A folder with nothing in it, of our own, and with nothing about it that a job could have changed
 * for the next one: owner, mode, attributes, access lists. */
bool spare_is_pristine(int dirfd, const char *name);

#endif

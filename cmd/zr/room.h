/* SPDX-License-Identifier: MIT */
/*
 * The private folder of one `zr evaluate`, state_dir of its box: ${TMPDIR:-/tmp}/zr-evaluate-XXXXXX,
 * mode 0700, held by a lock and gone at the end. XDG_RUNTIME_DIR is not its place: it is small, lies in
 * memory, and jobs work here. What killed calls left behind is removed by the next room_make().
 */
#ifndef ZR_CMD_ZR_ROOM_H
#define ZR_CMD_ZR_ROOM_H

#include <signal.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/hash.h"
#include "cli.h"

struct room {
	int fd;     /* locked */
	char *path; /* NULL: there is none */
};
#define ROOM_NEW                                                                                   \
	{                                                                                          \
		.fd = -1                                                                           \
	}

int room_make(struct room *ret, struct err *e) must_check;
/* Removes it. */
void room_done(struct room *r);
/* Leaves it to the next room_make(): something in it is still in use. */
void room_abandon(struct room *r);
DEFINE_AUTO_DONE(room);

/* Where the submission will be. -ENOMEM. */
int room_submission_dir(const struct room *r, char **ret) must_check;
/* Takes a copy of a file or folder there, packed and unpacked as any submission, so that the job gets
 * what it would get elsewhere. What is left out is said. ERR_INPUT: it is no submission; -ECANCELED:
 * *stop is not 0. */
int room_take(const struct cli *c, const struct room *r, const char *path,
	      const volatile sig_atomic_t *stop, char ret_digest[HASH_TEXT_MAX],
	      struct err *e) must_check;

/* The absolute path of a folder for a result. ERR_INPUT: something is there already. */
int room_target(const char *path, char **ret, struct err *e) must_check;
/* The same for a result that nobody gave a place: beside where rooms are made. */
int room_target_new(const char *attempt_id, char **ret, struct err *e) must_check;
/* Unpacks the sealed result of the attempt there. */
int room_publish(const struct room *r, const char *attempt_id, const char *root_hash,
		 const char *target, struct err *e) must_check;

#endif

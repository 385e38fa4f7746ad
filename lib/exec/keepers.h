/* SPDX-License-Identifier: MIT */
/*
 * The keepers of a worker: processes of `zr-box --serve`, each with one job at a time. A keeper that
 * is done with a job takes the next one, which saves the start of a process; one that nobody needs
 * for a while is let go, except for a spare. The descriptors of a box go to its keeper in one message,
 * so that box and keeper never know each other by a process id.
 *
 * What a keeper says is its box's business (exec/box). Only `ready`, which it says when it could take
 * another job and had not said so with its last word, is meant for here.
 */
#ifndef ZR_EXEC_KEEPERS_H
#define ZR_EXEC_KEEPERS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/loop.h"

struct keepers;
struct keeper_ref;

/* Keepers make their control sockets in the folder of this name beside the one of the boxes, and link
 * them into their boxes. */
#define KEEPERS_DIR "keepers"

/* `program` NULL: the zr-box beside this program. No process is started yet. */
int keepers_new(struct loop *l, const char *program, struct keepers **ret,
		struct err *e) must_check;
/* Removes the sockets that killed keepers left under <state_dir>/spool. */
void keepers_sweep(const char *state_dir);
/* After every keeper_ref was given back. Idle keepers leave; those with a job run on. NULL is fine. */
void keepers_free(struct keepers *p);
DEFINE_AUTO(keepers);

/* Lets the keepers go that have no job in hand, and says how many are still there, these until they
 * have ended. For a program that must not leave one behind: call it between turns of the loop. */
unsigned keepers_leave(struct keepers *p);

/* Starts the spare keeper, so that the first job need not wait for it. */
void keepers_warm(struct keepers *p);

/* What goes to a keeper. The descriptors stay the caller's to close. */
struct keeper_job {
	int box_dirfd;
	int journal;           /* with the lock on it */
	uint64_t lease_usec;   /* 0: as the box says */
	uint64_t at_boot_usec; /* the lease begins; 0: now */
};

/* Hands a box over; `fn` hears what its keeper says. *ret is the caller's until keeper_return() or
 * keeper_abandon(). */
int keepers_hand(struct keepers *p, const struct keeper_job *job, loop_fd_fn fn, void *user,
		 struct keeper_ref **ret, struct err *e) must_check;
/* A SOCK_SEQPACKET socket; one message is one line of JSON. */
int keeper_socket(const struct keeper_ref *k);
/* Takes it back: it has let go of the box. `ready`: it has said, too, that it can take another. */
void keeper_return(struct keeper_ref *k, bool ready);
/* Nobody here listens to it any more: it finishes its job and ends. */
void keeper_abandon(struct keeper_ref *k);

#endif

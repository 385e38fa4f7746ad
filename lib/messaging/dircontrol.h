/* SPDX-License-Identifier: MIT */
/*
 * The folder `control` of a channel that is a folder, zr-channel(7): each message is read once by
 * everybody, and stays for the others until it is old.
 */
#ifndef ZR_MESSAGING_DIRCONTROL_H
#define ZR_MESSAGING_DIRCONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "base/attr.h"
#include "base/err.h"
#include "messaging/message.h"

struct dircontrol_ops {
	void (*on_control)(void *user, const struct message *m);
	/* A file that is passed over, and why. */
	void (*on_bad)(void *user, const char *name, const char *why);
};

/* All zero: nothing was read yet. */
struct dircontrol {
	void *known; /* names that were read: tsearch(3) */
	struct timespec mtime;
};
void dircontrol_done(struct dircontrol *c);

/* Reads what is new; without `scan` only if the folder's time has changed. */
int dircontrol_read(struct dircontrol *c, int dirfd, size_t message_max, bool scan,
		    const struct dircontrol_ops *ops, void *user, struct err *e) must_check;

#endif

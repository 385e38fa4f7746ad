/* SPDX-License-Identifier: MIT */
/*
 * The network of jobs that have none: a namespace with a loopback, which costs more than any other
 * part of a sandbox. So it is kept from job to job, for as long as its counters say that nobody has
 * sent a packet in it; sockets end with the processes that have them. What somebody has used nobody
 * else gets.
 */
#ifndef ZR_CMD_ZR_BOX_JAILNET_H
#define ZR_CMD_ZR_BOX_JAILNET_H

#include <stdbool.h>

#include "base/attr.h"

enum {
	JAILNET_COUNTERS = 2,    /* /proc/net/snmp and snmp6 */
	JAILNET_TEXT_MAX = 8192, /* of one of them */
};

struct jailnet {
	int ns;      /* -1: there is none, or we are in it */
	bool inside; /* a keeper in a user namespace cannot leave it again */
	int counters
		[JAILNET_COUNTERS]; /* open files, which can be read when all in it are dead; or -1 */
	char *fresh[JAILNET_COUNTERS]; /* what they said when it was made */
};

void jailnet_init(struct jailnet *n);

/* There is one that nobody has used. `stay`: the keeper itself goes there and stays. -errno: the
 * kernel's; with *ret_lost the keeper could not come back, and is of no use for other jobs. */
int jailnet_make(struct jailnet *n, bool stay, bool *ret_lost) must_check;
/* In init. */
int jailnet_join(const struct jailnet *n) must_check;

/* Into text[JAILNET_TEXT_MAX], "" if they cannot be read. */
void jailnet_read(const struct jailnet *n, int i, char *text);
/* A phase in it is over, and `text` is what jailnet_read() gave since. */
void jailnet_settle(struct jailnet *n, char (*text)[JAILNET_TEXT_MAX]);

#endif

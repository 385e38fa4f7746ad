/* SPDX-License-Identifier: MIT */
/* What ssh.c and sftp.c share. */
#ifndef ZR_TRANSFER_SSH_IMPL_H
#define ZR_TRANSFER_SSH_IMPL_H

#include <libssh2.h>
#include <libssh2_sftp.h>

#include "transfer/ssh.h"

struct ssh {
	struct ssh_opts o;
	int fd;
	LIBSSH2_SESSION *raw;
	LIBSSH2_SFTP *sftp;
	LIBSSH2_SFTP_HANDLE *stray; /* a file that was open when the session broke */
	bool broken;                /* an error that is about the session has happened */
	uint64_t deadline;          /* of the handshake; USEC_INFINITY afterwards */
	uint64_t last_byte;         /* when one came or went, or the call began */
	uint64_t window_usec; /* waited, and bytes moved, since the last look at the floor rate */
	uint64_t window_bytes;
	char label[128]; /* "user@address:port" */
};

/* Begins an operation: the stall clock starts. */
void ssh_begin(struct ssh *s);
/*
 * For loops around a libssh2 call: false unless rc says "again"; then waits until the socket is
 * ready. When waiting fails *r is set and the loop ends. *r is 0 before.
 */
bool ssh_again(struct ssh *s, int64_t rc, int *r, struct err *e);
/* The error of the last libssh2 call. */
int ssh_fail(struct ssh *s, struct err *e, const char *fmt, ...) printf_like(3, 4);

#endif

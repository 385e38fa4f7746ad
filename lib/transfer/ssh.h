/* SPDX-License-Identifier: MIT */
/*
 * An SSH session on libssh2, against a peer that may be taken over. The session is non-blocking
 * inside; every call waits with poll() under its own deadline and the rules against stalling.
 * Host keys are pinned (transfer/hostkey.h): there is no "accept new" and no prompt. Host and user
 * keys are ed25519 or ECDSA only (libssh2 1.10 cannot sign with a current RSA algorithm), and every
 * list of algorithms is fixed here.
 *
 * Errors that need a person have codes of their own, ERR_HOST:
 *   ENOKEY           the host's key is not pinned; the text has its fingerprint and the line to add
 *   EKEYREJECTED     the host shows another key than the pinned one
 *   EKEYREVOKED      the host's key is marked @revoked
 *   EKEYEXPIRED      the host refuses our key, or our key cannot be used
 *   EPROTONOSUPPORT  no common algorithm, or no ed25519 or ECDSA host key
 * A connection that is refused, lost, slow or garbled is ERR_TRANSIENT. ECANCELED: `abort_fd` hung
 * up. After an error that is not about one file (transfer/sftp.h) the session is of no more use.
 */
#ifndef ZR_TRANSFER_SSH_H
#define ZR_TRANSFER_SSH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "transfer/hostkey.h"

struct ssh_host {
	const char *address; /* name or number */
	uint16_t port;       /* 0: 22 */
	const char *user;
};

struct ssh_keys {
	struct buf private_key; /* the file as ssh-keygen writes it, without a passphrase */
	struct buf known_hosts;
	char *known_hosts_file; /* for the words of errors */
};
/* `key_file` NULL: for ssh_scan(), which needs none. A missing known_hosts file is an empty one: every host is then unknown. */
int ssh_keys_read(const char *key_file, const char *known_hosts_file, struct ssh_keys *ret,
		  struct err *e) must_check;
void ssh_keys_done(struct ssh_keys *k); /* wipes */
DEFINE_AUTO_DONE(ssh_keys);

/* Makes the connection: resolves, connects, nothing else. Where the process may not do so any more,
 * `connect` below asks another one for the descriptor. */
int ssh_tcp_connect(const struct ssh_host *h, uint64_t timeout_usec, int *ret_fd,
		    struct err *e) must_check;
typedef int (*ssh_connect_fn)(void *user, const struct ssh_host *h, int *ret_fd, struct err *e);

struct ssh_opts {
	struct ssh_host host;
	const struct ssh_keys *keys; /* outlives the session */
	uint64_t handshake_usec;     /* connect, keys and login; 0: 20 s */
	uint64_t stall_usec;         /* no byte either way for this long is an end; 0: 30 s */
	uint64_t floor_bytes;        /* a second, over each floor_usec of waiting; 0: 1 KiB */
	uint64_t floor_usec;         /* 0: 5 minutes */
	int abort_fd;                /* watched for a hang-up while waiting; -1: none */
	ssh_connect_fn connect;      /* NULL: ssh_tcp_connect() */
	void *connect_user;
};

struct ssh;
/* Connects, checks the host's key, logs in, starts SFTP. */
int ssh_open(const struct ssh_opts *o, struct ssh **ret, struct err *e) must_check;
void ssh_free(struct ssh *s);
DEFINE_AUTO(ssh);
/* Whether an idle session still has its connection. */
bool ssh_alive(const struct ssh *s);

/* Reads the host's key without logging in, for the set-up check. *ret_state is 0 (pinned), -ENOKEY,
 * -EKEYREJECTED or -EKEYREVOKED. Needs known_hosts of o->keys only. */
int ssh_scan(const struct ssh_opts *o, struct hostkey *ret, int *ret_state,
	     struct err *e) must_check;

#endif

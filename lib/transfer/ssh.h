/* SPDX-License-Identifier: MIT */
/*
 * An SSH session with SFTP on libssh2, against a peer that may be taken over. The session is
 * non-blocking inside; every call waits with poll() under its own deadline and the stall rule.
 * Host keys are pinned: the peer must show a key that the project's known_hosts file names for it;
 * there is no "accept new" and no prompt. Host and user keys are ed25519 or ECDSA only (libssh2
 * 1.10 cannot sign with a current RSA algorithm), and every algorithm list is fixed here.
 */
#ifndef ZR_TRANSFER_SSH_H
#define ZR_TRANSFER_SSH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/str.h"

/*
 * Errors that need a person have codes of their own, ERR_HOST:
 *   ENOKEY        the host's key is not in known_hosts; the text has its fingerprint and the line to add
 *   EKEYREJECTED  the host shows another key than the pinned one
 *   EKEYREVOKED   the host's key is marked @revoked
 *   EACCES        the user's key is refused, or cannot be read
 *   EPROTONOSUPPORT  no common algorithm, or no ed25519 or ECDSA host key
 * Lost connections, refused connections and stalls are ERR_TRANSIENT. ECANCELED: `abort_fd` hung up.
 */
struct ssh_host {
	const char *address; /* name or number */
	uint16_t port;       /* 0: 22 */
	const char *user;
};

struct ssh_keys {
	struct buf
		private_key; /* the file's content, as ssh-keygen writes it, without a passphrase */
	struct buf known_hosts;
};
int ssh_keys_read(const char *key_file, const char *known_hosts_file, struct ssh_keys *ret,
		  struct err *e) must_check;
void ssh_keys_done(struct ssh_keys *k); /* wipes */

/* Makes the TCP connection: resolves, connects, and nothing else. Used as ssh_connect_fn where the
 * process may still do so; a confined process asks another one for the descriptor. */
int ssh_tcp_connect(const struct ssh_host *h, uint64_t timeout_usec, int *ret_fd,
		    struct err *e) must_check;
typedef int (*ssh_connect_fn)(void *user, const struct ssh_host *h, int *ret_fd, struct err *e);

struct ssh_opts {
	struct ssh_host host;
	const struct ssh_keys *keys;
	uint64_t handshake_usec; /* connect + keys + login, 0: 20 s */
	uint64_t stall_usec;     /* no byte for this long ends the session, 0: 30 s */
	uint64_t floor_bytes;    /* per second over 5 minutes, 0: 1 KiB */
	int abort_fd;            /* watched for a hang-up while waiting; -1: none */
	ssh_connect_fn connect;  /* NULL: ssh_tcp_connect() */
	void *connect_user;
};

struct ssh;
int ssh_open(const struct ssh_opts *o, struct ssh **ret, struct err *e) must_check;
void ssh_free(struct ssh *s);
DEFINE_AUTO(ssh);

/* Reads the peer's host key without logging in, for the set-up check: "SHA256:..." as ssh-keygen
 * prints it, the type, and the line that would pin it. `o->keys` needs known_hosts only and may be
 * NULL; *ret_state is 0 pinned, -ENOKEY, -EKEYREJECTED or -EKEYREVOKED. */
struct ssh_host_key {
	char type[32];
	char fingerprint[64];
	char *line; /* freed by the caller */
};
int ssh_scan_host_key(const struct ssh_opts *o, struct ssh_host_key *ret, int *ret_state,
		      struct err *e) must_check;

/* --- files over SFTP; one file open at a time ----------------------------------------------- */

struct ssh_file;
/* -ENOENT, -EACCES as the server says them (ERR_INPUT). */
int ssh_file_open(struct ssh *s, const char *path, struct ssh_file **ret, uint64_t *ret_size,
		  struct err *e) must_check;
/* Reads from `offset`, until n bytes or the end of the file; reads that follow each other are
 * pipelined by libssh2 in proportion to n: give 1 to 4 MiB. Returns the count. */
int64_t ssh_file_read(struct ssh_file *f, uint64_t offset, void *data, size_t n, struct err *e);
void ssh_file_free(struct ssh_file *f);
DEFINE_AUTO(ssh_file);

/* Creates or truncates, writes what `fd` holds from its start, closes. */
int ssh_put_fd(struct ssh *s, int fd, const char *path, mode_t mode, struct err *e) must_check;
int ssh_mkdir(struct ssh *s, const char *path, mode_t mode, struct err *e) must_check; /* -EEXIST */
/* Does not replace: -EEXIST. */
int ssh_rename(struct ssh *s, const char *from, const char *to, struct err *e) must_check;
int ssh_unlink(struct ssh *s, const char *path, struct err *e) must_check;
int ssh_rmdir(struct ssh *s, const char *path, struct err *e) must_check;
/* 1: there, *ret_size if it is a regular file. 0: not there. */
int ssh_stat(struct ssh *s, const char *path, bool *ret_dir, uint64_t *ret_size,
	     struct err *e) must_check;
/* Reads a small file whole. -EFBIG, ERR_INPUT: larger than max. */
int ssh_read_file(struct ssh *s, const char *path, size_t max, struct buf *b,
		  struct err *e) must_check;

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Pinned host keys: a file in the form of OpenSSH's known_hosts with plain host names, one or more
 * keys a host (two while a key is rotated). A host at another port than 22 is "[address]:port".
 * Lines marked @revoked forbid a key; hashed names, patterns and @cert-authority name nobody here.
 */
#ifndef ZR_TRANSFER_HOSTKEY_H
#define ZR_TRANSFER_HOSTKEY_H

#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

/* A key as the host showed it. */
struct hostkey {
	char type[32];        /* "ssh-ed25519", "ecdsa-sha2-nistp256", ... */
	char fingerprint[64]; /* "SHA256:..." as ssh-keygen -l prints it */
	char *base64;
};
/* From the wire form. -EINVAL: not a key of a type that we take. */
int hostkey_read(const void *blob, size_t n, struct hostkey *ret, struct err *e) must_check;
void hostkey_done(struct hostkey *k);
DEFINE_AUTO_DONE(hostkey);

/* The name a host has in the file. */
int hostkey_host(const char *address, uint16_t port, char **ret) must_check;

/* 0: pinned. -ENOKEY: nothing is pinned for `host`. -EKEYREJECTED: only other keys are; *ret_pinned
 * (may be NULL) is then the fingerprint of one. -EKEYREVOKED. */
int hostkey_check(const struct buf *known_hosts, const char *host, const struct hostkey *k,
		  char ret_pinned[64]) must_check;

/* The types that we take, those pinned for `host` first, as a comma-separated list. */
int hostkey_types(const struct buf *known_hosts, const char *host, struct buf *ret) must_check;

#endif

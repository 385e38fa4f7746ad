/* SPDX-License-Identifier: MIT */
/* Sends a sealed object to a folder at an SSH host: written under a temporary name, seen whole. */
#ifndef ZR_TRANSFER_PUSH_H
#define ZR_TRANSFER_PUSH_H

#include <stdbool.h>

#include "base/err.h"
#include "transfer/ssh.h"

/*
 * Copies <name>.tar.zst and manifest.json of the local folder `dir` to `remote_parent`/<root hash
 * in hex>/. The parent is made if it is missing (one level). *ret_already: it was there. *ret_path,
 * allocated, is the folder at the host.
 */
int push_object(struct ssh *s, const char *dir, const char *name, const char *remote_parent,
		char **ret_path, bool *ret_already, struct err *e) must_check;

#endif

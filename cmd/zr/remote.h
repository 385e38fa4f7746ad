/* SPDX-License-Identifier: MIT */
/* An SSH session with a host of the settings. */
#ifndef ZR_CMD_ZR_REMOTE_H
#define ZR_CMD_ZR_REMOTE_H

#include "base/settings.h"
#include "transfer/ssh.h"

struct remote {
	const struct settings_host *host;
	struct ssh_keys keys;
	struct ssh *ssh;
};
void remote_done(struct remote *r);
DEFINE_AUTO_DONE(remote);

/* By the name of its section. Blocks as long as fetch_timeout allows. ERR_HOST: the settings lack the
 * section or the key. *ret begins as zeros and is the caller's to end, whatever is returned. */
int remote_open(const struct settings *s, const char *name, struct remote *ret,
		struct err *e) must_check;

#endif

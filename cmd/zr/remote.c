/* SPDX-License-Identifier: MIT */
#include "remote.h"

#include "base/str.h"

void remote_done(struct remote *r)
{
	ssh_free(r->ssh);
	ssh_keys_done(&r->keys);
}

static int find(const struct settings *s, const char *name, const struct settings_host **ret,
		struct err *e)
{
	*ret = settings_find_host(s, name);
	if (!*ret)
		return err_set(
			e, ENOENT, ERR_HOST,
			"%s has no section 'host \"%s\"': add one, it says how to reach that "
			"host",
			s->file, STR_ESC(name));
	if (!s->ssh_key)
		return err_set(e, ENOENT, ERR_HOST, "no key for reaching %s: set ssh_key in %s",
			       name, s->file);
	return 0;
}

int remote_open(const struct settings *s, const char *name, struct remote *ret, struct err *e)
{
	int r = find(s, name, &ret->host, e);

	if (r < 0)
		return r;
	r = ssh_keys_read(s->ssh_key, s->ssh_known_hosts, &ret->keys, e);
	if (r == 0)
		r = ssh_open(&(struct ssh_opts){ .host = { .address = ret->host->address,
							   .port = (uint16_t)ret->host->port,
							   .user = ret->host->user },
						 .keys = &ret->keys,
						 .stall_usec = s->fetch_timeout_usec,
						 .abort_fd = -1 },
			     &ret->ssh, e);
	return r;
}

/* SPDX-License-Identifier: MIT */
/*
 * The sides of lib/transfer that no program of its own has, for the system tests:
 *
 *	transfer seal SOURCE OUT-FOLDER NAME         packs SOURCE into OUT-FOLDER/NAME
 *	transfer push DIR ADDRESS PORT USER KEY KNOWN-HOSTS REMOTE-PARENT
 *	transfer scan ADDRESS PORT KNOWN-HOSTS
 */
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "transfer/push.h"
#include "transfer/seal.h"

static int fail(const struct err *e)
{
	fprintf(stderr, "%d %s\n", e->code, e->msg);
	return 1;
}

static int seal(char **v)
{
	struct seal_part part = { .dirfd = AT_FDCWD, .source = v[0], .as = "" };
	auto_close int out = open(v[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct seal_spec spec = {
		.name = "result", .parts = &part, .n_parts = 1, .out_dirfd = out, .out_name = v[2]
	};
	struct seal_result r;
	struct err e;

	if (seal_tree(&spec, &r, &e) < 0)
		return fail(&e);
	puts(r.root_text);
	return 0;
}

static int push(char **v)
{
	auto_done(ssh_keys) k = { .known_hosts_file = NULL };
	struct ssh_opts o = {
		.host = { .address = v[1],
			  .port = (uint16_t)strtoul(v[2], NULL, 10),
			  .user = v[3] },
		.keys = &k,
		.abort_fd = -1,
	};
	auto_free char *path = NULL;
	auto_obj(ssh) s = NULL;
	struct err e;
	bool already;

	if (ssh_keys_read(v[4], v[5], &k, &e) < 0 || ssh_open(&o, &s, &e) < 0 ||
	    push_object(s, v[0], "submission", v[6], &path, &already, &e) < 0)
		return fail(&e);
	printf("%s %s\n", path, already ? "already" : "new");
	return 0;
}

static int scan(char **v)
{
	auto_done(ssh_keys) k = { .known_hosts_file = NULL };
	auto_done(hostkey) key = { .base64 = NULL };
	struct ssh_opts o = { .host = { .address = v[0],
					.port = (uint16_t)strtoul(v[1], NULL, 10) },
			      .keys = &k,
			      .abort_fd = -1 };
	struct err e;
	int state;

	if (ssh_keys_read(NULL, v[2], &k, &e) < 0 || ssh_scan(&o, &key, &state, &e) < 0)
		return fail(&e);
	printf("%s %s %d\n", key.type, key.fingerprint, state);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 5 && strcmp(argv[1], "seal") == 0)
		return seal(argv + 2);
	if (argc == 9 && strcmp(argv[1], "push") == 0)
		return push(argv + 2);
	if (argc == 5 && strcmp(argv[1], "scan") == 0)
		return scan(argv + 2);
	return 2;
}

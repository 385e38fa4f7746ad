/* SPDX-License-Identifier: MIT */
/* zr.conf: what is accepted satisfies the rules that the programs rely on. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/fd.h"
#include "base/id.h"
#include "base/settings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct settings *s)
{
	assert(id_valid(s->host) && s->state_dir && s->run_dir && s->bin_dir);
	assert(s->submissions_dir && s->results_dir && s->leaderboards_dir);
	assert(s->message_max >= 65536 && s->message_max <= 8u << 20);
	for (char **p = s->pools; p && *p; p++)
		assert(id_valid(*p));
	for (size_t i = 0; i < s->n_hosts; i++) {
		assert(id_valid(s->hosts[i].name) && s->hosts[i].address && s->hosts[i].user);
		assert(s->hosts[i].port >= 1 && s->hosts[i].port <= 65535);
	}
}

static char dir[] = "/tmp/zr-fuzz-XXXXXX", file[64];

static void remove_scratch(void)
{
	assert(fd_rmtree(AT_FDCWD, dir, NULL) == 0);
}

static void make_scratch(void)
{
	if (*file)
		return;
	assert(mkdtemp(dir));
	snprintf(file, sizeof(file), "%s/zr.conf", dir);
	atexit(remove_scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_obj(settings) s = NULL;
	struct settings_key *keys;
	struct err e = { 0 };
	size_t n;

	make_scratch();
	assert(fd_write_file(AT_FDCWD, file, data, size, 0600, false, &e) == 0);
	if (settings_load(file, &s, &e) == 0)
		check(s);
	else
		assert(e.code && strlen(e.msg) > 4);
	if (s && settings_list(file, &keys, &n, &e) == 0)
		settings_list_free(keys, n);
	return 0;
}

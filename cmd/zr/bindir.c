/* SPDX-License-Identifier: MIT */
#include "bindir.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/proc.h"
#include "base/str.h"

static bool is_set(const char *conf)
{
	struct settings_key *keys = NULL;
	bool set = false;
	size_t n = 0;

	if (settings_list(conf, &keys, &n, NULL) < 0)
		return false;
	for (size_t i = 0; i < n; i++)
		if (str_eq(keys[i].name, "bin_dir"))
			set = !str_eq(keys[i].origin, "default");
	settings_list_free(keys, n);
	return set;
}

/* 1: it is there. */
static int beside(const char *path, char **ret)
{
	auto_free char *full = realpath(path, NULL);
	struct stat st;

	if (!full || stat(full, &st) < 0 || !S_ISDIR(st.st_mode))
		return 0;
	*ret = take_ptr(full);
	return 1;
}

/* PREFIX/bin/zr has PREFIX/lib/zr/bin; build/VARIANT/bin/zr has scripts/bin. Whoever built a tree may
 * put anything into it, so that no other place above the program is looked at. */
static int find_beside(char **ret, struct err *e)
{
	auto_free char *installed = NULL, *variants = NULL, *built = NULL;
	int r = proc_sister("../lib/zr/bin", &installed, e);

	if (r == 0)
		r = proc_sister("../..", &variants, e);
	if (r == 0)
		r = proc_sister("../../../scripts/bin", &built, e);
	if (r < 0)
		return r;
	if (beside(installed, ret))
		return 1;
	free(installed);
	installed = realpath(variants, NULL);
	return installed && str_ends(installed, "/build") ? beside(built, ret) : 0;
}

int bindir_find(const struct settings *s, const char *conf, char **ret, struct err *e)
{
	int r = is_set(conf) ? 0 : find_beside(ret, e);

	if (r != 0)
		return r < 0 ? r : 0;
	*ret = strdup(s->bin_dir);
	return *ret ? 0 : err_nomem(e);
}

/* SPDX-License-Identifier: MIT */
#include "messaging/pikeclean.h"

#include <string.h>

#include "base/fd.h"
#include "base/pyjson.h"
#include "messaging/dirfile.h"
#include "messaging/pikefile.h"

static bool is_of_a_task(const struct piketask_list *tasks, const char *stem)
{
	const struct piketask *t;

	TAILQ_FOREACH (t, tasks, entry)
		if (str_eq(t->out, stem))
			return true;
	return false;
}

static bool is_result(int dirfd, const char *stem)
{
	auto_buf struct buf b = { 0 };
	struct pj m = { 0 }, type = { 0 };

	return pikefile_is_said(dirfd, stem) && pikefile_read(dirfd, stem, &b, NULL) == 0 &&
	       pj_check(b.data ? b.data : "", b.len, &m, NULL) == 0 &&
	       pj_member(m, "type", &type) && pj_is(type, "result");
}

static bool stays(int dirfd, const struct piketask_list *tasks, const char *name, bool keep)
{
	const char *dot = strrchr(name, '.');
	auto_free char *stem = dot ? strndup(name, (size_t)(dot - name)) : NULL;

	if (!stem || (!str_eq(dot, ".json") && !str_eq(dot, ".done")))
		return false;
	return is_of_a_task(tasks, stem) || (keep && is_result(dirfd, stem));
}

int pikeclean_output(int out_dirfd, const struct piketask_list *tasks, bool keep, struct err *e)
{
	auto_strv char **names = NULL;
	int r = dirfile_list(out_dirfd, "", &names, e);

	for (char **n = names; n && *n; n++) {
		bool regular = false;

		if (!stays(out_dirfd, tasks, *n, keep) &&
		    dirfile_is_regular(out_dirfd, *n, &regular, NULL) == 0 && regular)
			(void)unlinkat(out_dirfd, *n, 0);
	}
	return r;
}

static bool is_owned(const struct piketask_list *tasks, const char *name)
{
	const struct piketask *t;

	TAILQ_FOREACH (t, tasks, entry)
		if (piketask_owns(t, name))
			return true;
	return false;
}

void pikeclean_scratch(const struct pikedirs *d, const struct piketask_list *tasks, bool keep)
{
	const int folders[] = { d->torch_ext, d->triton_cache, d->code, d->eval_output, d->tmp };

	for (size_t i = 0; i < (keep ? 2 : ARRAY_LEN(folders)); i++) {
		auto_strv char **names = NULL;

		if (dirfile_list(folders[i], "", &names, NULL) < 0)
			continue;
		for (char **n = names; n && *n; n++)
			if (!is_owned(tasks, *n))
				(void)!fd_rmtree(folders[i], *n, NULL);
	}
}

uint64_t pikeclean_next_number(const struct pikedirs *d)
{
	auto_strv char **names = NULL;
	uint64_t next = 0, n;

	if (dirfile_list(d->tmp, "", &names, NULL) < 0)
		return 0;
	for (char **name = names; name && *name; name++)
		if (str_u64(*name, &n) == 0 && n >= next && n < INT64_MAX)
			next = n + 1;
	return next;
}

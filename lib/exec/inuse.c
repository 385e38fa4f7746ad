/* SPDX-License-Identifier: MIT */
#include "exec/inuse.h"

#include <dirent.h>
#include <stdlib.h>

#include "base/fd.h"
#include "base/id.h"
#include "base/str.h"
#include "exec/spec.h"

static int add_box(int boxes, const char *name, char ***to, struct err *e)
{
	auto_close int box = -1;
	auto_spec spec = NULL;
	int r = fd_open_dir(boxes, name, &box, e);

	if (r == 0)
		r = spec_read(box, &spec, e);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return err_wrap(e, "box %s", name);
	return spec && strv_add(to, spec->submission) < 0 ? err_nomem(e) : 0;
}

int inuse_submissions(const char *state_dir, char ***ret, struct err *e)
{
	auto_strv char **found = calloc(1, sizeof(char *));
	auto_free char *path = NULL;
	auto_close int boxes = -1;
	struct dirent **names = NULL;
	int n, r;

	if (!found || str_fmt(&path, "%s/spool/boxes", state_dir) < 0)
		return err_nomem(e);
	r = fd_open_dir(AT_FDCWD, path, &boxes, e);
	if (r < 0 && r != -ENOENT)
		return r;
	n = r == 0 ? scandirat(boxes, ".", &names, NULL, NULL) : 0;
	if (n < 0)
		return err_sys(e, "read %s", path);
	r = 0;
	for (int i = 0; i < n; i++) {
		/* Folders under another name are boxes in the making, or on their way out. */
		if (r == 0 && id_is_uuid(names[i]->d_name))
			r = add_box(boxes, names[i]->d_name, &found, e);
		free(names[i]);
	}
	free(names);
	if (r == 0)
		*ret = take_ptr(found);
	return r;
}

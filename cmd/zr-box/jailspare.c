/* SPDX-License-Identifier: MIT */
#include "jailspare.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "jail.h"

/* What the host mounts later below a folder that is shown is not in the tree: not for longer. */
#define AGE_MAX_USEC (60 * USEC_PER_SEC)

enum {
	/* Entries that are removed one by one; with more of them the kernel is quicker to drop all. */
	FILES_KEPT_MAX = 64,
};

void jailspare_init(struct jail_spare *s)
{
	*s = (struct jail_spare){ .mount = -1 };
}

static void jail_view_done(struct jail_view *v)
{
	free(v->state);
	free(v->sealed);
	free(v->evaluator);
	free(v->program);
	strv_free(v->mounts);
	strv_free(v->beside);
	strv_free(v->reference);
}
DEFINE_AUTO_DONE(jail_view);

static void drop(struct jail_spare *s)
{
	if (s->mount >= 0)
		close(s->mount);
	jail_binds_free(s->binds, s->n_binds);
	jail_view_done(&s->view);
	jailspare_init(s);
}

static int copy_words(char *const *from, char ***ret)
{
	for (; from && *from; from++)
		if (strv_add(ret, *from) < 0)
			return -ENOMEM;
	return 0;
}

static int view_of(const struct keeper *k, struct jail_view *ret)
{
	const struct box_spec *s = k->spec;

	ret->network = s->sandbox.network;
	ret->bare = s->sandbox.bare;
	ret->data = s->sandbox.data;
	ret->bytes = s->limits.disk_bytes;
	for (enum phase p = 0; p < PHASE_N; p++)
		ret->phases |= s->argv[p] ? 1u << p : 0;
	ret->state = jail_above(k->path, 3);
	ret->sealed = strdup(s->sealed_dir ? s->sealed_dir : "");
	ret->evaluator = strdup(s->evaluator_dir);
	/* Of a folder all is shown, whatever of it runs. */
	ret->program = strdup(s->sandbox.bare && s->argv[PHASE_RUN] ? s->argv[PHASE_RUN][0] : "");
	if (!ret->state || !ret->sealed || !ret->evaluator || !ret->program ||
	    copy_words(s->sandbox.mounts, &ret->mounts) < 0 ||
	    copy_words(s->sandbox.beside, &ret->beside) < 0 ||
	    copy_words(s->sandbox.reference, &ret->reference) < 0)
		return -ENOMEM;
	return 0;
}

static bool same_words(char *const *a, char *const *b)
{
	size_t n = strv_len(a);

	if (strv_len(b) != n)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!str_eq(a[i], b[i]))
			return false;
	return true;
}

static bool same_view(const struct jail_view *a, const struct jail_view *b)
{
	return a->network == b->network && a->bare == b->bare && a->data == b->data &&
	       a->phases == b->phases && a->bytes == b->bytes && str_eq(a->state, b->state) &&
	       str_eq(a->sealed, b->sealed) && str_eq(a->evaluator, b->evaluator) &&
	       str_eq(a->program, b->program) && same_words(a->mounts, b->mounts) &&
	       same_words(a->beside, b->beside) && same_words(a->reference, b->reference);
}

/* A file that was replaced since, by an upgrade for one, would still be seen as it was. */
static bool same_sources(const struct jail_spare *s)
{
	struct stat st;

	for (size_t i = 0; i < s->n_binds; i++) {
		const struct jail_bind *b = &s->binds[i];

		if (b->from[0] == '/' &&
		    (stat(b->from, &st) < 0 || st.st_dev != b->dev || st.st_ino != b->ino))
			return false;
	}
	return true;
}

/* What is hidden in the evaluator's folder has to be there to be hidden. */
static bool has_references(const struct jail_view *v)
{
	for (char **p = v->reference; p && *p; p++) {
		auto_free char *path = NULL;

		if (**p != '/' &&
		    (str_fmt(&path, "%s/%s", v->evaluator, *p) < 0 || access(path, F_OK) < 0))
			return false;
	}
	return true;
}

static bool fits(const struct keeper *k)
{
	const struct jail_spare *s = &k->spare;
	auto_done(jail_view) v = { 0 };

	return time_mono_usec() - s->made_usec < AGE_MAX_USEC && view_of(k, &v) == 0 &&
	       same_view(&s->view, &v) && same_sources(s) && has_references(&v);
}

static bool attach(struct keeper *k)
{
	if (mkdir(JAIL_TREE, 0700) < 0 && errno != EEXIST)
		return false;
	if (syscall(SYS_move_mount, k->spare.mount, "", AT_FDCWD, JAIL_TREE,
		    MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return false;
	k->jail->mounted = true;
	return fd_open_dir(AT_FDCWD, JAIL_TREE, &k->jail->tree, NULL) == 0;
}

bool jailspare_take(struct keeper *k)
{
	struct jail_spare *s = &k->spare;
	struct jail *j = k->jail;

	if (s->mount < 0)
		return false;
	if (!fits(k) || !attach(k)) {
		drop(s);
		if (j->mounted)
			(void)umount2(JAIL_TREE, MNT_DETACH);
		j->mounted = false;
		return false;
	}
	close(s->mount);
	s->mount = -1;
	j->made_usec = s->made_usec;
	j->files_made = s->files_made;
	j->binds = take_ptr(s->binds);
	j->n_binds = j->n_tree = s->n_binds;
	s->n_binds = 0;
	drop(s);
	return true;
}

static bool is_small(const struct jail *j)
{
	struct statfs s;

	return fstatfs(j->tree, &s) == 0 && s.f_files - s.f_ffree <= j->files_made + FILES_KEPT_MAX;
}

static bool remove_own(const struct jail *j, unsigned phases)
{
	char name[32];

	if (!is_small(j))
		return false;
	for (size_t i = 0; jail_own_folder(phases, i, name, sizeof(name)); i++)
		if (unlinkat(j->tree, name, AT_REMOVEDIR) < 0 && errno != ENOENT &&
		    fd_rmtree(j->tree, name, NULL) < 0)
			return false;
	return true;
}

bool jailspare_keep(struct keeper *k)
{
	struct jail_spare *s = &k->spare;
	struct jail *j = k->jail;
	auto_done(jail_view) v = { 0 };

	/* Not all of it was made, or it is not as it was, or nobody will come. */
	if (!j->n_tree || k->stuck || k->changed || !jail_has_own_nodes(j) || view_of(k, &v) < 0 ||
	    !remove_own(j, v.phases))
		return false;
	s->mount = (int)syscall(SYS_open_tree, AT_FDCWD, JAIL_TREE,
				OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
	if (s->mount < 0)
		return false;
	s->view = v;
	v = (struct jail_view){ 0 };
	s->made_usec = j->made_usec;
	s->files_made = j->files_made;
	/* Those of the job itself came last. */
	jail_binds_cut(j, j->n_tree);
	s->binds = take_ptr(j->binds);
	s->n_binds = j->n_binds;
	j->n_binds = 0;
	return true;
}

/* SPDX-License-Identifier: MIT */
#include "engine.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/str.h"
#include "base/time.h"
#include "exec/gpulock.h"
#include "exec/journal.h"
#include "jail.h"

#define TREE    "jail"
#define PROFILE "seccomp.json"

enum {
	QUIET_USEC = 5000000,
	QUIET_STEP = 20000,
	NOTICE_USEC = 2000000, /* what a client may take to notice an end */
};

/* The last line of what an engine said: the one with the reason. */
static const char *last_line(struct buf *b)
{
	char *line;

	while (b->len && b->data[b->len - 1] == '\n')
		b->data[--b->len] = '\0';
	line = b->len ? strrchr(b->data, '\n') : NULL;
	return line ? line + 1 : b->len ? b->data : "it says nothing";
}

/* --- before the job ------------------------------------------------------------------------------- */

static void find_program(struct keeper *k)
{
	static const char *const folders[] = { "/usr/local/bin", "/usr/bin", "/bin" };
	struct engine *g = k->engine;
	const char *name = k->spec->container->engine;

	if (strchr(name, '/'))
		g->program = strdup(name);
	for (size_t i = 0; !g->program && i < ARRAY_LEN(folders); i++)
		if (str_fmt(&g->program, "%s/%s", folders[i], name) >= 0 &&
		    access(g->program, X_OK) < 0) {
			free(g->program);
			g->program = NULL;
		}
	if (!g->program || access(g->program, X_OK) < 0)
		refuse(k, "there is no %s on this host (container_engine)", STR_ESC(name));
	else
		g->docker = strstr(strrchr(g->program, '/'), "docker") != NULL;
}

static int make_private(struct keeper *k, const char *name, struct err *e)
{
	if (mkdirat(k->tree, name, 0700) < 0 && errno != EEXIST)
		return err_sys(e, "make folder " TREE "/%s", name);
	if (k->engine->root &&
	    fchownat(k->tree, name, k->engine->uid, k->engine->uid, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys(e, "change the owner of " TREE "/%s", name);
	return 0;
}

static int make_folders(struct keeper *k, struct err *e)
{
	static const char *const names[] = { "box", "output", "box-score", "score" };
	size_t n = k->spec->argv[PHASE_SCORE] ? 4 : 2;
	int r = 0;

	if (mkdirat(k->dir, TREE, 0711) < 0 && errno != EEXIST)
		return err_sys(e, "make folder " TREE);
	r = fd_open_dir(k->dir, TREE, &k->tree, e);
	for (size_t i = 0; i < n && r == 0; i++)
		r = make_private(k, names[i], e);
	if (r == 0 && n > 2)
		k->output = "score";
	/* What is not to be seen is covered with these. */
	if (r == 0 && mkdirat(k->tree, "void", 0) < 0 && errno != EEXIST)
		r = err_sys(e, "make folder " TREE "/void");
	if (r == 0)
		r = fd_write_file(k->tree, "voidfile", "", 0, 0, false, e);
	if (r == 0)
		r = fd_write_file(k->tree, PROFILE, filter_profile(), strlen(filter_profile()),
				  0644, false, e);
	return r;
}

/* A fetched submission is its owner's alone; see jailroot.c. */
static int show_submission(struct keeper *k, struct err *e)
{
	struct engine *g = k->engine;
	struct stat st;

	g->submission = strdup(k->spec->submission);
	if (!g->submission)
		return err_nomem(e);
	if (stat(g->submission, &st) < 0)
		return err_sys(e, "%s", STR_ESC(g->submission));
	if (!g->root || (st.st_mode & 05) == 05)
		return 0;
	if (g->docker) {
		refuse(k,
		       "the submission can be read by its owner alone, and docker cannot show it "
		       "to another user");
		return 0;
	}
	free(g->submission);
	if (str_fmt(&g->submission, "%s/" TREE "/submission", k->path) < 0)
		return err_nomem(e);
	if (mkdirat(k->tree, "submission", 0755) < 0 && errno != EEXIST)
		return err_sys(e, "make folder " TREE "/submission");
	/* Seen by what we start, and gone with us. */
	return jail_show_as(k, k->spec->submission, TREE "/submission", g->uid, &st, e);
}

/* --- what others have left ------------------------------------------------------------------------- */

/* What begins with an attempt_id: its keeper is dead, or it has none. */
static bool is_abandoned(const struct keeper *k, const char *name)
{
	char id[UUID_LEN + 1], path[PATH_MAX];
	auto_close int dir = -1;

	snprintf(id, sizeof(id), "%s", name);
	if (!id_is_uuid(id) || str_eq(id, k->spec->attempt_id))
		return false;
	snprintf(path, sizeof(path), "%.*s/%s", (int)(strrchr(k->path, '/') - k->path), k->path,
		 id);
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir < 0 || journal_is_free(dir);
}

/* Engines make a group in every tree of version 1, and leave it there. */
static void remove_groups(const struct keeper *k, const char *name)
{
	char group[UUID_LEN + 8];

	snprintf(group, sizeof(group), "%.*s", (int)strlen("zr-") + UUID_LEN, name);
	if (k->spec->container->group)
		cgroup_remove_v1(k->spec->container->group, group);
}

/* Removes what `list` names, one a line, if what follows `before` in it is abandoned. */
static int sweep_list(struct keeper *k, const char *const *list, const char *before,
		      const char *remove, struct err *e)
{
	auto_buf struct buf out = { 0 };
	char *save = NULL;
	int r = engine_run(k, list, -1, false, &out, e);

	if (r > 0)
		refuse(k, "%s %s: %s", k->engine->program, list[0], STR_ESC(last_line(&out)));
	for (char *name = r == 0 && out.len ? strtok_r(out.data, "\n", &save) : NULL; name;
	     name = strtok_r(NULL, "\n", &save)) {
		auto_buf struct buf b = { 0 };

		if (!str_starts(name, before) || !is_abandoned(k, name + strlen(before)))
			continue;
		(void)!engine_run(k, (const char *[]){ remove, "-f", name, NULL }, -1, false, &b,
				  NULL);
		if (str_eq(before, "zr-"))
			remove_groups(k, name);
	}
	return r < 0 ? r : 0;
}

/* The name of images that we made of submissions. It tells our folder of boxes from another root's,
 * whose images are not ours to judge. */
static int own_images(struct keeper *k, char **ret, struct err *e)
{
	auto_free char *boxes = strndup(k->path, (size_t)(strrchr(k->path, '/') - k->path));
	struct stat st;

	if (!boxes || stat(boxes, &st) < 0)
		return err_sys(e, "look at the folder of the boxes");
	if (str_fmt(ret, "localhost/zr-submission-%llx", (unsigned long long)st.st_ino) < 0)
		return err_nomem(e);
	return 0;
}

/* Their processes were ended by whoever found the box; this is what the engine remembers of them. */
static int sweep(struct keeper *k, struct err *e)
{
	auto_free char *filter = NULL, *images = NULL, *before = NULL;
	int r = own_images(k, &images, e);

	if (r < 0)
		return r;
	if (str_fmt(&filter, "label=zr.spool=%.*s", (int)(strrchr(k->path, '/') - k->path),
		    k->path) < 0 ||
	    str_fmt(&before, "%s:", images) < 0)
		return err_nomem(e);
	r = sweep_list(
		k,
		(const char *[]){ "ps", "-a", "--filter", filter, "--format", "{{.Names}}", NULL },
		"zr-", "rm", e);
	if (r < 0 || k->decided)
		return r;
	return sweep_list(
		k,
		(const char *[]){ "images", "--format", "{{.Repository}}:{{.Tag}}", images, NULL },
		before, "rmi", e);
}

/* --- the image ------------------------------------------------------------------------------------- */

/* 1: it is there, and its ID and digests are known; 0: it is not. */
static int inspect_image(struct keeper *k, const char *name, json_t **ret, struct err *e)
{
	auto_buf struct buf out = { 0 };
	json_t *a = NULL;
	int r = engine_run(k, (const char *[]){ "image", "inspect", name, NULL }, -1, false, &out,
			   e);

	if (r != 0)
		return r < 0 ? r : 0;
	r = js_parse(out.data, out.len, JS_DEPTH_MAX, &a, e);
	if (r < 0)
		return err_wrap(e, "what the engine says of the image");
	*ret = json_incref(json_array_get(a, 0));
	json_decref(a);
	return json_is_object(*ret) ? 1 : 0;
}

/* Podman writes IDs without the kind of digest. */
static bool is_digest(const json_t *v, const char *digest)
{
	const char *s = json_string_value(v), *at = s ? strchr(s, '@') : NULL;

	s = at ? at + 1 : s;
	return s && (str_eq(s, digest) || str_eq(s, digest + strlen("sha256:")));
}

static bool has_digest(const json_t *image, const char *digest)
{
	json_t *a = json_object_get(image, "RepoDigests"), *v;
	size_t i;

	if (is_digest(json_object_get(image, "Id"), digest) ||
	    is_digest(json_object_get(image, "Digest"), digest))
		return true;
	json_array_foreach(a, i, v) if (is_digest(v, digest)) return true;
	return false;
}

/* An archive of images, or a bare root file system. */
static int load_file(struct keeper *k, struct err *e)
{
	const struct container *c = k->spec->container;
	auto_buf struct buf out = { 0 };
	int r = engine_run(k, (const char *[]){ "load", "-i", c->file, NULL }, -1, true, &out, e);

	if (r > 0) {
		out.len = 0;
		r = engine_run(k, (const char *[]){ "import", c->file, c->image, NULL }, -1, true,
			       &out, e);
	}
	if (r > 0)
		verdict(k, BOX_SETUP, "the image of %s cannot be loaded: %s", STR_ESC(c->file),
			STR_ESC(last_line(&out)));
	return r < 0 ? r : 0;
}

static int pull(struct keeper *k, struct err *e)
{
	const struct container *c = k->spec->container;
	auto_buf struct buf out = { 0 };
	auto_free char *name = NULL;
	size_t n = strlen(c->image);
	const char *colon = strrchr(c->image, ':'), *slash = strrchr(c->image, '/');
	int r;

	/* Engines take a tag or a digest, and not both. */
	if (c->digest && colon && (!slash || colon > slash))
		n = (size_t)(colon - c->image);
	r = str_fmt(&name, "%.*s%s%s", (int)n, c->image, c->digest ? "@" : "",
		    c->digest ? c->digest : "");
	if (r < 0)
		return err_nomem(e);
	r = engine_run(k, (const char *[]){ "pull", name, NULL }, -1, true, &out, e);
	if (r > 0)
		verdict(k, BOX_SETUP, "the image %s cannot be pulled: %s", STR_ESC(name),
			STR_ESC(last_line(&out)));
	if (r != 0 || !c->digest || n == strlen(c->image))
		return r < 0 ? r : 0;
	r = engine_run(k, (const char *[]){ "tag", name, c->image, NULL }, -1, false, &out, e);
	return r < 0 ? r : 0;
}

/* Of the submission, as a root file system: an archive of images could give itself any name. */
static int import(struct keeper *k, struct err *e)
{
	struct engine *g = k->engine;
	auto_close int dir = -1, fd = -1;
	auto_buf struct buf out = { 0 };
	auto_free char *own = NULL, *name = NULL;
	struct stat st;
	int r = fd_open_dir(AT_FDCWD, k->spec->submission, &dir, e);

	if (r < 0)
		return r;
	r = fd_open_beneath(dir, k->spec->container->imported, O_RDONLY | O_NONBLOCK, 0, &fd, e);
	if (r < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		verdict(k, BOX_SETUP, "the submission has no file %s to make its image of",
			STR_ESC(k->spec->container->imported));
		return 0;
	}
	r = own_images(k, &name, e);
	if (r < 0)
		return r;
	if (str_fmt(&g->tag, "%s:%s", name, k->spec->attempt_id) < 0 ||
	    str_fmt(&own, "ENV ZR_IMAGE_OF=%s", k->spec->attempt_id) < 0)
		return err_nomem(e);
	/* The same archive elsewhere would be the same image, and go with this one. */
	r = engine_run(k, (const char *[]){ "import", "--change", own, "-", g->tag, NULL }, fd,
		       true, &out, e);
	if (r > 0)
		verdict(k, BOX_SETUP, "%s of the submission is no image: %s",
			STR_ESC(k->spec->container->imported), STR_ESC(last_line(&out)));
	return r < 0 ? r : 0;
}

static int take_id(const json_t *image, char **ret, struct err *e)
{
	const char *id = json_string_value(json_object_get(image, "Id"));

	*ret = id ? strdup(id) : NULL;
	return *ret ? 0 : err_set(e, EINVAL, ERR_HOST, "the image has no ID");
}

static int need_image(struct keeper *k, char **ret, struct err *e)
{
	const struct container *c = k->spec->container;
	json_auto_t *image = NULL;
	int r = inspect_image(k, c->image, &image, e);

	if (r < 0)
		return r;
	if (!image && c->file)
		r = load_file(k, e);
	else if (!image && c->pull)
		r = pull(k, e);
	if (r < 0 || k->decided)
		return r;
	r = image ? 1 : inspect_image(k, c->image, &image, e);
	if (r < 0)
		return r;
	if (!image)
		verdict(k, BOX_SETUP, "there is no image %s on this host%s", STR_ESC(c->image),
			c->file   ? ", and its archive has none of that name"
			: c->pull ? ""
				  : "; the evaluator has neither image_file nor image_pull");
	else if (c->digest && !has_digest(image, c->digest))
		verdict(k, BOX_SETUP, "the image %s on this host is not the one with the digest %s",
			STR_ESC(c->image), c->digest);
	return k->decided ? 0 : take_id(image, ret, e);
}

static int need_imported(struct keeper *k, struct err *e)
{
	json_auto_t *image = NULL;
	int r = import(k, e);

	if (r < 0 || k->decided)
		return r;
	r = inspect_image(k, k->engine->tag, &image, e);
	return r < 0 ? r : take_id(image, &k->engine->image, e);
}

static int need_images(struct keeper *k, struct err *e)
{
	const struct container *c = k->spec->container;
	struct engine *g = k->engine;
	int r = c->image ? need_image(k, c->imported ? &g->judge : &g->image, e) : 0;

	return r < 0 || k->decided || !c->imported ? r : need_imported(k, e);
}

static int read_container(struct keeper *k, const char *spool, struct err *e)
{
	json_auto_t *o = NULL;
	auto_close int dir = -1;
	int r = fd_open_dir(AT_FDCWD, spool, &dir, e);

	if (r == 0)
		r = js_read_file(dir, CONTAINER_FILE, 1u << 16, &o, e);
	return r < 0 ? r : container_from_json(o, &k->spec->container, e);
}

int engine_sweep(struct keeper *k, const char *spool)
{
	struct err e = { 0 };
	int r;

	job_init(k);
	control_init(&k->control, -1);
	k->lease_timer = -1;
	k->spec = calloc(1, sizeof(*k->spec));
	k->engine = calloc(1, sizeof(*k->engine));
	r = k->spec && k->engine && (k->spec->attempt_id = strdup("")) &&
			    str_fmt(&k->path, "%s/boxes/-", spool) >= 0
		    ? read_container(k, spool, &e)
		    : err_nomem(&e);
	if (r == 0)
		find_program(k);
	if (r == 0 && !k->decided)
		r = sweep(k, &e);
	if (r < 0 || k->decided)
		fprintf(stderr, "zr-box: %s\n", r < 0 ? e.msg : k->detail);
	return r < 0 || k->decided;
}

/* For whoever sweeps when there is no job. Not worth an error. */
static void note_engine(struct keeper *k)
{
	static const char name[] = "../../" CONTAINER_FILE;
	json_auto_t *o = NULL;
	auto_free char *text = NULL;

	if (faccessat(k->dir, name, F_OK, 0) == 0)
		return;
	o = container_to_json(k->spec->container);
	text = o ? js_text(o) : NULL;
	if (text)
		(void)!fd_write_file(k->dir, name, text, strlen(text), 0600, false, NULL);
}

static int find_images(struct keeper *k, struct err *e)
{
	int r = k->swept ? 0 : sweep(k, e);

	if (!k->swept)
		note_engine(k);
	k->swept = true;
	return r < 0 || k->decided ? r : need_images(k, e);
}

int engine_begin(struct keeper *k, struct err *e)
{
	int r;

	if (k->spec->sandbox.level != ISOLATION_CONTAINER)
		return 0;
	k->engine = calloc(1, sizeof(*k->engine));
	if (!k->engine)
		return err_nomem(e);
	k->engine->root = geteuid() == 0;
	k->engine->uid = k->engine->root ? jail_slot_uid() : geteuid();
	isolation_check_limits(k);
	if (!k->decided)
		find_program(k);
	if (k->decided)
		return 0;
	r = make_folders(k, e);
	if (r == 0)
		r = cgroup_watch_oom(&k->cg, e);
	if (r == 0)
		r = show_submission(k, e);
	if (r < 0 || k->decided)
		return r;
	/* The first podman of a user leaves a process that holds the user namespace of all that follow:
	 * it is not the job's, and must not become our child, whom the job's end would kill. */
	if (prctl(PR_SET_CHILD_SUBREAPER, 0) < 0)
		return err_sys(e, "be no subreaper");
	r = find_images(k, e);
	if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
		return err_sys(e, "become a subreaper");
	return r == -ECANCELED ? 0 : r;
}

void engine_end(struct keeper *k)
{
	auto_buf struct buf out = { 0 };
	struct engine *g = k->engine;

	if (!g)
		return;
	if (g->tag)
		(void)!engine_run(k, (const char *[]){ "rmi", g->tag, NULL }, -1, false, &out,
				  NULL);
	jail_unshow(k, TREE "/submission");
	if (!k->stuck)
		remove_groups(k, k->cg.name);
	if (k->tree != k->dir)
		close(k->tree);
	k->tree = k->dir;
	free(g->program);
	free(g->image);
	free(g->judge);
	free(g->tag);
	free(g->submission);
	free(g);
	k->engine = NULL;
}

/* --- a phase --------------------------------------------------------------------------------------- */

/* Collects words; the first failure stays. */
struct words {
	char **v;
	int r;
};

printf_like(2, 3) static void add(struct words *w, const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (w->r >= 0 && vasprintf(&text, fmt, ap) < 0)
		w->r = -ENOMEM;
	va_end(ap);
	if (w->r >= 0)
		w->r = strv_add(&w->v, text);
	free(text);
}

static void add_bind(struct words *w, const char *from, const char *to, bool read_only)
{
	add(w, "--volume");
	add(w, "%s:%s%s", from, to, read_only ? ":ro" : "");
}

static void add_folders(const struct keeper *k, struct words *w)
{
	bool score = k->phase == PHASE_SCORE;
	char from[PATH_MAX + 32];

	add_bind(w, k->engine->submission, JAIL_SUBMISSION, true);
	add_bind(w, k->spec->evaluator_dir, JAIL_EVALUATOR, true);
	snprintf(from, sizeof(from), "%s/" TREE "/%s", k->path, score ? "box-score" : "box");
	add_bind(w, from, JAIL_BOX, false);
	snprintf(from, sizeof(from), "%s/" TREE "/%s", k->path, score ? "score" : "output");
	add_bind(w, from, JAIL_OUTPUT, false);
	snprintf(from, sizeof(from), "%s/" TREE "/output", k->path);
	if (score)
		add_bind(w, from, JAIL_RUN_OUTPUT, true);
	for (char **p = k->spec->sandbox.mounts; p && *p; p++)
		add_bind(w, *p, *p, true);
	for (char **p = k->spec->sandbox.beside; p && *p; p++)
		add_bind(w, *p, strrchr(*p, '/'), true);
}

/* Shown in phases that execute nothing of the submission, covered in the others. */
static void add_reference(const struct keeper *k, struct words *w)
{
	bool sees = k->phase == PHASE_SCORE || (k->phase == PHASE_RUN && k->spec->sandbox.data);

	for (char **p = k->spec->sandbox.reference; p && *p; p++) {
		char from[PATH_MAX * 2], to[PATH_MAX * 2];
		struct stat st;

		snprintf(from, sizeof(from), "%s%s%s", **p == '/' ? "" : k->spec->evaluator_dir,
			 **p == '/' ? "" : "/", *p);
		snprintf(to, sizeof(to), "%s%s", **p == '/' ? "" : JAIL_EVALUATOR "/", *p);
		if (**p == '/' && sees)
			add_bind(w, from, to, true);
		if (**p == '/' || sees || stat(from, &st) < 0)
			continue;
		/* Not by a tmpfs: engines fill that with what it covers. */
		snprintf(from, sizeof(from), "%s/" TREE "/%s", k->path,
			 S_ISDIR(st.st_mode) ? "void" : "voidfile");
		add_bind(w, from, to, true);
	}
}

static void add_gpus(const struct keeper *k, struct words *w)
{
	const struct gpu *g;

	if (!k->gpus)
		return;
	if (k->engine->docker) {
		auto_free char *list = NULL;

		if (gpu_hold_text(k->gpus, &list, NULL) < 0)
			w->r = -ENOMEM;
		add(w, "--gpus");
		add(w, "\"device=%s\"", list ? list : "");
		return;
	}
	for (size_t i = 0; (g = gpu_hold_gpu(k->gpus, i)); i++) {
		add(w, "--device");
		add(w, "nvidia.com/gpu=%s", g->uuid);
	}
}

/* The walls: the same for all jobs. */
static void add_walls(const struct keeper *k, struct words *w)
{
	static const char *const fixed[] = { "--pull=never",
					     "--read-only",
					     "--cap-drop=ALL",
					     "--security-opt=no-new-privileges",
					     "--hostname=box",
					     "--ipc=private",
					     "--log-driver=none",
					     "--ulimit=core=1:1",
					     "--ulimit=nofile=1024:1024",
					     "--ulimit=nproc=4096:4096" };
	const struct engine *g = k->engine;
	const struct limits *l = &k->spec->limits;
	const char *group = k->spec->container->group;

	for (size_t i = 0; i < ARRAY_LEN(fixed); i++)
		add(w, "%s", fixed[i]);
	add(w, "--workdir=%s", JAIL_BOX);
	add(w, "--security-opt=seccomp=%s/" TREE "/" PROFILE, k->path);
	add(w, "--network=%s", k->spec->sandbox.network ? "host" : "none");
	add(w, "--ulimit=fsize=%llu:%llu", (unsigned long long)l->disk_bytes,
	    (unsigned long long)l->disk_bytes);
	add(w, "--tmpfs=" JAIL_TMP ":rw,mode=1777,size=%llu", (unsigned long long)l->disk_bytes);
	/* As another user we are root inside, who is nobody but us outside. */
	if (g->root)
		add(w, "--user=%u:%u", g->uid, g->uid);
	if (group)
		add(w, "--cgroup-parent=%s/%s", str_eq(group, "/") ? "" : group, k->cg.name);
	if (!g->docker)
		add(w, "--preserve-fds=1");
}

static void add_labels(const struct keeper *k, struct words *w)
{
	add(w, "--name=%s", k->engine->name);
	add(w, "--label=" CONTAINER_LABEL "=%s", k->spec->attempt_id);
	add(w, "--label=zr.spool=%.*s", (int)(strrchr(k->path, '/') - k->path), k->path);
}

int engine_command(struct keeper *k, char *const *argv, char *const *env, char ***ret,
		   struct err *e)
{
	auto_strv char **words = jail_words(k->spec, argv), **lines = jail_lines(k, env);
	struct engine *g = k->engine;
	struct words w = { 0 };

	g->seen = false;
	g->empty_usec = 0;
	g->cpu_usec = 0;
	(void)!cgroup_cpu_usec(&k->cg, &g->cpu_usec);
	snprintf(g->name, sizeof(g->name), "zr-%s-%s", k->spec->attempt_id, phase_name(k->phase));
	if (!words || !lines)
		return err_nomem(e);
	add(&w, "%s", g->program);
	/* Groups by path, which a manager of slices would not take. */
	if (!g->docker)
		add(&w, "--cgroup-manager=cgroupfs");
	add(&w, "run");
	add_labels(k, &w);
	add_walls(k, &w);
	add_folders(k, &w);
	add_reference(k, &w);
	add_gpus(k, &w);
	for (char **p = lines; *p; p++) {
		add(&w, "--env");
		add(&w, "%s", *p);
	}
	add(&w, "--entrypoint=%s", words[0]);
	add(&w, "%s", k->phase == PHASE_SCORE && g->judge ? g->judge : g->image);
	for (char **p = words + 1; *p; p++)
		add(&w, "%s", *p);
	if (w.r < 0) {
		strv_free(w.v);
		return err_nomem(e);
	}
	*ret = w.v;
	return 0;
}

bool engine_is_over(struct keeper *k)
{
	struct engine *g = k->engine;
	bool populated = true;
	uint64_t now, cpu = 0;

	/* Where the client itself is in the groups, it is the one to end. */
	if (!k->spec->container->group || cgroup_populated(&k->cg, &populated) < 0)
		return false;
	now = time_mono_usec();
	/* A short job may be over before the first look. */
	g->seen |= populated || (cgroup_cpu_usec(&k->cg, &cpu) >= 0 && cpu > g->cpu_usec);
	if (populated || !g->seen)
		g->empty_usec = 0;
	else if (!g->empty_usec)
		g->empty_usec = now;
	return g->empty_usec && now - g->empty_usec > NOTICE_USEC;
}

void engine_quiet(struct keeper *k)
{
	uint64_t until = time_mono_usec() + QUIET_USEC;

	/* A daemon puts things away, and its client may have lost sight of it. */
	if (k->engine->docker && k->engine->empty_usec && !k->leader_ended)
		(void)kill(k->leader, SIGKILL);

	/* A container that is only now being started is found at one of the next looks. */
	while (end_reap(k, NULL) && time_mono_usec() < until) {
		(void)!cgroup_signal(&k->cg, SIGKILL);
		(void)signals_poll(NULL, 0, time_mono_usec() + QUIET_STEP);
	}
}

/* Go's times have nanoseconds. */
static uint64_t get_time(const json_t *state, const char *key)
{
	const char *s = json_string_value(json_object_get(state, key));
	char text[TIME_TEXT_MAX + 16];
	uint64_t usec = 0;
	size_t n;

	if (!s || strlen(s) >= sizeof(text) || str_starts(s, "0001-"))
		return 0;
	n = strcspn(s, ".");
	if (s[n] && n + 7 < sizeof(text)) {
		/* Six digits of a fraction are what we know. */
		size_t digits = strspn(s + n + 1, "0123456789");

		snprintf(text, sizeof(text), "%.*s%s", (int)(n + 1 + (digits < 6 ? digits : 6)), s,
			 s + n + 1 + digits);
		s = text;
	}
	return time_parse(s, &usec) == 0 ? usec : 0;
}

/* The client's own exit status may be its own or the job's; the engine knows. */
static void take_state(struct keeper *k, const json_t *state)
{
	uint64_t started = get_time(state, "StartedAt"), finished = get_time(state, "FinishedAt");
	int64_t code = json_integer_value(json_object_get(state, "ExitCode"));

	if (!started) {
		if (!k->decided)
			verdict(k, BOX_SETUP,
				"%s: the engine could not start its container; its words are at "
				"the end of standard error",
				phase_name(k->phase));
		k->exec_usec = 0;
		return;
	}
	if (finished > started && k->stop_usec > finished - started)
		k->exec_usec = k->stop_usec - (finished - started);
	/* Its client was ended by us. */
	if (finished && k->engine->empty_usec && !k->decided)
		k->leader_ended = true;
	/* As a shell has it, whoever ended it. */
	if (k->leader_ended && code >= 0 && code <= 255)
		k->leader_status =
			code > 128 && code < 128 + 65 ? (int)(code - 128) : (int)code << 8;
}

void engine_reaped(struct keeper *k)
{
	auto_buf struct buf out = { 0 }, ignored = { 0 };
	const char *name = k->engine->name;
	json_t *state = NULL;
	int r = engine_run(k,
			   (const char *[]){ "inspect", "--type", "container", "--format",
					     "{{json .State}}", name, NULL },
			   -1, false, &out, NULL);

	if (r == 0 && js_parse(out.data, out.len, JS_DEPTH_MAX, &state, NULL) == 0)
		take_state(k, state);
	else if (!k->decided)
		verdict(k, BOX_SETUP,
			"%s: the engine made no container; its words are at the end of standard "
			"error",
			phase_name(k->phase));
	json_decref(state);
	/* Also one that the engine believes to be running still. */
	(void)!engine_run(k, (const char *[]){ "rm", "-f", name, NULL }, -1, false, &ignored, NULL);
}

/* --- what the result says -------------------------------------------------------------------------- */

static int add_names(json_t *to, const struct keeper *k)
{
	const struct engine *g = k->engine;
	const struct {
		bool there;
		const char *name;
	} m[] = {
		{ !g->docker, "podman" },
		{ g->docker, "docker" },
		{ !g->root, "rootless" },
		{ k->cg.v2 >= 0, "cgroup2.kill" },
		{ k->cg.memory >= 0,
		  k->cg.memory == k->cg.v2 ? "cgroup2.memory" : "cgroup1.memory" },
		{ k->cg.pids >= 0, k->cg.pids == k->cg.v2 ? "cgroup2.pids" : "cgroup1.pids" },
		{ !k->spec->sandbox.network, "netns" },
		{ true, "read-only-root" },
		{ g->root, "slot-uid" },
		{ true, "no-new-privs" },
		{ true, "no-capabilities" },
		{ true, "seccomp" },
		{ true, "rlimits" },
		{ true, "clean-env" },
	};
	int r = 0;

	for (size_t i = 0; i < ARRAY_LEN(m) && r == 0; i++)
		if (m[i].there)
			r = json_array_append_new(to, json_string(m[i].name));
	return r;
}

static json_t *missing(const struct keeper *k)
{
	const struct engine *g = k->engine;
	const struct gap gaps[] = {
		{ true, "engine", "the walls are the engine's, and so are their faults" },
		{ true, "disk.quota",
		  "disk use is sampled, so a job can pass its limit for a moment" },
		{ true, "violations.calls", "forbidden system calls are refused, but not counted" },
		{ k->spec->sandbox.network, "network",
		  "the job can use the network, as the evaluator asks" },
		{ !g->root, "slot-uid",
		  "the job runs as the user of its worker, root in a user namespace" },
		{ !g->root, "engine.groups",
		  "128 MiB and 64 processes more are allowed: the engine is in the job's groups" },
		{ g->docker, "progress-descriptor", "there is no ZR_PROGRESS_FD; log lines count" },
		{ is_placed_badly(k), "cpuset", TIMING_GAP_CPUSET },
		{ k->spec->timing && !k->spec->timing_cpus, "timing.cpus", TIMING_GAP_CPUS },
	};

	return gaps_json(gaps, ARRAY_LEN(gaps));
}

json_t *engine_describe(const struct keeper *k)
{
	json_t *names = json_array(), *gaps = missing(k);
	const struct container *c = k->spec->container;

	if (!names || !gaps || add_names(names, k) < 0) {
		json_decref(names);
		json_decref(gaps);
		return NULL;
	}
	return json_pack("{s:s, s:s, s:o, s:o, s:o, s:s, s:{s:s?, s:s?}}", "level", "container",
			 "privilege", k->engine->root ? "root" : "rootless", "mechanisms", names,
			 "missing", gaps, "limits", limits_to_json(&k->spec->limits), "network",
			 k->spec->sandbox.network ? "host" : "none", "image", "name",
			 c->imported ? k->engine->tag : c->image, "id", k->engine->image);
}

/* SPDX-License-Identifier: MIT */
/*
 * worker:container: a worker of the dialect pike in a container that keeps it from everything but its
 * folders. The channel's folder gets
 *
 *	input/ output/         the pairs, bound into the container
 *	ready.txt              "1": this host has been given; it says nothing of the worker
 *	tmp/ cache/ scratch/   made anew; of apptainer only, the others have them in memory
 *	passwd                 one line, so that the user has a name in there
 *
 * That the worker is there its answer to a handshake tells.
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/daemon.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/json.h"
#include "base/str.h"
#include "base/time.h"
#include "child.h"
#include "commands.h"
#include "exec/gpu.h"
#include "messaging/pikefile.h"
#include "messaging/pikepairs.h"

#define HANDSHAKE     "{\"type\": \"handshake\"}"
#define LOOK_USEC     (100 * USEC_PER_MSEC)
#define AGAIN_USEC    (5 * USEC_PER_SEC)
#define TASKS_MAX     1024
#define IMAGE_DEFAULT "kernel-bench-deps"

enum engine {
	DOCKER,
	PODMAN,
	PODMAN_HPC,
	APPTAINER,
	ENGINE_N,
};

static const char *const engine_names[ENGINE_N] = { "docker", "podman", "podman-hpc", "apptainer" };

struct launch {
	struct cli *c;
	enum engine engine;
	const char *arch, *image, *sif, *gpus;
	char io[PATH_MAX], app[PATH_MAX];
	uint64_t tasks, wait_usec;
	bool pull, shell, dry;
	struct gpu_list *list; /* NULL: all of them, or none */
	char **argv;
	struct err *e;
};

/* --- the command ---------------------------------------------------------------------------- */

static int add(struct launch *l, const char *word)
{
	return strv_add(&l->argv, word);
}

static int add_words(struct launch *l, const char *const *words)
{
	int r = 0;

	for (; *words && r == 0; words++)
		r = add(l, *words);
	return r;
}

static bool is_ours(const struct launch *l, const struct gpu *g)
{
	return !*g->parent && gpu_matches(g, l->arch, 0);
}

/* "GPU-…,GPU-…" of those that fit. */
static int join_gpus(const struct launch *l, struct buf *b)
{
	int r = 0;

	for (size_t i = 0; i < l->list->n && r == 0; i++)
		if (is_ours(l, &l->list->gpu[i]))
			r = buf_fmt(b, "%s%s", b->len ? "," : "", l->list->gpu[i].uuid);
	return r;
}

static int add_gpus_docker(struct launch *l)
{
	auto_buf struct buf b = { 0 };
	int r = 0;

	if (!l->list)
		return add_words(l, (const char *const[]){ "--gpus", "all", NULL });
	/* A list of lists: the quotes belong to the word. */
	r = join_gpus(l, &b);
	if (r == 0)
		r = add(l, "--gpus");
	return r < 0 ? r : strv_addf(&l->argv, "\"device=%s\"", b.data);
}

static int add_gpus_podman(struct launch *l)
{
	int r = 0;

	if (!l->list)
		return add(l, "--device=nvidia.com/gpu=all");
	for (size_t i = 0; i < l->list->n && r == 0; i++)
		if (is_ours(l, &l->list->gpu[i]))
			r = strv_addf(&l->argv, "--device=nvidia.com/gpu=%s", l->list->gpu[i].uuid);
	return r;
}

static int add_gpus_apptainer(struct launch *l)
{
	auto_buf struct buf b = { 0 };
	int r = add(l, "--nv");

	if (r < 0 || !l->list)
		return r;
	r = join_gpus(l, &b);
	return r < 0 ? r : strv_addf(&l->argv, "--env=CUDA_VISIBLE_DEVICES=%s", b.data);
}

/* All that the batch job was allotted. */
static int add_gpus_hpc(struct launch *l)
{
	return add(l, "--gpu");
}

static int add_gpus(struct launch *l)
{
	static int (*const words[ENGINE_N])(struct launch * l) = {
		[DOCKER] = add_gpus_docker,
		[PODMAN] = add_gpus_podman,
		[PODMAN_HPC] = add_gpus_hpc,
		[APPTAINER] = add_gpus_apptainer,
	};

	return str_eq(l->gpus, "none") ? 0 : words[l->engine](l);
}

static int add_bind(struct launch *l, const char *option, const char *folder, const char *to,
		    const char *mode)
{
	return strv_addf(&l->argv, "--%s=%s%s:%s%s", option, folder, to, to, mode);
}

/* All memory of a container like docker's that can be written, and executed where code is built. */
static int add_docker(struct launch *l)
{
	static const char *const walls[] = { "--cap-drop=ALL",
					     "--security-opt=no-new-privileges",
					     "--network=none",
					     "--read-only",
					     "--tmpfs=/tmp:rw,nosuid,nodev,exec,mode=1777",
					     "--tmpfs=/cache:rw,nosuid,nodev,exec,mode=1777",
					     "--tmpfs=/scratch:rw,nosuid,nodev,exec,mode=1777",
					     NULL };
	int r = add_words(l, (const char *const[]){ "run", "--rm", "-i", NULL });

	if (r == 0 && isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1)
		r = add(l, "-t");
	if (r == 0)
		r = add_gpus(l);
	if (r == 0)
		r = add_words(l, walls);
	if (r == 0)
		r = strv_addf(&l->argv, "--user=%u:%u", getuid(), getgid());
	if (r == 0)
		r = add_bind(l, "volume", l->io, "/input", "");
	if (r == 0)
		r = add_bind(l, "volume", l->io, "/output", "");
	if (r == 0)
		r = strv_addf(&l->argv, "--volume=%s/passwd:/etc/passwd:ro", l->io);
	if (r == 0)
		r = strv_addf(&l->argv, "--volume=%s:/app:ro", l->app);
	if (r == 0 && l->pull)
		r = add(l, "--pull=always");
	return r < 0 ? r : add(l, l->image);
}

static int add_apptainer(struct launch *l)
{
	static const char *const folders[] = { "/input", "/output", "/tmp", "/cache", "/scratch" };
	int r = add_words(l, (const char *const[]){ "exec", "--containall", "--no-privs", NULL });

	if (r == 0)
		r = add_gpus(l);
	for (size_t i = 0; i < ARRAY_LEN(folders) && r == 0; i++)
		r = add_bind(l, "bind", l->io, folders[i], "");
	if (r == 0)
		r = strv_addf(&l->argv, "--bind=%s:/app:ro", l->app);
	return r < 0 ? r : add(l, l->sif);
}

static int add_worker(struct launch *l)
{
	static const char *const worker[] = { "zr",
					      "worker:run:eval",
					      "--dialect=pike",
					      "--input-dir=/input",
					      "--output-dir=/output",
					      "--scratch-dir=/scratch",
					      "--eval-script=/app/scripts/eval.py",
					      NULL };
	int r;

	if (l->shell)
		return add(l, "bash");
	r = add_words(l, worker);
	if (r == 0)
		r = strv_addf(&l->argv, "--arch=%s", l->arch);
	return r < 0 ? r
		     : strv_addf(&l->argv, "--max-active-tasks=%llu", (unsigned long long)l->tasks);
}

static int compose(struct launch *l)
{
	int r = add(l, engine_names[l->engine]);

	if (r == 0)
		r = l->engine == APPTAINER ? add_apptainer(l) : add_docker(l);
	if (r == 0)
		r = add_worker(l);
	return r < 0 ? err_nomem(l->e) : 0;
}

static int print_command(const struct launch *l)
{
	auto_buf struct buf b = { 0 };
	int r = 0;

	for (char *const *w = l->argv; *w && r == 0; w++) {
		bool plain = strspn(*w, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
					"0123456789-_=/:.,@%+") == strlen(*w);

		r = b.len ? buf_str(&b, " ") : 0;
		if (r == 0)
			r = plain && **w ? buf_str(&b, *w) : buf_quoted(&b, *w);
	}
	if (r < 0)
		return err_nomem(l->e);
	puts(b.data);
	return 0;
}

/* --- the folders ---------------------------------------------------------------------------- */

static int write_passwd(const struct launch *l, int io)
{
	const char *user = getenv("USER"), *home = getenv("HOME");
	auto_buf struct buf b = { 0 };

	if (!user || !*user || strpbrk(user, ":\n"))
		user = "worker";
	if (!home || strpbrk(home, ":\n"))
		home = "/";
	if (buf_fmt(&b, "%s:x:%u:%u::%s:/bin/sh\n", user, getuid(), getgid(), home) < 0)
		return err_nomem(l->e);
	return fd_write_file(io, "passwd", b.data, b.len, 0644, false, l->e);
}

static int make_folder(const struct launch *l, const char *name, bool anew)
{
	auto_free char *path = NULL;
	int r = str_fmt(&path, "%s/%s", l->io, name) < 0 ? err_nomem(l->e) : 0;

	if (r == 0 && anew)
		r = fd_rmtree(AT_FDCWD, path, l->e);
	return r < 0 ? r : fd_mkdirs(path, 0775, l->e);
}

static int make_folders(const struct launch *l)
{
	static const char *const anew[] = { "tmp", "cache", "scratch" };
	auto_close int io = -1;
	int r = make_folder(l, "input", false);

	if (r == 0)
		r = make_folder(l, "output", false);
	for (size_t i = 0; i < ARRAY_LEN(anew) && r == 0; i++)
		r = make_folder(l, anew[i], true);
	if (r == 0)
		r = fd_open_dir(AT_FDCWD, l->io, &io, l->e);
	if (r == 0 && l->engine != APPTAINER)
		r = write_passwd(l, io);
	return r < 0 ? r : fd_write_file(io, "ready.txt", "1", 1, 0664, false, l->e);
}

/* --- until it is there ---------------------------------------------------------------------- */

struct hail {
	int input, output;
	char stem[UUID_LEN + 1]; /* "": nothing was said yet */
	uint64_t said_usec;
};

static void hail_done(struct hail *h)
{
	if (h->input >= 0)
		close(h->input);
	if (h->output >= 0)
		close(h->output);
}

static int hail_open(const struct launch *l, struct hail *h)
{
	auto_free char *input = NULL, *output = NULL;
	int r;

	*h = (struct hail){ .input = -1, .output = -1 };
	if (str_fmt(&input, "%s/input", l->io) < 0 || str_fmt(&output, "%s/output", l->io) < 0)
		return err_nomem(l->e);
	r = fd_open_dir(AT_FDCWD, input, &h->input, l->e);
	return r < 0 ? r : fd_open_dir(AT_FDCWD, output, &h->output, l->e);
}

static bool is_handshake(int dirfd, const char *stem)
{
	auto_buf struct buf b = { 0 };
	json_auto_t *o = NULL;
	const char *type = NULL;

	return pikefile_read(dirfd, stem, &b, NULL) == 0 && b.len < 1024 &&
	       js_parse(b.data ? b.data : "", b.len, JS_DEPTH_MAX, &o, NULL) == 0 &&
	       js_str(o, "type", 32, &type, NULL) == 0 && str_eq(type, "handshake");
}

/* An answer that nobody else has taken is ours to take. */
static bool is_answered(const struct hail *h)
{
	struct pikepairs q;
	struct pair *a;
	bool yes = false;

	pikepairs_init(&q);
	if (pikepairs_list(&q, h->output, NULL) == 0)
		TAILQ_FOREACH (a, &q.unread, entry) {
			yes = is_handshake(h->output, a->stem);
			if (!yes)
				continue;
			(void)pikefile_remove(h->output, a->stem, NULL);
			break;
		}
	pikepairs_done(&q);
	return yes;
}

/* A driver that starts empties the folder, so once more now and then. */
static int say(const struct launch *l, struct hail *h)
{
	uint64_t now = time_mono_usec();
	int r;

	if (*h->stem && now - h->said_usec < AGAIN_USEC)
		return 0;
	if (*h->stem)
		(void)pikefile_remove(h->input, h->stem, NULL);
	h->said_usec = now;
	r = pikefile_write(h->input, id_uuid7(h->stem), HANDSHAKE, strlen(HANDSHAKE), l->e);
	return r < 0 ? r : pikefile_say(h->input, h->stem, l->e);
}

/* 0: it is there, or has not answered in time; 1: it has ended, with *ret. */
static int await(const struct launch *l, struct hail *h, pid_t pid, int *ret)
{
	uint64_t until = time_mono_usec() + l->wait_usec;
	char span[32];

	while (time_mono_usec() < until) {
		int r = say(l, h);

		if (r < 0)
			return r;
		child_signal(pid, child_next_signal(time_mono_usec() + LOOK_USEC));
		*ret = child_status(pid);
		if (*ret != -EAGAIN)
			return 1;
		if (!is_answered(h))
			continue;
		cli_say("zr worker:container: the worker is ready");
		return 0;
	}
	(void)pikefile_remove(h->input, h->stem, NULL);
	cli_say("zr worker:container: no answer from the worker within %s, waiting no longer; it "
		"goes "
		"on",
		str_span_text(span, sizeof(span), l->wait_usec));
	return 0;
}

static int run(struct launch *l, const char *path, int *ret)
{
	__attribute__((cleanup(hail_done))) struct hail h;
	pid_t pid;
	int r = hail_open(l, &h);

	if (r < 0)
		return r;
	child_block_signals();
	r = child_start(path, l->argv, NULL, &pid, l->e);
	if (r < 0)
		return r;
	r = l->shell ? 0 : await(l, &h, pid, ret);
	if (r == 1)
		return 0;
	if (r < 0)
		cli_say("zr worker:container: %s", l->e->msg);
	*ret = child_follow(pid);
	return 0;
}

/* --- the call ------------------------------------------------------------------------------- */

static int choose_io(const struct launch *l, const char *path, char out[PATH_MAX])
{
	char cwd[PATH_MAX];
	int n;

	if (*path != '/' && !getcwd(cwd, sizeof(cwd)))
		return err_sys(l->e, "find the working folder");
	n = *path == '/' ? snprintf(out, PATH_MAX, "%s", path)
			 : snprintf(out, PATH_MAX, "%s/%s", cwd, path);
	return n < PATH_MAX ? 0 : err_input(l->e, "the path %s is too long", STR_ESC(path));
}

static int choose_app(const struct launch *l, const char *path, char out[PATH_MAX])
{
	auto_free char *script = NULL;

	if (!realpath(path, out))
		return err_set(l->e, errno, ERR_INPUT, "the folder %s: %s", STR_ESC(path),
			       strerror(errno));
	if (str_fmt(&script, "%s/scripts/eval.py", out) < 0)
		return err_nomem(l->e);
	if (!l->shell && access(script, R_OK) < 0)
		return err_set(l->e, errno, ERR_INPUT,
			       "%s: %s (say --app-dir, the folder that has it)", STR_ESC(script),
			       strerror(errno));
	return 0;
}

static int choose_folders(struct launch *l, const char *io, const char *app)
{
	int r = choose_io(l, io, l->io);

	if (r == 0)
		r = choose_app(l, app, l->app);
	if (r == 0 && (strpbrk(l->io, ":,\n") || strpbrk(l->app, ":,\n")))
		r = err_input(l->e,
			      "%s and %s cannot both be bound: engines mind ':' and ',' in names",
			      STR_ESC(l->io), STR_ESC(l->app));
	return r;
}

static int choose_gpus(struct launch *l, const char *library)
{
	auto_buf struct buf b = { 0 };
	int r;

	if (l->gpus || l->engine == PODMAN_HPC)
		return 0;
	r = gpu_probe(library, &l->list, l->e);
	if (r < 0)
		return r;
	if (l->list->is_double)
		cli_say("zr worker:container: these are fake GPUs");
	if (l->list->state != GPUS_READY)
		return err_set(
			l->e, ENODEV, ERR_HOST,
			"no GPU can be chosen: %s (say --gpus all to leave it to the engine, "
			"or --gpus none)",
			STR_ESC(l->list->error));
	if (join_gpus(l, &b) < 0)
		return err_nomem(l->e);
	if (!b.len)
		return err_set(
			l->e, ENODEV, ERR_HOST,
			"this host has no GPU of the architecture %s ('zr gpus' shows what it "
			"has)",
			STR_ESC(l->arch));
	return 0;
}

static int check(struct launch *l, const char *engine)
{
	struct cli *c = l->c;

	while (l->engine < ENGINE_N && !str_eq(engine, engine_names[l->engine]))
		l->engine++;
	if (l->engine == ENGINE_N)
		return cli_usage(c,
				 "bad value for --engine: '%s' (want docker, podman, podman-hpc or "
				 "apptainer)",
				 STR_ESC(engine));
	if (!l->arch)
		return cli_usage(c, "--arch is missing, e.g. --arch Hopper");
	if (gpu_arch_fault(l->arch))
		return cli_usage(c, "bad value for --arch: '%s' (%s)", STR_ESC(l->arch),
				 gpu_arch_fault(l->arch));
	if ((l->engine == APPTAINER) != !!l->sif)
		return cli_usage(c, l->sif ? "--sif-path is for --engine apptainer"
					   : "apptainer needs --sif-path FILE");
	if (l->tasks < 1 || l->tasks > TASKS_MAX)
		return cli_usage(c, "bad value for --max-active-tasks (want 1 to %d)", TASKS_MAX);
	if (l->gpus && !str_eq(l->gpus, "all") && !str_eq(l->gpus, "none"))
		return cli_usage(c, "bad value for --gpus: '%s' (want all or none)",
				 STR_ESC(l->gpus));
	return CLI_DONE;
}

static int launch(struct launch *l)
{
	auto_obj(settings) s = NULL;
	auto_free char *path = NULL;
	int status = 0, r;

	if (!cli_settings(l->c, &s))
		return l->c->status;
	r = choose_gpus(l, s->cuda_library);
	if (r == 0)
		r = compose(l);
	if (r == 0 && l->dry)
		return print_command(l) < 0 ? cli_fail(l->c, l->e) : CLI_DONE;
	if (r == 0)
		r = child_find(l->argv[0], &path, l->e);
	if (r == 0)
		r = make_folders(l);
	if (r == 0)
		r = run(l, path, &status);
	return r < 0 ? cli_fail(l->c, l->e) : status;
}

int cmd_worker_container(struct cli *c)
{
	/* Of the launcher that this stands for. */
	static const char *const original[] = {
		"engine",        "sif-path",         "arch", "bash", "pull-image",
		"worker-io-dir", "max-active-tasks", NULL
	};
	struct err e = { 0 };
	struct launch l = {
		.c = c, .image = IMAGE_DEFAULT, .tasks = 20, .wait_usec = 60 * USEC_PER_SEC, .e = &e
	};
	const char *engine = "docker", *io = "worker_io", *app = ".";
	const struct cli_opt opts[] = {
		{ "engine", 0, CLI_TEXT, &engine, "NAME",
		  "docker (default), podman, podman-hpc, apptainer" },
		{ "arch", 0, CLI_TEXT, &l.arch, "ARCH", "of the GPUs, and of what is built" },
		{ "image", 0, CLI_TEXT, &l.image, "NAME", "has zr in it; default: " IMAGE_DEFAULT },
		{ "pull-image", 0, CLI_FLAG, &l.pull, NULL, "fetch the image first" },
		{ "sif-path", 0, CLI_TEXT, &l.sif, "FILE", "apptainer's image" },
		{ "worker-io-dir", 0, CLI_TEXT, &io, "DIR", "the channel; default: worker_io" },
		{ "app-dir", 0, CLI_TEXT, &app, "DIR", "has scripts/eval.py; default: here" },
		{ "max-active-tasks", 0, CLI_COUNT, &l.tasks, "N", "at once; default: 20" },
		{ "gpus", 0, CLI_TEXT, &l.gpus, "all|none", "instead of those of --arch" },
		{ "wait", 0, CLI_SPAN, &l.wait_usec, "SPAN",
		  "for the worker's first answer; default: 1m" },
		{ "bash", 0, CLI_FLAG, &l.shell, NULL, "a shell instead of the worker" },
		{ "dry-run", 0, CLI_FLAG, &l.dry, NULL, "print the command and do nothing" },
		{ 0 },
	};
	int status;

	daemon_spell(c->argc, c->argv, original);
	if (!cli_parse(c, opts, 0, 0))
		return c->status;
	status = check(&l, engine);
	if (status == CLI_DONE)
		status = choose_folders(&l, io, app) < 0 ? cli_fail(c, &e) : launch(&l);
	gpu_list_free(l.list);
	strv_free(l.argv);
	return status;
}

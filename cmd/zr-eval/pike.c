/* SPDX-License-Identifier: MIT */
#include "pike.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/str.h"
#include "cache.h"
#include "exec/evaluator.h"
#include "fetch.h"

#define TASKS_DEFAULT 20
#define TASKS_MAX     1024
#define WALL_DEFAULT  (900 * USEC_PER_SEC)
#define WALL_MAX      (7 * 86400 * USEC_PER_SEC)
#define GRACE_DEFAULT (60 * USEC_PER_SEC)
#define DRAIN_DEFAULT (60 * USEC_PER_SEC)
/* Scratch folders are small file systems in memory as often as not. */
#define RESERVE (16u << 20)
/* For a GPU; with the usual limit of time it stays below the hour that drivers wait for an answer. */
#define GPU_WAIT_USEC (40 * 60 * USEC_PER_SEC)

void pike_setup_done(struct pike_setup *p)
{
	for (size_t i = 0; i < p->n_folders; i++) {
		free(p->folders[i].input);
		free(p->folders[i].output);
	}
	free(p->folders);
	evaluator_free(p->evaluator);
	free(p->scratch);
	free(p->script);
	free(p->work_dir);
	free(p->environ_file);
}

bool pike_is_asked_for(const char *const *given)
{
	for (int i = PIKE_INPUT_DIR; i < PIKE_OPTION_N; i++)
		if (given[i])
			return true;
	return str_eq(given[PIKE_DIALECT], "pike");
}

/* --- options ------------------------------------------------------------------------------- */

/* An absolute path: jobs have another working folder. */
static int absolute(const char *path, char **ret, struct err *e)
{
	char cwd[PATH_MAX];

	if (*path == '/')
		*ret = strdup(path);
	else if (!getcwd(cwd, sizeof(cwd)))
		return err_sys(e, "find the working folder");
	else if (str_fmt(ret, "%s/%s", cwd, path) < 0)
		*ret = NULL;
	return *ret ? 0 : err_nomem(e);
}

/* As it was said, or a part of the channel's folder, or the place that containers have it at. */
static int choose_dir(const char *folder, const char *given, const char *name, char **ret,
		      struct err *e)
{
	auto_free char *path = NULL;

	if (given)
		return absolute(given, ret, e);
	if (str_fmt(&path, "%s/%s", folder ? folder : "", name) < 0)
		return err_nomem(e);
	return absolute(path, ret, e);
}

static int add_folders(struct pike_setup *p, const char *folder, const char *input,
		       const char *output, struct err *e)
{
	struct pike_folders *more = realloc(p->folders, (p->n_folders + 1) * sizeof(*more));
	struct pike_folders *f;
	int r;

	if (!more)
		return err_nomem(e);
	p->folders = more;
	f = &more[p->n_folders++];
	*f = (struct pike_folders){ NULL, NULL };
	r = choose_dir(folder, input, "input", &f->input, e);
	return r < 0 ? r : choose_dir(folder, output, "output", &f->output, e);
}

/* Each further channel has its parts under its folder; the first may have them elsewhere. Their names
 * are in the records of tasks. */
static int choose_folders(const char *const *given, const struct daemon_options *o,
			  const struct settings *s, struct pike_setup *p, struct err *e)
{
	const char *input = given[PIKE_INPUT_DIR], *output = given[PIKE_OUTPUT_DIR];
	int r = 0;

	if (o->n_more && (input || output))
		return err_input(e, "say either --input-dir and --output-dir or several channels");
	r = add_folders(p, settings_channel_folder(s), input, output, e);
	for (size_t i = 0; i < o->n_more && r == 0; i++) {
		const char *folder = settings_folder_of(o->more[i]);

		if (!folder || !str_utf8_valid(folder, strlen(folder)))
			return err_input(e, "bad value for --channel: '%s' (want dir:FOLDER)",
					 STR_ESC(o->more[i]));
		r = add_folders(p, folder, NULL, NULL, e);
	}
	p->conf.folders = p->folders;
	p->conf.n_folders = p->n_folders;
	return r;
}

static int choose_span(const char *given, const char *option, uint64_t otherwise, uint64_t max,
		       uint64_t *ret, struct err *e)
{
	*ret = otherwise;
	if (!given || (str_span(given, ret) == 0 && *ret > 0 && *ret <= max))
		return 0;
	return err_input(e, "bad value for --%s: '%s' (want e.g. 90s)", option, STR_ESC(given));
}

static int choose_script(const char *given, char **ret, struct err *e)
{
	const char *path = given ? given : "scripts/eval.py";

	if (access(path, R_OK) < 0)
		return err_set(e, errno, ERR_INPUT,
			       "the evaluation script %s cannot be read: %s (say --eval-script)",
			       STR_ESC(path), strerror(errno));
	return absolute(path, ret, e);
}

/* As execvp() finds it. */
static int find_python(char **ret, struct err *e)
{
	const char *path = getenv("PATH"), *next;

	path = path ? path : "/bin:/usr/bin";
	for (const char *p = path; p; p = next) {
		auto_free char *file = NULL;
		size_t n = strcspn(p, ":");
		struct stat st;

		next = p[n] ? p + n + 1 : NULL;
		if (str_fmt(&file, "%.*s/python", (int)(n ? n : 1), n ? p : ".") < 0)
			return err_nomem(e);
		if (access(file, X_OK) < 0 || stat(file, &st) < 0 || !S_ISREG(st.st_mode))
			continue;
		return absolute(file, ret, e);
	}
	return err_set(e, ENOENT, ERR_HOST, "there is no program 'python' in PATH (%s)",
		       STR_ESC(path));
}

/* *ret: it is `yes`, not `no` or what holds otherwise. */
static int choose_word(const char *given, const char *option, const char *no, const char *yes,
		       bool *ret, struct err *e)
{
	*ret = str_eq(given, yes);
	if (!given || *ret || str_eq(given, no))
		return 0;
	return err_input(e, "bad value for --%s: '%s' (want %s or %s)", option, STR_ESC(given), no,
			 yes);
}

static int set_text(char **setting, const char *base, const char *name, struct err *e)
{
	char *text = NULL;

	if (str_fmt(&text, "%s/%s", base, name) < 0)
		return err_nomem(e);
	free(*setting);
	*setting = text;
	return 0;
}

static int choose_all(const char *const *given, const struct daemon_options *o,
		      const struct settings *s, struct pike_setup *p, struct err *e)
{
	auto_free char *python = NULL;
	int r = choose_folders(given, o, s, p, e);

	if (r == 0)
		r = choose_dir(settings_channel_folder(s), given[PIKE_SCRATCH_DIR], "scratch",
			       &p->scratch, e);
	if (r == 0)
		r = choose_script(given[PIKE_EVAL_SCRIPT], &p->script, e);
	if (r == 0)
		r = find_python(&python, e);
	if (r == 0)
		r = choose_span(given[PIKE_WALL_LIMIT], "wall-limit", WALL_DEFAULT, WALL_MAX,
				&p->wall_usec, e);
	if (r == 0)
		r = choose_span(given[PIKE_GRACE], "grace", GRACE_DEFAULT, WALL_MAX,
				&p->conf.grace_usec, e);
	if (r == 0)
		r = choose_span(given[PIKE_DRAIN_LIMIT], "drain-limit", DRAIN_DEFAULT, WALL_MAX,
				&p->conf.drain_usec, e);
	if (r == 0)
		r = choose_span(given[PIKE_MAX_AGE], "max-age", 0, WALL_MAX, &p->conf.age_max_usec,
				e);
	if (r == 0)
		r = choose_word(given[PIKE_GPU_LOCK], "gpu-lock", "script", "box", &p->box_locks,
				e);
	if (r == 0)
		r = choose_word(given[PIKE_TASK_FILES], "task-files", "remove", "keep",
				&p->conf.keep_files, e);
	p->arch = given[PIKE_ARCH];
	p->conf.scratch = p->scratch;
	p->conf.own_locks = p->box_locks;
	return r;
}

static int choose_places(const char *given, struct daemon_options *o, struct err *e)
{
	uint64_t n = TASKS_DEFAULT;

	if (given && (str_u64(given, &n) < 0 || n < 1 || n > TASKS_MAX))
		return err_input(e, "bad value for --max-active-tasks: '%s' (want 1 to %d)",
				 STR_ESC(given), TASKS_MAX);
	if (o->workers > 1)
		return err_input(e, "the dialect pike has one worker: say --max-active-tasks "
				    "instead of -w");
	o->prefetch = (unsigned)n;
	return 0;
}

/* The state lies in the scratch folder: it belongs to these tasks and goes with them. At the limit a
 * task is killed, not asked. */
int pike_apply(const char *const *given, struct daemon_options *o, struct settings *s,
	       struct pike_setup *p, struct err *e)
{
	auto_done(pike_setup) own = { 0 };
	struct pike_setup *to = p ? p : &own;
	int r;

	if (given[PIKE_DIALECT] && !str_eq(given[PIKE_DIALECT], "pike"))
		return str_eq(given[PIKE_DIALECT], "native")
			       ? err_input(e, "the options of the dialect pike say something only "
					      "with --dialect pike")
			       : err_input(e, "there is no dialect '%s' (want native or pike)",
					   STR_ESC(given[PIKE_DIALECT]));
	if (!given[PIKE_ARCH] || !*given[PIKE_ARCH])
		return err_input(e, "the dialect pike needs --arch, e.g. --arch Hopper");
	r = choose_places(given[PIKE_MAX_ACTIVE_TASKS], o, e);
	if (r == 0)
		r = choose_all(given, o, s, to, e);
	if (r == 0)
		r = set_text(&s->state_dir, to->scratch, "zr", e);
	/* The lock of each GPU is the one that the scripts of others know, too. */
	if (r == 0 && to->box_locks)
		r = set_text(&s->gpu_index_lock_dir, to->scratch, "gpu_locks", e);
	if (r == 0 && to->box_locks)
		r = set_text(&s->gpu_lock_dir, to->scratch, "zr/gpus", e);
	s->term_grace_usec = 0;
	if (s->spool_reserve > RESERVE)
		s->spool_reserve = RESERVE;
	return r;
}

/* --- the evaluator ------------------------------------------------------------------------- */

/* What is not about this very process. */
static bool is_passed_on(const char *variable)
{
	static const char *const own[] = { "_=",
					   "PWD=",
					   "OLDPWD=",
					   "SHLVL=",
					   "NOTIFY_SOCKET=",
					   "WATCHDOG_PID=",
					   "WATCHDOG_USEC=",
					   "LISTEN_" };

	if (!strchr(variable, '='))
		return false;
	for (size_t i = 0; i < ARRAY_LEN(own); i++)
		if (str_starts(variable, own[i]))
			return false;
	return true;
}

static bool is_boxs(const char *variable)
{
	return str_starts(variable, "CUDA_VISIBLE_DEVICES=") ||
	       str_starts(variable, "CUDA_DEVICE_ORDER=");
}

/* Not all of them are UTF-8, which what a keeper is told must be: so they are in a file. */
static int write_environment(struct pike_setup *p, const struct settings *s, struct err *e)
{
	auto_buf struct buf b = { 0 };
	int r = 0;

	if (str_fmt(&p->environ_file, "%s/environ", s->state_dir) < 0)
		return err_nomem(e);
	for (char **v = environ; *v && r == 0; v++)
		if (is_passed_on(*v) && !(p->box_locks && is_boxs(*v)))
			r = buf_add(&b, *v, strlen(*v) + 1);
	if (r < 0)
		return err_nomem(e);
	r = fd_mkdirs(s->state_dir, 0750, e);
	return r < 0 ? r : fd_write_file(AT_FDCWD, p->environ_file, b.data, b.len, 0600, false, e);
}

static int make_evaluator(struct pike_setup *p, const struct settings *s, struct err *e)
{
	struct evaluator *ev;
	int r = evaluator_new(PIKE_EVALUATOR, s->state_dir, &p->evaluator, e);

	if (r < 0)
		return r;
	ev = p->evaluator;
	ev->limits.wall_usec[PHASE_RUN] = p->wall_usec;
	ev->isolation_given = true;
	if (p->box_locks) {
		ev->gpus = 1;
		ev->gpu_wait_usec = GPU_WAIT_USEC;
	}
	return strv_add(&ev->argv[PHASE_RUN], p->script) < 0 ? err_nomem(e) : 0;
}

static int word_at(const json_t *words, size_t i, const char **ret, struct err *e)
{
	*ret = json_string_value(json_array_get(words, i));
	return *ret ? 0 : err_input(e, "a task has no level, task, number and mode");
}

static int add_option(char ***argv, const char *name, const char *value)
{
	int r = strv_add(argv, name);

	return r < 0 ? r : strv_add(argv, value);
}

static int add_words(const struct pike_setup *p, const char *const w[4], char ***argv)
{
	const char *s = p->scratch;
	int r = strv_add(argv, p->script);

	if (r >= 0)
		r = add_option(argv, "--level", w[0]);
	if (r >= 0)
		r = add_option(argv, "--task", w[1]);
	if (r >= 0)
		r = strv_add(argv, "--code-path");
	if (r >= 0)
		r = strv_addf(argv, "%s/code/task_%s_%s_%s.py", s, w[0], w[1], w[2]);
	if (r >= 0)
		r = strv_add(argv, "--output-path");
	if (r >= 0)
		r = strv_addf(argv, "%s/eval_output/task_%s_%s_%s.json", s, w[0], w[1], w[2]);
	if (r >= 0)
		r = strv_add(argv, "--gpu-locks-dir");
	/* A script that has one GPU finds it as number 0 and nobody else in that number's lock. */
	if (r >= 0)
		r = p->box_locks ? strv_addf(argv, "%s/tmp/%s/" PIKE_OWN_LOCKS, s, w[2])
				 : strv_addf(argv, "%s/gpu_locks", s);
	return r < 0 ? r : add_option(argv, "--mode", w[3]);
}

static int add_variables(const struct pike_setup *p, const char *number, char ***env)
{
	int r = strv_addf(env, "TORCH_CUDA_ARCH_LIST=%s", p->arch);

	if (r >= 0)
		r = strv_addf(env, "TORCH_EXTENSIONS_DIR=%s/torch_ext/%s", p->scratch, number);
	if (r >= 0)
		r = strv_addf(env, "TRITON_CACHE_DIR=%s/triton_cache/%s", p->scratch, number);
	return r < 0 ? r : strv_addf(env, "TMPDIR=%s/tmp/%s", p->scratch, number);
}

int pike_command(const struct pike_setup *p, const json_t *words, struct box_spec *spec,
		 struct err *e)
{
	auto_strv char **argv = NULL, **env = NULL;
	auto_free char *python = NULL;
	const char *w[4] = { NULL };
	int r = find_python(&python, e);

	for (size_t i = 0; i < ARRAY_LEN(w) && r == 0; i++)
		r = word_at(words, i, &w[i], e);
	if (r < 0)
		return r;
	spec->environ_file = strdup(p->environ_file);
	spec->work_dir = strdup(p->work_dir);
	spec->called = strdup("python");
	if (strv_add(&argv, python) < 0 || add_words(p, w, &argv) < 0 ||
	    add_variables(p, w[2], &env) < 0 || !spec->environ_file || !spec->work_dir ||
	    !spec->called)
		return err_nomem(e);
	strv_free(spec->argv[PHASE_RUN]);
	spec->argv[PHASE_RUN] = take_ptr(argv);
	strv_free(spec->env);
	spec->env = take_ptr(env);
	return 0;
}

static int make_submission(const struct settings *s, struct err *e)
{
	auto_free char *files = NULL, *copy = NULL;
	int r = fetch_cache_dir(s, PIKE_DIGEST, &files, e);

	if (r < 0 || fetch_is_cached(files))
		return r;
	copy = strndup(files, strlen(files) - strlen("/" CACHE_FILES));
	r = copy ? fd_mkdirs(files, 0750, e) : err_nomem(e);
	return r < 0 ? r : cache_seal(copy, e);
}

/* For those who wait for the worker's host; it says nothing of the worker. */
static int say_ready(const char *folder, struct err *e)
{
	auto_free char *path = NULL;
	int r = fd_mkdirs(folder, 0775, e);

	if (r < 0)
		return r;
	if (str_fmt(&path, "%s/ready.txt", folder) < 0)
		return err_nomem(e);
	return fd_write_file(AT_FDCWD, path, "1", 1, 0664, false, e);
}

int pike_prepare(struct pike_setup *p, const struct daemon_options *o, const struct settings *s,
		 struct err *e)
{
	int r = fd_mkdirs(p->scratch, 0775, e);

	p->work_dir = getcwd(NULL, 0);
	if (r == 0 && !p->work_dir)
		r = err_sys(e, "find the working folder");
	if (r == 0)
		r = write_environment(p, s, e);
	if (r == 0)
		r = make_evaluator(p, s, e);
	if (r == 0)
		r = make_submission(s, e);
	if (r == 0 && settings_channel_folder(s))
		r = say_ready(settings_channel_folder(s), e);
	for (size_t i = 0; i < o->n_more && r == 0; i++)
		r = say_ready(settings_folder_of(o->more[i]), e);
	return r;
}

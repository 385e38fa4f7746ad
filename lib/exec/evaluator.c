/* SPDX-License-Identifier: MIT */
#include "exec/evaluator.h"

#include <dirent.h>
#include <fnmatch.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include "base/fd.h"
#include "base/id.h"
#include "base/json.h"
#include "base/str.h"
#include "exec/cpus.h"
#include "exec/evalconf.h"

#define CONF_MAX      (256u << 10)
#define INDEX_MAX     (4u << 20)
#define ARGS_MAX      256
#define ARG_BYTES_MAX 65536

void evaluator_free(struct evaluator *ev)
{
	if (!ev)
		return;
	free(ev->name);
	free(ev->dir);
	free(ev->file);
	free(ev->description);
	for (enum phase p = 0; p < PHASE_N; p++)
		strv_free(ev->argv[p]);
	strv_free(ev->args);
	strv_free(ev->allow_args);
	free(ev->arch);
	free(ev->gpu_arch);
	strv_free(ev->mounts);
	strv_free(ev->beside);
	strv_free(ev->reference);
	free(ev->scores_file);
	free(ev->progress_pattern);
	free(ev->claimed_time);
	free(ev->image);
	free(ev->image_file);
	free(ev->submission_image);
	strv_free(ev->env);
	free(ev);
}

/* --- finding and reading ---------------------------------------------------------------------- */

static int real_path(int fd, char **ret, struct err *e)
{
	char link[40], path[PATH_MAX];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n < 0)
		return err_sys(e, "read %s", link);
	path[n] = '\0';
	if (!str_utf8_valid(path, (size_t)n))
		return err_set(e, EINVAL, ERR_HOST, "the path '%s' is not UTF-8", STR_ESC(path));
	*ret = strdup(path);
	return *ret ? 0 : err_nomem(e);
}

static int open_bin_dir(const char *bin_dir, int *ret_fd, struct err *e)
{
	/* The bin folder itself may well be a link: it is the operator's setting. */
	int fd = open(bin_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return err_sys(e, "open the bin folder %s", STR_ESC(bin_dir));
	*ret_fd = fd;
	return 0;
}

static int read_file(struct evaluator *ev, int dirfd, struct err *e)
{
	auto_buf struct buf b = { 0 };
	auto_close int fd = -1;
	struct stat st;
	int r = fd_open_beneath(dirfd, EVALUATOR_FILE, O_RDONLY | O_NONBLOCK, 0, &fd, e);

	if (r < 0)
		return r == -ENOENT ? err_set(e, ENOENT, ERR_HOST, "%s is missing", ev->file)
				    : err_wrap(e, "%s", ev->dir);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_mode & S_IWOTH)
		return err_set(e, EINVAL, ERR_HOST,
			       "%s must be a regular file that not everybody may change", ev->file);
	r = fd_read_all(fd, ev->file, CONF_MAX, &b, e);
	return r < 0 ? r : evalconf_read(ev, dirfd, b.data ? b.data : "", b.len, e);
}

static int load_folder(struct evaluator *ev, int fd, struct err *e)
{
	int r = real_path(fd, &ev->dir, e);

	if (r < 0)
		return r;
	if (str_fmt(&ev->file, "%s/" EVALUATOR_FILE, ev->dir) < 0)
		return err_nomem(e);
	return read_file(ev, fd, e);
}

static int load_bare(struct evaluator *ev, int bin_fd, const struct stat *st, struct err *e)
{
	int r = real_path(bin_fd, &ev->dir, e);

	if (r < 0)
		return r;
	ev->bare = true;
	if (str_fmt(&ev->file, "%s/%s", ev->dir, ev->name) < 0 ||
	    strv_add(&ev->argv[PHASE_RUN], ev->file) < 0)
		return err_nomem(e);
	if (faccessat(bin_fd, ev->name, X_OK, AT_EACCESS) < 0)
		return err_set(e, EACCES, ERR_HOST, "%s is not executable", ev->file);
	if (st->st_mode & S_IWOTH)
		return err_set(e, EACCES, ERR_HOST, "%s may be changed by everybody on this host",
			       ev->file);
	return 0;
}

static int new_evaluator(const char *name, struct evaluator **ret, struct err *e)
{
	struct evaluator *ev = calloc(1, sizeof(*ev));

	if (!ev)
		return err_nomem(e);
	*ret = ev;
	ev->name = strdup(name);
	return ev->name ? evalconf_defaults(ev, e) : err_nomem(e);
}

static int no_such(const char *name, struct err *e)
{
	return err_set(e, ENOENT, ERR_INPUT, "there is no evaluator '%s' on this host",
		       STR_ESC(name));
}

static int load_at(int bin_fd, const char *name, struct evaluator **ret, struct err *e)
{
	auto_obj(evaluator) ev = NULL;
	auto_close int fd = -1;
	struct err why = { 0 };
	struct stat st;
	int r;

	if (!id_valid(name))
		return no_such(name, e);
	r = fd_open_beneath(bin_fd, name, O_PATH, 0, &fd, &why);
	/* Too many open files, for one: it may well be there. */
	if (r < 0 && why.kind == ERR_TRANSIENT)
		return err_set(e, why.code, why.kind, "look for evaluator '%s': %s", name, why.msg);
	if (r < 0 || fstat(fd, &st) < 0)
		return no_such(name, e);
	if (S_ISLNK(st.st_mode))
		return err_set(e, ELOOP, ERR_HOST,
			       "evaluator '%s' is a symbolic link, which is not followed", name);
	r = new_evaluator(name, &ev, e);
	if (r < 0)
		return r;
	if (S_ISDIR(st.st_mode))
		r = load_folder(ev, fd, e);
	else if (S_ISREG(st.st_mode))
		r = load_bare(ev, bin_fd, &st, e);
	else
		r = no_such(name, e);
	if (r == 0)
		*ret = take_ptr(ev);
	return r;
}

int evaluator_load(const char *bin_dir, const char *name, struct evaluator **ret, struct err *e)
{
	auto_close int fd = -1;
	int r = open_bin_dir(bin_dir, &fd, e);

	return r < 0 ? r : load_at(fd, name, ret, e);
}

int evaluator_new(const char *name, const char *dir, struct evaluator **ret, struct err *e)
{
	auto_obj(evaluator) ev = NULL;
	int r = new_evaluator(name, &ev, e);

	if (r < 0)
		return r;
	ev->dir = strdup(dir);
	if (!ev->dir)
		return err_nomem(e);
	*ret = take_ptr(ev);
	return 0;
}

int evaluator_load_dir(const char *dir, struct evaluator **ret, struct err *e)
{
	auto_obj(evaluator) ev = NULL;
	auto_free char *path = NULL;
	auto_close int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (fd < 0)
		return err_sys(e, "open folder %s", STR_ESC(dir));
	r = real_path(fd, &path, e);
	if (r < 0)
		return r;
	if (!id_valid(strrchr(path, '/') + 1))
		return err_input(e, "'%s' is not a name for an evaluator", STR_ESC(path));
	r = new_evaluator(strrchr(path, '/') + 1, &ev, e);
	if (r == 0)
		r = load_folder(ev, fd, e);
	if (r == 0)
		*ret = take_ptr(ev);
	return r;
}

/* Files that cannot be run are no evaluators: a README, say. Folders always claim to be one. */
static bool candidate(int fd, const char *name)
{
	struct stat st;

	return id_valid(name) && fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       (S_ISDIR(st.st_mode) || S_ISLNK(st.st_mode) ||
		(S_ISREG(st.st_mode) && st.st_mode & 0111));
}

static int add_entry(int fd, const char *name, struct evaluator_entry *to, struct err *e)
{
	struct err why = { 0 };

	to->name = strdup(name);
	if (!to->name)
		return err_nomem(e);
	if (load_at(fd, name, &to->ev, &why) < 0)
		to->error = strdup(why.msg);
	return to->ev || to->error ? 0 : err_nomem(e);
}

int evaluator_list(const char *bin_dir, struct evaluator_entry **ret, size_t *ret_n, struct err *e)
{
	struct evaluator_entry *list = NULL;
	struct dirent **names = NULL;
	auto_close int fd = -1;
	size_t used = 0;
	int n, r = open_bin_dir(bin_dir, &fd, e);

	if (r < 0)
		return r;
	n = scandirat(fd, ".", &names, NULL, alphasort);
	if (n < 0)
		return err_sys(e, "read the bin folder %s", STR_ESC(bin_dir));
	list = calloc((size_t)n + 1, sizeof(*list));
	r = list ? 0 : err_nomem(e);
	for (int i = 0; i < n; i++) {
		if (r == 0 && candidate(fd, names[i]->d_name))
			r = add_entry(fd, names[i]->d_name, &list[used++], e);
		free(names[i]);
	}
	free(names);
	if (r < 0) {
		evaluator_list_free(list, used);
		return r;
	}
	*ret = list;
	*ret_n = used;
	return 0;
}

void evaluator_list_free(struct evaluator_entry *list, size_t n)
{
	for (size_t i = 0; list && i < n; i++) {
		free(list[i].name);
		free(list[i].error);
		evaluator_free(list[i].ev);
	}
	free(list);
}

static json_t *phases_json(const struct evaluator *ev)
{
	json_t *a = json_array();

	for (enum phase p = 0; a && p < PHASE_N; p++)
		if (ev->argv[p] && json_array_append_new(a, json_string(phase_name(p))) < 0) {
			json_decref(a);
			return NULL;
		}
	return a;
}

json_t *evaluator_json(const struct evaluator *ev)
{
	return json_pack(
		"{s:s, s:s?, s:b, s:s, s:o, s:o, s:o, s:i, s:s?, s:I, s:s?, s:b, s:i, s:s, s:b, "
		"s:f, s:I}",
		"name", ev->name, "description", ev->description, "bare", ev->bare, "isolation",
		isolation_name(ev->isolation), "phases", phases_json(ev), "limits",
		limits_to_json(&ev->limits), "allow_args", js_strings(ev->allow_args), "gpus",
		(int)ev->gpus, "gpu_arch", ev->gpu_arch, "gpu_memory_bytes",
		(json_int_t)ev->gpu_memory_bytes, "arch", ev->arch, "network", ev->network,
		"retries", (int)ev->retries, "scores", ev->scores_file, "scores_required",
		ev->scores_required, "cpus", (double)ev->cpu_percent / 100, "cpu_weight",
		(json_int_t)ev->cpu_weight);
}

json_t *evaluator_index(const struct evaluator_entry *list, size_t n)
{
	json_t *a = json_array();

	for (size_t i = 0; a && i < n; i++) {
		const struct evaluator_entry *x = &list[i];
		json_t *o = x->ev ? evaluator_json(x->ev)
				  : json_pack("{s:s, s:o}", "name", x->name, "error",
					      js_from_bytes(x->error, strlen(x->error)));

		if (json_array_append_new(a, o) == 0)
			continue;
		json_decref(a);
		return NULL;
	}
	return a;
}

static bool is_there(int dir, const char *name, const char *text)
{
	auto_buf struct buf b = { 0 };

	return fd_read_file(dir, name, INDEX_MAX, &b, NULL) == 0 && str_eq(b.data, text);
}

int evaluator_index_write(const char *state_dir, const struct evaluator_entry *list, size_t n,
			  struct err *e)
{
	json_t *a = evaluator_index(list, n);
	auto_free char *text = a ? js_pretty(a) : NULL;
	auto_close int dir = -1;
	int r = text ? fd_open_dir(AT_FDCWD, state_dir, &dir, e) : err_nomem(e);

	json_decref(a);
	if (r < 0 || is_there(dir, EVALUATOR_INDEX_FILE, text))
		return r;
	return fd_write_file(dir, EVALUATOR_INDEX_FILE, text, strlen(text), 0644, false, e);
}

/* --- from an evaluator and a request to a box -------------------------------------------------- */

int evaluator_runnable(const struct evaluator *ev, struct err *e)
{
	struct utsname u;

	if (ev->arch && (uname(&u) < 0 || !str_eq(u.machine, ev->arch)))
		return err_set(e, ENOTSUP, ERR_HOST,
			       "evaluator '%s' asks for arch = \"%s\", this host is %s", ev->name,
			       ev->arch, u.machine);
	return 0;
}

int evaluator_gpus(const struct evaluator *ev, const struct gpu_list *list,
		   struct gpu_request **ret, struct err *e)
{
	auto_free char *who = NULL;
	int r;

	*ret = NULL;
	if (!ev->gpus)
		return 0;
	if (str_fmt(&who, "evaluator '%s'", ev->name) < 0)
		return err_nomem(e);
	r = gpu_request_new(list, who, ev->gpus, ev->gpu_arch, ev->gpu_memory_bytes, ret, e);
	if (r == 0)
		(*ret)->wait_usec = ev->gpu_wait_usec;
	return r;
}

static bool arg_allowed(const struct evaluator *ev, const char *word)
{
	for (char **p = ev->allow_args; p && *p; p++)
		if (str_eq(*p, "any") || fnmatch(*p, word, 0) == 0)
			return true;
	return false;
}

int evaluator_check_args(const struct evaluator *ev, char *const *args, struct err *e)
{
	size_t bytes = 0;

	if (strv_len(args) > ARGS_MAX)
		return err_input(e, "the request has more than %d arguments", ARGS_MAX);
	for (; args && *args; args++) {
		bytes += strlen(*args);
		if (bytes > ARG_BYTES_MAX)
			return err_input(e, "the request's arguments have more than %d bytes",
					 ARG_BYTES_MAX);
		if (!ev->allow_args)
			return err_input(e, "evaluator '%s' takes no arguments from a request",
					 ev->name);
		if (!arg_allowed(ev, *args))
			return err_input(e, "evaluator '%s' does not allow the argument '%s'",
					 ev->name, STR_ESC(*args));
	}
	return 0;
}

static int add_words(char ***to, char *const *from)
{
	for (; from && *from; from++)
		if (strv_add(to, *from) < 0)
			return -ENOMEM;
	return 0;
}

static int plan_commands(const struct evaluator *ev, const struct evaluator_job *job,
			 struct box_spec *s)
{
	for (enum phase p = 0; p < PHASE_N; p++) {
		if (!ev->argv[p])
			continue;
		if (add_words(&s->argv[p], ev->argv[p]) < 0)
			return -ENOMEM;
		if (p == PHASE_RUN &&
		    (add_words(&s->argv[p], ev->args) < 0 || add_words(&s->argv[p], job->args) < 0))
			return -ENOMEM;
		if (strv_add(&s->argv[p], job->submission) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* Others in the bin folder, by their paths. */
static int add_beside(const struct evaluator *ev, char ***to)
{
	int n = (int)(strrchr(ev->dir, '/') - ev->dir);

	for (char **p = ev->beside; p && *p; p++) {
		auto_free char *path = NULL;

		if (str_fmt(&path, "%.*s/%s", n, ev->dir, *p) < 0 || strv_add(to, path) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int plan_sandbox(const struct evaluator *ev, struct box_spec *s)
{
	s->sandbox = (struct sandbox){
		.level = ev->isolation,
		.network = ev->network,
		.bare = ev->bare,
		.data = ev->submission_data,
		.stop = ev->stop_on_violation,
		.writes = ev->watch_writes,
	};
	if (ev->isolation == ISOLATION_NONE)
		return 0;
	return add_words(&s->sandbox.mounts, ev->mounts) < 0 ||
			       add_beside(ev, &s->sandbox.beside) < 0
		       ? -ENOMEM
		       : add_words(&s->sandbox.reference, ev->reference);
}

/* What the job will not use is not told: the keeper looks for all that it is told. */
static int plan_groups(const struct evaluator *ev, const struct evaluator_job *job,
		       struct box_spec *s, struct err *e)
{
	struct cgroup_host h = *job->cgroup;

	s->cpu_percent = ev->cpu_percent;
	s->cpu_weight = ev->cpu_weight;
	if (!ev->cpu_percent && !ev->cpu_weight) {
		h.v1_cpu = NULL;
		h.v2_cpu = false;
	}
	if (ev->isolation == ISOLATION_NONE)
		h.v1_devices = NULL;
	if (!job->timing_cpus) {
		h.v1_cpuset = NULL;
		h.v2_cpuset = false;
	}
	return cgroup_host_copy(&h, &s->cgroup, e);
}

/* Each job is told where it may be, timed or not. */
static int plan_timing(const struct evaluator *ev, const struct evaluator_job *job,
		       struct box_spec *s, struct err *e)
{
	char text[CPUS_TEXT_MAX];
	cpu_set_t timing, others;
	int r;

	s->timing = ev->timing;
	s->claimed_percent = ev->claimed_percent;
	if (ev->claimed_time && !(s->claimed_time = strdup(ev->claimed_time)))
		return err_nomem(e);
	if (!job->timing_cpus)
		return 0;
	r = cpus_reserve(job->timing_cpus, &timing, &others, e);
	if (r < 0)
		return r;
	s->timing_cpus = ev->timing ? strdup(cpus_text(&timing, text, sizeof(text))) : NULL;
	s->other_cpus = strdup(cpus_text(&others, text, sizeof(text)));
	return s->other_cpus && (s->timing_cpus || !ev->timing) ? 0 : err_nomem(e);
}

/* What an engine is told by its environment. */
static int engine_env(char ***ret)
{
	static const char *const names[] = { "HOME",
					     "XDG_RUNTIME_DIR",
					     "CONTAINERS_CONF",
					     "CONTAINERS_STORAGE_CONF",
					     "CONTAINERS_REGISTRIES_CONF",
					     "REGISTRY_AUTH_FILE",
					     "DOCKER_HOST",
					     "DOCKER_CONFIG",
					     "HTTPS_PROXY",
					     "NO_PROXY" };
	int r = strv_add(ret, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");

	for (size_t i = 0; i < ARRAY_LEN(names) && r >= 0; i++)
		if (getenv(names[i]))
			r = strv_addf(ret, "%s=%s", names[i], getenv(names[i]));
	return r < 0 ? -ENOMEM : 0;
}

static int plan_image(const struct evaluator *ev, struct container *c)
{
	c->pull = ev->image_pull;
	if (ev->submission_image && !(c->imported = strdup(ev->submission_image)))
		return -ENOMEM;
	if (!ev->image)
		return 0;
	if (ev->image_file && str_fmt(&c->file, "%s/%s", ev->dir, ev->image_file) < 0)
		return -ENOMEM;
	return container_image_split(ev->image, &c->image, &c->digest);
}

static int plan_container(const struct evaluator *ev, const struct evaluator_job *job,
			  struct box_spec *s, struct err *e)
{
	if (ev->isolation != ISOLATION_CONTAINER)
		return 0;
	s->container = calloc(1, sizeof(*s->container));
	if (!s->container || !(s->container->engine = strdup(job->container_engine)) ||
	    engine_env(&s->container->env) < 0 || plan_image(ev, s->container) < 0)
		return err_nomem(e);
	/* Root's engine makes its groups itself: below the box's, if that has one name in all trees. */
	return geteuid() == 0 ? cgroup_align(&s->cgroup, &s->container->group, e) : 0;
}

static int plan_gpus(const struct evaluator *ev, const struct evaluator_job *job,
		     struct box_spec *s, struct err *e)
{
	int r = evaluator_gpus(ev, job->gpus, &s->gpus, e);

	if (r < 0 || !s->gpus)
		return r;
	s->gpus->lock_dir = strdup(job->gpu_lock_dir);
	if (job->gpu_index_lock_dir)
		s->gpus->index_lock_dir = strdup(job->gpu_index_lock_dir);
	if (job->cuda_library)
		s->gpus->library = strdup(job->cuda_library);
	s->gpus->settle_usec = job->gpu_settle_usec;
	return s->gpus->lock_dir && (s->gpus->index_lock_dir || !job->gpu_index_lock_dir) &&
			       (s->gpus->library || !job->cuda_library)
		       ? 0
		       : err_nomem(e);
}

static int plan_texts(const struct evaluator *ev, const struct evaluator_job *job,
		      struct box_spec *s)
{
	s->evaluation = strdup(job->evaluation);
	s->attempt_id = strdup(job->attempt_id);
	s->evaluator = strdup(ev->name);
	s->submission = strdup(job->submission);
	s->evaluator_dir = strdup(ev->dir);
	s->scores_file = strdup(ev->scores_file);
	s->progress_pattern = ev->progress_pattern ? strdup(ev->progress_pattern) : NULL;
	if (str_fmt(&s->sealed_dir, "%s/sealed", job->state_dir) < 0 || !s->evaluation ||
	    !s->attempt_id || !s->evaluator || !s->submission || !s->evaluator_dir ||
	    !s->scores_file || (ev->progress_pattern && !s->progress_pattern))
		return -ENOMEM;
	return add_words(&s->env, ev->env);
}

void evaluator_job_settings(struct evaluator_job *job, const struct settings *s)
{
	job->state_dir = s->state_dir;
	job->log_cap = s->log_cap;
	job->term_grace_usec = s->term_grace_usec;
	job->container_engine = s->container_engine;
	job->timing_cpus = s->timing_cpus;
	job->gpu_lock_dir = s->gpu_lock_dir;
	job->gpu_index_lock_dir = s->gpu_index_lock_dir;
	job->gpu_settle_usec = s->gpu_settle_usec;
	job->cuda_library = s->cuda_library;
}

int evaluator_plan(const struct evaluator *ev, const struct evaluator_job *job,
		   struct box_spec **ret, struct err *e)
{
	auto_spec s = NULL;
	int r = evaluator_runnable(ev, e);

	if (r == 0)
		r = evaluator_check_args(ev, job->args, e);
	if (r < 0)
		return r;
	s = calloc(1, sizeof(*s));
	if (!s || plan_commands(ev, job, s) < 0 || plan_texts(ev, job, s) < 0 ||
	    plan_sandbox(ev, s) < 0)
		return err_nomem(e);
	s->attempt = job->attempt;
	s->limits = ev->limits;
	if (job->asked)
		r = limits_lower(&s->limits, job->asked, e);
	if (r == 0)
		r = plan_groups(ev, job, s, e);
	if (r == 0)
		r = plan_container(ev, job, s, e);
	if (r == 0)
		r = plan_timing(ev, job, s, e);
	if (r == 0)
		r = plan_gpus(ev, job, s, e);
	if (r < 0)
		return r;
	s->log_cap = ev->log_cap ? ev->log_cap : job->log_cap;
	s->log_stop = ev->log_stop;
	s->term_grace_usec = job->term_grace_usec;
	s->lease_usec = job->lease_usec;
	s->scores_required = ev->scores_required;
	s->retries = ev->retries;
	s->attended = job->attended;
	if (job->claim && !(s->claim = json_deep_copy(job->claim)))
		return err_nomem(e);
	*ret = take_ptr(s);
	return 0;
}

/* SPDX-License-Identifier: MIT */
#include "exec/evalconf.h"

#include <ctype.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "base/conf.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/str.h"
#include "base/time.h"
#include "exec/gpu.h"
#include "exec/progress.h"

/* What the box sets itself: an evaluator's `env` may not. */
static const char *const own_env[] = { "ZR_SUBMISSION",    "ZR_OUTPUT",  "ZR_PROGRESS_FD",
				       "ZR_EVALUATION_ID", "ZR_ATTEMPT", "ZR_ATTEMPT_ID",
				       "ZR_EVALUATOR",     "ZR_PHASE",   "ZR_RUN_OUTPUT",
				       "ZR_GPUS" };

/* --- one evaluator.conf ----------------------------------------------------------------------- */

/* What a file is read with: where its folder is and how to name a line of it. */
struct reader {
	struct evaluator *ev;
	int dirfd;
	const char *text;
	cfg_t *cfg;
	struct err *e;
};

/* The line that sets `key`, for errors found after parsing. */
static unsigned line_of(const char *text, const char *key)
{
	size_t n = strlen(key);
	unsigned line = 1;

	for (const char *p = text; *p; line++) {
		const char *word = p + strspn(p, " \t");

		if (strncmp(word, key, n) == 0 && strchr(" \t=+", word[n]) && word[n])
			return line;
		p = strchrnul(p, '\n');
		p += *p == '\n';
	}
	return 0;
}

printf_like(3, 4) static int bad(const struct reader *r, const char *key, const char *fmt, ...)
{
	unsigned line = line_of(r->text, key);
	char msg[360];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	if (!line)
		return err_set(r->e, EINVAL, ERR_HOST, "%s: %s", r->ev->file, msg);
	return err_set(r->e, EINVAL, ERR_HOST, "%s:%u: %s", r->ev->file, line, msg);
}

static int take_text(const struct reader *r, const char *key, char **to)
{
	const char *s = cfg_getstr(r->cfg, key);

	if (!s)
		return 0;
	if (!*s)
		return bad(r, key, "'%s' is empty", key);
	if (!str_utf8_valid(s, strlen(s)))
		return bad(r, key, "'%s' is not UTF-8", key);
	free(*to);
	*to = strdup(s);
	return *to ? 0 : err_nomem(r->e);
}

/* A list as it stands. */
static int take_list(const struct reader *r, const char *key, char ***to)
{
	for (unsigned i = 0; i < cfg_size(r->cfg, key); i++) {
		const char *s = cfg_getnstr(r->cfg, key, i);

		if (!str_utf8_valid(s, strlen(s)))
			return bad(r, key, "'%s' is not UTF-8", key);
		if (strv_add(to, s) < 0)
			return err_nomem(r->e);
	}
	return 0;
}

/* Words: one text is split as a shell would, without expansions; several are taken as they are. */
static int take_words(const struct reader *r, const char *key, char ***to)
{
	auto_strv char **split = NULL;
	struct err why = { 0 };

	if (cfg_size(r->cfg, key) != 1)
		return take_list(r, key, to);
	if (!str_utf8_valid(cfg_getstr(r->cfg, key), strlen(cfg_getstr(r->cfg, key))))
		return bad(r, key, "'%s' is not UTF-8", key);
	if (strv_words(cfg_getstr(r->cfg, key), &split, &why) < 0)
		return bad(r, key, "%s", why.msg);
	*to = take_ptr(split);
	return 0;
}

/* The program's name below the evaluator's folder. */
static const char *below(const struct evaluator *ev, const char *word)
{
	size_t n = strlen(ev->dir);

	if (word[0] == '/' && str_starts(word, ev->dir) && word[n] == '/')
		word += n + 1;
	while (word[0] == '.' && word[1] == '/')
		word += 2;
	return word;
}

static int check_program(int dirfd, const char *name, char *why, size_t size)
{
	auto_close int fd = -1;
	struct stat st;
	int r = fd_open_beneath(dirfd, name, O_PATH, 0, &fd, NULL);

	if (r < 0)
		return snprintf(why, size, "%s",
				r == -ELOOP   ? "it lies behind a symbolic link"
				: r == -EXDEV ? "it is outside the evaluator's folder"
					      : strerror(-r)),
		       r;
	if (fstat(fd, &st) == 0 && S_ISLNK(st.st_mode))
		return snprintf(why, size, "it is a symbolic link"), -ELOOP;
	if (!S_ISREG(st.st_mode))
		return snprintf(why, size, "it is not a regular file"), -EACCES;
	if (faccessat(dirfd, name, X_OK, AT_EACCESS) < 0)
		return snprintf(why, size, "it is not executable"), -EACCES;
	if (st.st_mode & S_IWOTH)
		return snprintf(why, size, "everybody on this host may change it"), -EACCES;
	return 0;
}

static int take_command(const struct reader *r, enum phase p)
{
	const char *key = phase_name(p), *name;
	char **argv = NULL, *path, why[128];
	int n = take_words(r, key, &r->ev->argv[p]), there;

	argv = r->ev->argv[p];
	if (n < 0 || (!argv && cfg_size(r->cfg, key) == 0))
		return n;
	if (!argv || !argv[0] || !*argv[0])
		return bad(r, key, "'%s' is empty", key);
	name = below(r->ev, argv[0]);
	there = check_program(r->dirfd, name, why, sizeof(why));
	/* That says nothing about the program. */
	if (there == -EMFILE || there == -ENFILE || there == -ENOMEM)
		return err_errno(r->e, there, "look at program '%s' of evaluator '%s'",
				 STR_ESC(argv[0]), STR_ESC(r->ev->name));
	if (there < 0)
		return bad(r, key, "%s: program '%s': %s", key, STR_ESC(argv[0]), why);
	if (str_fmt(&path, "%s/%s", r->ev->dir, name) < 0)
		return err_nomem(r->e);
	free(argv[0]);
	argv[0] = path;
	return 0;
}

static int take_number(const struct reader *r, const char *key, uint64_t min, uint64_t max,
		       uint64_t *to)
{
	long v = cfg_getint(r->cfg, key);

	if (v < 0 || (uint64_t)v < min || (uint64_t)v > max)
		return bad(r, key, "'%s' is %ld, outside %llu to %llu", key, v,
			   (unsigned long long)min, (unsigned long long)max);
	*to = (uint64_t)v;
	return 0;
}

static bool was_set(const struct reader *r, const char *key)
{
	return cfg_getopt(r->cfg, key)->flags & CFGF_MODIFIED;
}

/* 0 means no limit, and a limit of the file must be more than nothing to make sense. */
static int take_limits(const struct reader *r)
{
	struct limits *l = &r->ev->limits;
	const struct {
		const char *key;
		uint64_t *to, min;
	} t[] = {
		{ "wall_limit", &l->wall_usec[PHASE_RUN], USEC_PER_MSEC },
		{ "prepare_wall_limit", &l->wall_usec[PHASE_PREPARE], USEC_PER_MSEC },
		{ "score_wall_limit", &l->wall_usec[PHASE_SCORE], USEC_PER_MSEC },
		{ "cpu_limit", &l->cpu_usec, 10 * USEC_PER_MSEC },
		{ "memory", &l->memory_bytes, 1u << 20 },
		{ "pids", &l->pids, 1 },
		{ "disk", &l->disk_bytes, 4096 },
		{ "output_limit", &l->output_bytes, 4096 },
	};

	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		int n = take_number(r, t[i].key, 0, INT64_MAX, t[i].to);

		if (n < 0)
			return n;
		if (*t[i].to && *t[i].to < t[i].min)
			return bad(r, t[i].key,
				   "'%s' is less than anything can run with (0 means no limit)",
				   t[i].key);
	}
	return 0;
}

static int take_cpus(const struct reader *r)
{
	double cpus = cfg_getfloat(r->cfg, "cpus");

	if (cpus != 0 && !(cpus >= 0.01 && cpus <= 4096))
		return bad(r, "cpus", "'cpus' is %g, outside 0.01 to 4096 (0 means no limit)",
			   cpus);
	r->ev->cpu_percent = (uint64_t)(cpus * 100 + 0.5);
	return take_number(r, "cpu_weight", 0, 10000, &r->ev->cpu_weight);
}

static int take_isolation(const struct reader *r)
{
	const char *s = cfg_getstr(r->cfg, "isolation");

	r->ev->isolation_given = s != NULL;
	if (s && isolation_parse(s, &r->ev->isolation) < 0)
		return bad(r, "isolation", "'isolation' is '%s' (want none, sandbox or container)",
			   STR_ESC(s));
	return 0;
}

/* Behind walls nothing is without a limit: what the file leaves out gets one. */
static int take_sandbox_limits(const struct reader *r)
{
	struct limits *l = &r->ev->limits;
	const struct {
		const char *key;
		uint64_t *to, usual;
	} t[] = {
		{ "memory", &l->memory_bytes, 4ull << 30 },
		{ "pids", &l->pids, 512 },
		{ "disk", &l->disk_bytes, 1ull << 30 },
	};

	for (size_t i = 0; i < ARRAY_LEN(t); i++)
		if (!was_set(r, t[i].key))
			*t[i].to = t[i].usual;
		else if (!*t[i].to)
			return bad(r, t[i].key, "'%s' may not be unlimited at isolation \"%s\"",
				   t[i].key, isolation_name(r->ev->isolation));
	return 0;
}

static int take_paths(const struct reader *r, const char *key, bool relative, char ***to)
{
	int n = take_list(r, key, to);

	for (char **p = *to; n == 0 && p && *p; p++) {
		const char *fault = sandbox_path_fault(*p, relative);

		if (fault)
			return bad(r, key, "'%s': '%s' cannot be shown in a box: %s", key,
				   STR_ESC(*p), fault);
	}
	return n;
}

/* The path of a file below some folder. */
static int take_below(const struct reader *r, const char *key, char **to)
{
	int n = take_text(r, key, to);
	const char *fault = n == 0 && *to ? sandbox_path_fault(*to, true) : NULL;

	if (n == 0 && *to && ((*to)[0] == '/' || fault))
		n = bad(r, key, "'%s' is '%s', which is no path below a folder", key, STR_ESC(*to));
	return n;
}

static int take_image(const struct reader *r)
{
	struct evaluator *ev = r->ev;
	const char *fault = NULL;
	int n = take_text(r, "image", &ev->image);

	if (n == 0)
		n = take_below(r, "image_file", &ev->image_file);
	if (n == 0)
		n = take_below(r, "submission_image", &ev->submission_image);
	if (n < 0)
		return n;
	ev->image_pull = cfg_getbool(r->cfg, "image_pull");
	fault = ev->image ? container_image_fault(ev->image) : NULL;
	if (fault)
		return bad(r, "image", "'image' is '%s': %s", STR_ESC(ev->image), fault);
	if (ev->isolation != ISOLATION_CONTAINER)
		return ev->image || ev->submission_image
			       ? bad(r, ev->image ? "image" : "submission_image",
				     "an image needs isolation = \"container\"")
			       : 0;
	if (!ev->image && !ev->submission_image)
		return bad(r, "isolation",
			   "isolation = \"container\" needs 'image' or 'submission_image'");
	/* Else the submission would bring the judge's shell along. */
	if (!ev->image && ev->argv[PHASE_SCORE])
		return bad(r, "submission_image",
			   "'score' needs an 'image' of the evaluator's: nothing of the submission "
			   "may run there");
	if (!ev->image && (ev->image_file || ev->image_pull))
		return bad(r, "submission_image",
			   "'image_file' and 'image_pull' are of no use without 'image'");
	return 0;
}

static int take_violation(const struct reader *r)
{
	struct evaluator *ev = r->ev;
	const char *what = cfg_getstr(r->cfg, "on_violation");

	if (!str_eq(what, "count") && !str_eq(what, "stop"))
		return bad(r, "on_violation", "'on_violation' is '%s' (want count or stop)",
			   STR_ESC(what));
	ev->stop_on_violation = str_eq(what, "stop");
	ev->watch_writes = cfg_getbool(r->cfg, "watch_writes");
	if (ev->stop_on_violation && ev->isolation != ISOLATION_SANDBOX)
		return bad(r, "on_violation",
			   "'on_violation' is 'stop', which needs isolation = \"sandbox\": "
			   "nobody watches at \"%s\"",
			   isolation_name(ev->isolation));
	if (ev->watch_writes && ev->isolation != ISOLATION_SANDBOX)
		return bad(r, "watch_writes", "'watch_writes' needs isolation = \"sandbox\"");
	return 0;
}

/* They are shown in the root of a box, where its own folders are. */
static int take_beside(const struct reader *r)
{
	int n = take_list(r, "beside", &r->ev->beside);

	for (char **p = r->ev->beside; n == 0 && p && *p; p++) {
		char path[PATH_MAX];

		snprintf(path, sizeof(path), "/%s", *p);
		if (!id_valid(*p) || sandbox_path_fault(path, false))
			n = bad(r, "beside", "'beside': '%s' cannot be the name of an evaluator",
				STR_ESC(*p));
	}
	return n;
}

static int take_sandbox(const struct reader *r)
{
	struct evaluator *ev = r->ev;
	const char *kind = cfg_getstr(r->cfg, "submission");
	int n = ev->isolation == ISOLATION_NONE ? 0 : take_sandbox_limits(r);

	if (n == 0 && !str_eq(kind, "code") && !str_eq(kind, "data"))
		n = bad(r, "submission", "'submission' is '%s' (want code or data)", STR_ESC(kind));
	ev->submission_data = str_eq(kind, "data");
	if (n == 0)
		n = take_paths(r, "mounts", false, &ev->mounts);
	if (n == 0)
		n = take_beside(r);
	if (n == 0)
		n = take_paths(r, "reference", true, &ev->reference);
	if (n == 0 && ev->reference && !ev->argv[PHASE_SCORE] && !ev->submission_data)
		n = bad(r, "reference",
			"'reference' is shown to nobody: only 'score' sees it, or 'run' with "
			"submission = \"data\"");
	if (n == 0)
		n = take_image(r);
	return n < 0 ? n : take_violation(r);
}

static int check_env(const struct reader *r)
{
	for (char **p = r->ev->env; p && *p; p++) {
		size_t n = strcspn(*p, "=");

		if (!(*p)[n] || !n || isdigit((unsigned char)**p) ||
		    strspn(*p, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") !=
			    n)
			return bad(r, "env", "'env': '%s' is not NAME=value", STR_ESC(*p));
		for (size_t i = 0; i < ARRAY_LEN(own_env); i++)
			if (strncmp(*p, own_env[i], n) == 0 && !own_env[i][n])
				return bad(r, "env", "'env' may not set %s", own_env[i]);
	}
	return 0;
}

static int take_scores(const struct reader *r)
{
	struct evaluator *ev = r->ev;
	int n = take_text(r, "scores", &ev->scores_file);

	if (n < 0)
		return n;
	if (strchr(ev->scores_file, '/') || ev->scores_file[0] == '.' ||
	    strlen(ev->scores_file) > NAME_MAX)
		return bad(r, "scores", "'scores' is a file name in the output folder");
	ev->scores_required = was_set(r, "scores_required") ? cfg_getbool(r->cfg, "scores_required")
							    : was_set(r, "scores");
	return 0;
}

static int take_log(const struct reader *r)
{
	struct progress_pattern *p = NULL;
	struct evaluator *ev = r->ev;
	const char *full = cfg_getstr(r->cfg, "log_overflow");
	struct err why = { 0 };
	int n = take_text(r, "progress_pattern", &ev->progress_pattern);

	if (n == 0 && ev->progress_pattern &&
	    progress_pattern_new(ev->progress_pattern, &p, &why) < 0)
		n = bad(r, "progress_pattern", "%s", why.msg);
	progress_pattern_free(p);
	if (n == 0 && !str_eq(full, "truncate") && !str_eq(full, "stop"))
		n = bad(r, "log_overflow", "'log_overflow' is '%s' (want truncate or stop)",
			STR_ESC(full));
	if (n == 0)
		n = take_number(r, "log_cap", 0, 1ull << 40, &ev->log_cap);
	if (n == 0 && ev->log_cap && ev->log_cap < 1024)
		n = bad(r, "log_cap", "'log_cap' is less than 1K");
	ev->log_stop = str_eq(full, "stop");
	return n;
}

static int take_gpus(const struct reader *r)
{
	struct evaluator *ev = r->ev;
	uint64_t gpus = 0;
	const char *fault;
	int n = take_number(r, "gpus", 0, GPU_MAX, &gpus);

	if (n == 0)
		n = take_text(r, "gpu_arch", &ev->gpu_arch);
	if (n == 0)
		n = take_number(r, "gpu_memory", 0, INT64_MAX, &ev->gpu_memory_bytes);
	if (n == 0)
		n = take_number(r, "gpu_wait_limit", 0, INT64_MAX, &ev->gpu_wait_usec);
	fault = n == 0 && ev->gpu_arch ? gpu_arch_fault(ev->gpu_arch) : NULL;
	if (fault)
		n = bad(r, "gpu_arch", "'gpu_arch' is '%s' (%s)", STR_ESC(ev->gpu_arch), fault);
	if (n == 0 && !gpus && (was_set(r, "gpu_arch") || was_set(r, "gpu_memory")))
		n = bad(r, was_set(r, "gpu_arch") ? "gpu_arch" : "gpu_memory",
			"'gpu_arch' and 'gpu_memory' are of no use without 'gpus'");
	ev->gpus = (unsigned)gpus;
	return n;
}

static int take_claim(const struct reader *r)
{
	struct evaluator *ev = r->ev;
	int n = take_text(r, "claimed_time", &ev->claimed_time);

	if (n == 0)
		n = take_number(r, "claimed_percent", 0, 100, &ev->claimed_percent);
	if (n == 0 && ev->claimed_percent && !ev->claimed_time)
		n = bad(r, "claimed_percent",
			"'claimed_percent' is of no use without 'claimed_time'");
	return n;
}

static int take_others(const struct reader *r)
{
	struct evaluator *ev = r->ev;
	uint64_t retries = 0;
	int n = take_text(r, "description", &ev->description);

	if (n == 0)
		n = take_text(r, "arch", &ev->arch);
	if (n == 0)
		n = take_claim(r);
	if (n == 0)
		n = take_gpus(r);
	if (n == 0)
		n = take_number(r, "retries", 0, 10, &retries);
	if (n == 0)
		n = take_words(r, "args", &ev->args);
	if (n == 0)
		n = take_list(r, "allow_args", &ev->allow_args);
	if (n == 0)
		n = take_list(r, "env", &ev->env);
	ev->retries = (unsigned)retries;
	ev->network = cfg_getbool(r->cfg, "network");
	ev->timing = cfg_getbool(r->cfg, "timing");
	return n < 0 ? n : check_env(r);
}

static int take_all(const struct reader *r)
{
	int n = 0;

	for (enum phase p = 0; n == 0 && p < PHASE_N; p++)
		n = take_command(r, p);
	if (n == 0 && !r->ev->argv[PHASE_RUN])
		n = bad(r, "", "'run' is missing");
	if (n == 0)
		n = take_limits(r);
	if (n == 0)
		n = take_cpus(r);
	if (n == 0)
		n = take_isolation(r);
	if (n == 0)
		n = take_sandbox(r);
	if (n == 0)
		n = take_scores(r);
	if (n == 0)
		n = take_log(r);
	return n < 0 ? n : take_others(r);
}

/* libconfuse expands ${NAME} from the environment, and a worker's holds passwords. */
static int refuse_expansion(const struct reader *r)
{
	unsigned line = 1;

	for (const char *p = r->text; *p; line++) {
		const char *word = p + strspn(p, " \t"), *end = strchrnul(p, '\n');

		if (*word != '#' && memmem(p, (size_t)(end - p), "${", 2))
			return err_set(r->e, EINVAL, ERR_HOST,
				       "%s:%u: '${' would take a value from the worker's "
				       "environment; let the script do it",
				       r->ev->file, line);
		p = end + (*end == '\n');
	}
	return 0;
}

int evalconf_defaults(struct evaluator *ev, struct err *e)
{
	ev->limits = (struct limits){
		.wall_usec = { [PHASE_PREPARE] = 600 * USEC_PER_SEC,
			       [PHASE_RUN] = 3600 * USEC_PER_SEC,
			       [PHASE_SCORE] = 600 * USEC_PER_SEC },
		.disk_bytes = 10ull << 30,
		.output_bytes = 1ull << 30,
	};
	ev->isolation = ISOLATION_NONE;
	ev->gpu_wait_usec = 24 * 3600 * USEC_PER_SEC;
	ev->scores_file = strdup("scores.json");
	return ev->scores_file ? 0 : err_nomem(e);
}

/* `ev` holds the defaults. */
int evalconf_read(struct evaluator *ev, int dirfd, const char *text, size_t n, struct err *e)
{
	const struct limits *l = &ev->limits;
	cfg_opt_t opts[] = {
		CFG_STR("description", NULL, CFGF_NONE),
		CFG_STR_LIST("prepare", NULL, CFGF_NODEFAULT),
		CFG_STR_LIST("run", NULL, CFGF_NODEFAULT),
		CFG_STR_LIST("score", NULL, CFGF_NODEFAULT),
		CFG_STR_LIST("args", NULL, CFGF_NODEFAULT),
		CFG_STR_LIST("allow_args", NULL, CFGF_NODEFAULT),
		CONF_SPAN("wall_limit", (long)l->wall_usec[PHASE_RUN], CFGF_NONE),
		CONF_SPAN("prepare_wall_limit", (long)l->wall_usec[PHASE_PREPARE], CFGF_NONE),
		CONF_SPAN("score_wall_limit", (long)l->wall_usec[PHASE_SCORE], CFGF_NONE),
		CONF_SPAN("cpu_limit", (long)l->cpu_usec, CFGF_NONE),
		CONF_SIZE("memory", (long)l->memory_bytes, CFGF_NONE),
		CFG_INT("pids", (long)l->pids, CFGF_NONE),
		CONF_SIZE("disk", (long)l->disk_bytes, CFGF_NONE),
		CONF_SIZE("output_limit", (long)l->output_bytes, CFGF_NONE),
		CFG_FLOAT("cpus", 0, CFGF_NONE),
		CFG_INT("cpu_weight", 0, CFGF_NONE),
		CFG_STR("isolation", NULL, CFGF_NONE),
		CFG_INT("gpus", 0, CFGF_NONE),
		CFG_STR("gpu_arch", NULL, CFGF_NONE),
		CONF_SIZE("gpu_memory", 0, CFGF_NONE),
		CONF_SPAN("gpu_wait_limit", (long)ev->gpu_wait_usec, CFGF_NONE),
		CFG_STR("arch", NULL, CFGF_NONE),
		CFG_BOOL("network", cfg_false, CFGF_NONE),
		CFG_BOOL("timing", cfg_false, CFGF_NONE),
		CFG_STR("claimed_time", NULL, CFGF_NONE),
		CFG_INT("claimed_percent", 0, CFGF_NONE),
		CFG_STR_LIST("mounts", NULL, CFGF_NODEFAULT),
		CFG_STR_LIST("beside", NULL, CFGF_NODEFAULT),
		CFG_STR_LIST("reference", NULL, CFGF_NODEFAULT),
		CFG_STR("image", NULL, CFGF_NONE),
		CFG_STR("image_file", NULL, CFGF_NONE),
		CFG_BOOL("image_pull", cfg_false, CFGF_NONE),
		CFG_STR("submission_image", NULL, CFGF_NONE),
		CFG_STR("submission", "code", CFGF_NONE),
		CFG_STR("on_violation", "count", CFGF_NONE),
		CFG_BOOL("watch_writes", cfg_false, CFGF_NONE),
		CFG_INT("retries", (long)ev->retries, CFGF_NONE),
		CFG_STR("scores", ev->scores_file, CFGF_NONE),
		CFG_BOOL("scores_required", cfg_false, CFGF_NONE),
		CFG_STR("progress_pattern", NULL, CFGF_NONE),
		CONF_SIZE("log_cap", 0, CFGF_NONE),
		CFG_STR("log_overflow", "truncate", CFGF_NONE),
		CFG_STR_LIST("env", NULL, CFGF_NODEFAULT),
		CONF_END,
	};
	auto_conf cfg_t *cfg = NULL;
	auto_free char *copy = strndup(text, n);
	struct err why = { 0 };
	struct reader r = { .ev = ev, .dirfd = dirfd, .text = copy, .e = e };
	int k = copy ? conf_new(opts, &cfg, e) : err_nomem(e);

	if (k < 0)
		return k;
	k = conf_text(cfg, ev->file, text, n, &why);
	if (k < 0)
		return err_set(e, EINVAL, ERR_HOST, "%s", why.msg);
	r.cfg = cfg;
	k = refuse_expansion(&r);
	return k < 0 ? k : take_all(&r);
}

/* SPDX-License-Identifier: MIT */
#include "exec/spec.h"

#include <ctype.h>
#include <limits.h>
#include <stddef.h>
#include <string.h>

#include "base/fd.h"
#include "base/id.h"
#include "base/json.h"
#include "base/str.h"

#define SPEC_VERSION 1
#define WORDS_MAX    4096
#define WORD_MAX     131071 /* what execve() takes as one word (MAX_ARG_STRLEN - 1) */

enum kind {
	K_ID,    /* id_valid() */
	K_UUID,  /* lower case */
	K_PATH,  /* absolute */
	K_NAME,  /* a file name */
	K_REGEX, /* any text */
	K_UINT,
	K_BOOL,
};

struct field {
	const char *key;
	enum kind kind;
	bool required; /* K_UINT and K_BOOL are always optional and 0 then */
	size_t offset;
};

#define FIELD(key, kind, req, member)                                                              \
	{                                                                                          \
		key, kind, req, offsetof(struct box_spec, member)                                  \
	}

static const struct field fields[] = {
	FIELD("evaluation", K_ID, true, evaluation),
	FIELD("attempt", K_UINT, true, attempt),
	FIELD("attempt_id", K_UUID, true, attempt_id),
	FIELD("evaluator", K_ID, true, evaluator),
	FIELD("boot_id", K_UUID, false, boot_id),
	FIELD("submission", K_PATH, true, submission),
	FIELD("evaluator_dir", K_PATH, true, evaluator_dir),
	FIELD("sealed_dir", K_PATH, true, sealed_dir),
	FIELD("environ_file", K_PATH, false, environ_file),
	FIELD("work_dir", K_PATH, false, work_dir),
	FIELD("called", K_NAME, false, called),
	FIELD("log_cap", K_UINT, false, log_cap),
	FIELD("log_stop", K_BOOL, false, log_stop),
	FIELD("term_grace_usec", K_UINT, false, term_grace_usec),
	FIELD("lease_usec", K_UINT, false, lease_usec),
	FIELD("attended", K_BOOL, false, attended),
	FIELD("scores_file", K_NAME, false, scores_file),
	FIELD("scores_required", K_BOOL, false, scores_required),
	FIELD("progress_pattern", K_REGEX, false, progress_pattern),
	FIELD("retries", K_UINT, false, retries),
	FIELD("timing", K_BOOL, false, timing),
	FIELD("timing_cpus", K_REGEX, false, timing_cpus),
	FIELD("other_cpus", K_REGEX, false, other_cpus),
	FIELD("claimed_time", K_REGEX, false, claimed_time),
	FIELD("claimed_percent", K_UINT, false, claimed_percent),
	FIELD("cpu_percent", K_UINT, false, cpu_percent),
	FIELD("cpu_weight", K_UINT, false, cpu_weight),
};

static const struct field cgroup_fields[] = {
	FIELD("v2", K_PATH, false, cgroup.v2),
	FIELD("v2_memory", K_BOOL, false, cgroup.v2_memory),
	FIELD("v2_pids", K_BOOL, false, cgroup.v2_pids),
	FIELD("v1_memory", K_PATH, false, cgroup.v1_memory),
	FIELD("v1_pids", K_PATH, false, cgroup.v1_pids),
	FIELD("v2_cpu", K_BOOL, false, cgroup.v2_cpu),
	FIELD("v2_cpuset", K_BOOL, false, cgroup.v2_cpuset),
	FIELD("v1_cpu", K_PATH, false, cgroup.v1_cpu),
	FIELD("v1_cpuset", K_PATH, false, cgroup.v1_cpuset),
	FIELD("v1_devices", K_PATH, false, cgroup.v1_devices),
	FIELD("keepers", K_PATH, false, cgroup.keepers),
};

static void *at(struct box_spec *s, const struct field *f)
{
	return (char *)s + f->offset;
}

static const void *at_const(const struct box_spec *s, const struct field *f)
{
	return (const char *)s + f->offset;
}

void spec_free(struct box_spec *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < ARRAY_LEN(fields); i++)
		if (fields[i].kind != K_UINT && fields[i].kind != K_BOOL)
			free(*(char **)at(s, &fields[i]));
	for (enum phase p = 0; p < PHASE_N; p++)
		strv_free(s->argv[p]);
	strv_free(s->env);
	cgroup_host_done(&s->cgroup);
	sandbox_done(&s->sandbox);
	container_free(s->container);
	gpu_request_free(s->gpus);
	json_decref(s->claim);
	free(s);
}

/* --- reading ---------------------------------------------------------------------------------- */

static bool text_fits(enum kind kind, const char *s)
{
	switch (kind) {
	case K_ID:
		return id_valid(s);
	case K_UUID:
		return id_is_uuid(s);
	case K_PATH:
		return s[0] == '/' && strlen(s) < PATH_MAX;
	case K_NAME:
		return *s && strlen(s) <= NAME_MAX && !strchr(s, '/') && !str_eq(s, ".") &&
		       !str_eq(s, "..");
	case K_REGEX:
		return *s && strlen(s) <= 1024;
	case K_UINT:
	case K_BOOL:
		break;
	}
	return false;
}

static int read_text(const json_t *o, const struct field *f, struct box_spec *s, struct err *e)
{
	const char *text = NULL;
	int r = js_opt_str(o, f->key, PATH_MAX, &text, e);

	if (r < 0)
		return r;
	if (r == 0)
		return f->required ? err_input(e, "'%s' is missing", f->key) : 0;
	if (!text_fits(f->kind, text))
		return err_input(e, "bad value for '%s': '%s'", f->key, STR_ESC(text));
	*(char **)at(s, f) = strdup(text);
	return *(char **)at(s, f) ? 0 : err_nomem(e);
}

static int read_field(const json_t *o, const struct field *f, struct box_spec *s, struct err *e)
{
	int64_t v = 0;
	int r;

	if (f->kind == K_BOOL) {
		r = js_opt_bool(o, f->key, at(s, f), e);
		return r < 0 ? r : 0;
	}
	if (f->kind != K_UINT)
		return read_text(o, f, s, e);
	r = js_opt_int(o, f->key, f->required, INT64_MAX, &v, e);
	if (r < 0)
		return r;
	if (r == 0 && f->required)
		return err_input(e, "'%s' is missing", f->key);
	*(uint64_t *)at(s, f) = (uint64_t)v;
	return 0;
}

static bool in_table(const char *key, const struct field *table, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (str_eq(key, table[i].key))
			return true;
	return false;
}

static int only_known(const json_t *o, const struct field *table, size_t n,
		      const char *const *others, struct err *e)
{
	json_t *obj = (json_t *)(uintptr_t)o;

	for (void *it = json_object_iter(obj); it; it = json_object_iter_next(obj, it)) {
		const char *key = json_object_iter_key(it);
		const char *const *p = others;

		while (*p && !str_eq(*p, key))
			p++;
		if (!*p && !in_table(key, table, n))
			return err_input(e, "there is no member '%s'", STR_ESC(key));
	}
	return 0;
}

static int read_words(const json_t *a, const char *what, char ***ret, struct err *e)
{
	auto_strv char **v = NULL;

	if (!json_is_array(a) || json_array_size(a) > WORDS_MAX)
		return err_input(e, "'%s' is not a list of at most %d texts", what, WORDS_MAX);
	for (size_t i = 0; i < json_array_size(a); i++) {
		const json_t *w = json_array_get(a, i);

		if (!json_is_string(w) || json_string_length(w) > WORD_MAX)
			return err_input(e, "'%s' is not a list of texts of at most %d bytes", what,
					 WORD_MAX);
		if (strv_add(&v, json_string_value(w)) < 0)
			return err_nomem(e);
	}
	*ret = take_ptr(v);
	return 0;
}

static int read_phase(const json_t *o, struct box_spec *s, int *last, struct err *e)
{
	static const char *const known[] = { "name", "argv", NULL };
	const char *name = "";
	enum phase p;
	int r;

	if (!json_is_object(o))
		return err_input(e, "a phase is not an object");
	r = js_only(o, known, e);
	if (r == 0)
		r = js_str(o, "name", 32, &name, e);
	if (r < 0)
		return r;
	if (phase_parse(name, &p) < 0 || (int)p <= *last)
		return err_input(e, "phase '%s' is unknown or out of order", STR_ESC(name));
	*last = (int)p;
	r = read_words(json_object_get(o, "argv"), "argv", &s->argv[p], e);
	if (r < 0)
		return r;
	if (!s->argv[p] || !text_fits(K_PATH, s->argv[p][0]))
		return err_input(e, "the program of phase %s is not an absolute path", name);
	return 0;
}

static int read_phases(const json_t *o, struct box_spec *s, struct err *e)
{
	json_t *a;
	int last = -1, r = js_arr(o, "phases", &a, e);

	for (size_t i = 0; r == 0 && i < json_array_size(a); i++)
		r = read_phase(json_array_get(a, i), s, &last, e);
	if (r == 0 && !s->argv[PHASE_RUN])
		r = err_input(e, "there is no phase 'run'");
	return r;
}

static int read_env(const json_t *o, struct box_spec *s, struct err *e)
{
	json_t *a = NULL;
	int r = js_opt_arr(o, "env", &a, e);

	if (r > 0)
		r = read_words(a, "env", &s->env, e);
	for (char **p = s->env; r == 0 && p && *p; p++)
		if (!isalpha((unsigned char)**p) && **p != '_')
			r = err_input(e, "'env' has a line that is not NAME=value");
		else if (!strchr(*p, '='))
			r = err_input(e, "'env' has a line without '='");
	return r < 0 ? r : 0;
}

static int read_objects(const json_t *o, struct box_spec *s, struct err *e)
{
	static const char *const none[] = { NULL };
	json_t *sub = NULL;
	int r = js_opt_obj(o, "limits", &sub, e);

	if (r > 0)
		r = limits_from_json(sub, &s->limits, e);
	if (r < 0)
		return r;
	r = js_opt_obj(o, "claim", &s->claim, e);
	if (r < 0)
		return r;
	json_incref(s->claim);
	r = js_opt_obj(o, "isolation", &sub, e);
	if (r > 0)
		r = sandbox_from_json(sub, &s->sandbox, e);
	if (r < 0)
		return r;
	r = js_opt_obj(o, "container", &sub, e);
	if (r > 0)
		r = container_from_json(sub, &s->container, e);
	if (r < 0)
		return r;
	if ((s->sandbox.level == ISOLATION_CONTAINER) != (s->container != NULL))
		return err_input(e, "'container' goes with isolation \"container\"");
	r = js_opt_obj(o, "gpus", &sub, e);
	if (r > 0)
		r = gpu_request_from_json(sub, &s->gpus, e);
	if (r < 0)
		return r;
	r = js_opt_obj(o, "cgroup", &sub, e);
	if (r <= 0)
		return r;
	r = only_known(sub, cgroup_fields, ARRAY_LEN(cgroup_fields), none, e);
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(cgroup_fields); i++)
		r = read_field(sub, &cgroup_fields[i], s, e);
	return r;
}

static int read_all(const json_t *o, struct box_spec *s, struct err *e)
{
	static const char *const others[] = { "zr_box",    "phases", "limits",    "env",
					      "cgroup",    "claim",  "isolation", "gpus",
					      "container", NULL };
	int64_t version;
	int r;

	if (!json_is_object(o))
		return err_input(e, "not an object");
	r = js_int(o, "zr_box", SPEC_VERSION, SPEC_VERSION, &version, e);
	if (r == 0)
		r = only_known(o, fields, ARRAY_LEN(fields), others, e);
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(fields); i++)
		r = read_field(o, &fields[i], s, e);
	if (r == 0 && s->lease_usec > LEASE_USEC_MAX)
		r = err_input(e, "'lease_usec' is more than 7 days");
	if (r == 0)
		r = read_phases(o, s, e);
	if (r == 0)
		r = read_env(o, s, e);
	if (r == 0)
		r = read_objects(o, s, e);
	if (r == 0 && s->sandbox.level != ISOLATION_NONE &&
	    (s->environ_file || s->work_dir || s->called))
		r = err_input(e, "'environ_file', 'work_dir' and 'called' go with isolation "
				 "\"none\"");
	return r;
}

static void decref(json_t **j)
{
	json_decref(*j);
}

int spec_parse(const void *data, size_t n, struct box_spec **ret, struct err *e)
{
	__attribute__((cleanup(decref))) json_t *o = NULL;
	auto_spec s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_nomem(e);
	r = js_parse(data, n, JS_DEPTH_MAX, &o, e);
	if (r == 0)
		r = read_all(o, s, e);
	if (r < 0)
		return err_wrap(e, SPEC_FILE);
	*ret = take_ptr(s);
	return 0;
}

int spec_read(int box_dirfd, struct box_spec **ret, struct err *e)
{
	auto_buf struct buf b = { 0 };
	int r = fd_read_file(box_dirfd, SPEC_FILE, SPEC_FILE_MAX, &b, e);

	return r < 0 ? r : spec_parse(b.data, b.len, ret, e);
}

/* --- writing ---------------------------------------------------------------------------------- */

static int put(json_t *o, const char *key, json_t *v)
{
	return json_object_set_new(o, key, v); /* also takes v == NULL: -1 */
}

static int put_field(json_t *o, const struct field *f, const struct box_spec *s)
{
	const char *text;
	uint64_t v;

	if (f->kind == K_BOOL)
		return *(const bool *)at_const(s, f) ? put(o, f->key, json_true()) : 0;
	if (f->kind == K_UINT) {
		v = *(const uint64_t *)at_const(s, f);
		return v ? put(o, f->key, json_integer((json_int_t)v)) : 0;
	}
	text = *(char *const *)at_const(s, f);
	return text ? put(o, f->key, json_string(text)) : 0;
}

static json_t *phases_json(const struct box_spec *s)
{
	json_t *a = json_array();
	int r = 0;

	for (enum phase p = 0; a && r == 0 && p < PHASE_N; p++)
		if (s->argv[p])
			r = json_array_append_new(a, json_pack("{s:s, s:o}", "name", phase_name(p),
							       "argv", js_strings(s->argv[p])));
	if (r == 0)
		return a;
	json_decref(a);
	return NULL;
}

static json_t *cgroup_json(const struct box_spec *s)
{
	json_t *o = json_object();
	int r = 0;

	for (size_t i = 0; o && r == 0 && i < ARRAY_LEN(cgroup_fields); i++)
		r = put_field(o, &cgroup_fields[i], s);
	if (r == 0)
		return o;
	json_decref(o);
	return NULL;
}

int spec_text(const struct box_spec *s, char **ret, struct err *e)
{
	__attribute__((cleanup(decref))) json_t *o = json_object();
	char *text = NULL;
	int r = o ? put(o, "zr_box", json_integer(SPEC_VERSION)) : -1;

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(fields); i++)
		r = put_field(o, &fields[i], s);
	if (r == 0)
		r = put(o, "phases", phases_json(s));
	if (r == 0)
		r = put(o, "limits", limits_to_json(&s->limits));
	if (r == 0 && s->env)
		r = put(o, "env", js_strings(s->env));
	if (r == 0)
		r = put(o, "cgroup", cgroup_json(s));
	if (r == 0 && s->sandbox.level != ISOLATION_NONE)
		r = put(o, "isolation", sandbox_to_json(&s->sandbox));
	if (r == 0 && s->container)
		r = put(o, "container", container_to_json(s->container));
	if (r == 0 && s->gpus)
		r = put(o, "gpus", gpu_request_json(s->gpus));
	if (r == 0 && s->claim)
		r = json_object_set(o, "claim", s->claim);
	if (r == 0)
		text = js_text(o);
	if (!text)
		return err_set(e, EINVAL, ERR_INPUT,
			       "a box's texts must be UTF-8 (or there is no memory)");
	*ret = text;
	return 0;
}

int spec_is_this_boot(const struct box_spec *s)
{
	char boot[UUID_LEN + 1];

	return !s->boot_id || id_boot(boot, NULL) < 0 ? -1 : str_eq(boot, s->boot_id);
}

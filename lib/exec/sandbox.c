/* SPDX-License-Identifier: MIT */
#include "exec/sandbox.h"

#include <limits.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"

#define PATHS_MAX 256

static const char *const names[ISOLATION_N] = {
	[ISOLATION_NONE] = "none",
	[ISOLATION_SANDBOX] = "sandbox",
	[ISOLATION_CONTAINER] = "container",
};

const char *isolation_name(enum isolation i)
{
	return names[i];
}

int isolation_parse(const char *name, enum isolation *ret)
{
	for (enum isolation i = 0; i < ISOLATION_N; i++) {
		if (!str_eq(name, names[i]))
			continue;
		*ret = i;
		return 0;
	}
	return -EINVAL;
}

void sandbox_done(struct sandbox *s)
{
	strv_free(s->mounts);
	strv_free(s->beside);
	strv_free(s->reference);
	*s = (struct sandbox){ .level = ISOLATION_NONE };
}

/* --- paths ------------------------------------------------------------------------------------ */

/* No empty component, no ".", no ".."; for an absolute path after its first slash. */
static bool is_shortest(const char *p)
{
	for (;;) {
		size_t n = strcspn(p, "/");

		if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
			return false;
		if (!p[n])
			return true;
		p += n + 1;
	}
}

bool sandbox_path_in(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return strncmp(path, dir, n) == 0 && (!path[n] || path[n] == '/');
}

const char *sandbox_path_fault(const char *path, bool relative)
{
	/* What a box has of its own: a path in it would hide that, or be hidden. */
	static const char *const own[] = { "/proc",       "/sys",        "/dev",
					   "/tmp",        "/box",        "/output",
					   "/run-output", "/submission", "/evaluator" };

	if (strlen(path) >= PATH_MAX)
		return "it is too long";
	if (path[0] != '/' && !relative)
		return "it is not absolute";
	if (!is_shortest(path + (path[0] == '/')))
		return "it has an empty part, '.' or '..', or is '/'";
	for (size_t i = 0; i < ARRAY_LEN(own); i++)
		if (sandbox_path_in(path, own[i]))
			return "the box has a folder of its own there";
	return NULL;
}

/* --- JSON ------------------------------------------------------------------------------------- */

static int read_paths(const json_t *o, const char *key, bool relative, char ***ret, struct err *e)
{
	json_t *a = NULL;
	int r = js_opt_arr(o, key, &a, e);

	if (r <= 0)
		return r;
	if (json_array_size(a) > PATHS_MAX)
		return err_input(e, "'%s' has more than %d paths", key, PATHS_MAX);
	for (size_t i = 0; i < json_array_size(a); i++) {
		const char *path = json_string_value(json_array_get(a, i));
		const char *fault = path ? sandbox_path_fault(path, relative) : "it is not a text";

		if (fault)
			return err_input(e, "'%s' has the path '%s': %s", key,
					 STR_ESC(path ? path : "?"), fault);
		if (strv_add(ret, path) < 0)
			return err_nomem(e);
	}
	return 0;
}

static const char *const known[] = { "level",  "network", "bare",   "data",      "stop",
				     "writes", "mounts",  "beside", "reference", NULL };

static int read_all(const json_t *o, struct sandbox *s, struct err *e)
{
	const char *level = "";
	int r = js_str(o, "level", 32, &level, e);

	if (r == 0 && isolation_parse(level, &s->level) < 0)
		return err_input(e, "there is no level '%s'", STR_ESC(level));
	if (r == 0)
		r = js_opt_bool(o, "network", &s->network, e);
	if (r >= 0)
		r = js_opt_bool(o, "bare", &s->bare, e);
	if (r >= 0)
		r = js_opt_bool(o, "data", &s->data, e);
	if (r >= 0)
		r = js_opt_bool(o, "stop", &s->stop, e);
	if (r >= 0)
		r = js_opt_bool(o, "writes", &s->writes, e);
	if (r >= 0)
		r = read_paths(o, "mounts", false, &s->mounts, e);
	if (r >= 0)
		r = read_paths(o, "beside", false, &s->beside, e);
	if (r >= 0)
		r = read_paths(o, "reference", true, &s->reference, e);
	return r < 0 ? r : 0;
}

int sandbox_from_json(const json_t *o, struct sandbox *ret, struct err *e)
{
	struct sandbox s = { .level = ISOLATION_NONE };
	int r = json_is_object(o) ? js_only(o, known, e) : err_input(e, "it is not an object");

	if (r == 0)
		r = read_all(o, &s, e);
	if (r < 0) {
		sandbox_done(&s);
		return err_wrap(e, "isolation");
	}
	*ret = s;
	return 0;
}

json_t *sandbox_to_json(const struct sandbox *s)
{
	return json_pack("{s:s, s:b, s:b, s:b, s:b, s:b, s:o, s:o, s:o}", "level",
			 isolation_name(s->level), "network", s->network, "bare", s->bare, "data",
			 s->data, "stop", s->stop, "writes", s->writes, "mounts",
			 js_strings(s->mounts), "beside", js_strings(s->beside), "reference",
			 js_strings(s->reference));
}

/* SPDX-License-Identifier: MIT */
#include "exec/container.h"

#include <limits.h>
#include <stdint.h>
#include <string.h>

#include "base/id.h"
#include "base/json.h"
#include "base/str.h"

enum {
	IMAGE_MAX = 512,
	ENV_MAX = 64,
};

void container_free(struct container *c)
{
	if (!c)
		return;
	free(c->engine);
	strv_free(c->env);
	free(c->group);
	free(c->image);
	free(c->digest);
	free(c->file);
	free(c->imported);
	free(c);
}

/* Nothing that an engine could take for an option or a path. */
const char *container_image_fault(const char *image)
{
	const char *at = strchr(image, '@');
	size_t n = at ? (size_t)(at - image) : strlen(image);

	if (n == 0 || strlen(image) > IMAGE_MAX)
		return "it is empty or too long";
	if (image[0] == '-' || image[0] == '/' || image[0] == '.')
		return "it does not begin with a letter or digit";
	if (strspn(image, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/:") <
	    n)
		return "it has characters that are in no image's name";
	if (at && !id_is_digest(at + 1))
		return "what follows '@' is no digest (sha256: and 64 digits)";
	return NULL;
}

int container_image_split(const char *image, char **ret_name, char **ret_digest)
{
	const char *at = strchr(image, '@');
	char *name = at ? strndup(image, (size_t)(at - image)) : strdup(image);
	char *digest = at ? strdup(at + 1) : NULL;

	if (!name || (at && !digest)) {
		free(name);
		free(digest);
		return -ENOMEM;
	}
	*ret_name = name;
	*ret_digest = digest;
	return 0;
}

/* --- JSON ------------------------------------------------------------------------------------- */

static int get(const json_t *o, const char *key, char **ret, struct err *e)
{
	const char *s = NULL;
	int r = js_opt_str(o, key, PATH_MAX, &s, e);

	if (r <= 0)
		return r;
	*ret = strdup(s);
	return *ret ? 0 : err_nomem(e);
}

static int get_env(const json_t *o, char ***ret, struct err *e)
{
	json_t *a = NULL, *v;
	size_t i;
	int r = js_opt_arr(o, "env", &a, e);

	if (r > 0 && json_array_size(a) > ENV_MAX)
		return err_input(e, "'env' has more than %d lines", ENV_MAX);
	json_array_foreach(a, i, v)
	{
		if (!json_is_string(v) || !strchr(json_string_value(v), '='))
			return err_input(e, "'env' has a line that is not NAME=value");
		if (strv_add(ret, json_string_value(v)) < 0)
			return err_nomem(e);
	}
	return r < 0 ? r : 0;
}

static int check(const struct container *c, struct err *e)
{
	if (!c->engine || !*c->engine)
		return err_input(e, "'engine' is missing");
	if (!c->image && !c->imported)
		return err_input(e, "want 'image' or 'imported'");
	if (c->image && (container_image_fault(c->image) || strchr(c->image, '@')))
		return err_input(e, "'image' is '%s'", STR_ESC(c->image));
	if (c->digest && !id_is_digest(c->digest))
		return err_input(e, "'digest' is '%s'", STR_ESC(c->digest));
	if (c->file && c->file[0] != '/')
		return err_input(e, "'file' is not an absolute path");
	if (c->group && c->group[0] != '/')
		return err_input(e, "'group' is not an absolute path");
	return 0;
}

static const char *const known[] = { "engine", "env",      "group", "image", "digest",
				     "file",   "imported", "pull",  NULL };

int container_from_json(const json_t *o, struct container **ret, struct err *e)
{
	struct container *c = calloc(1, sizeof(*c));
	int r = c ? js_only(o, known, e) : err_nomem(e);
	const struct {
		const char *key;
		char **to;
	} t[] = {
		{ "engine", c ? &c->engine : NULL }, { "group", c ? &c->group : NULL },
		{ "image", c ? &c->image : NULL },   { "digest", c ? &c->digest : NULL },
		{ "file", c ? &c->file : NULL },     { "imported", c ? &c->imported : NULL },
	};

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(t); i++)
		r = get(o, t[i].key, t[i].to, e);
	if (r == 0)
		r = get_env(o, &c->env, e);
	if (r == 0)
		r = js_opt_bool(o, "pull", &c->pull, e);
	if (r >= 0)
		r = check(c, e);
	if (r < 0) {
		container_free(c);
		return err_wrap(e, "container");
	}
	*ret = c;
	return 0;
}

json_t *container_to_json(const struct container *c)
{
	json_t *env = json_array();

	for (char **p = c->env; env && p && *p; p++)
		if (json_array_append_new(env, json_string(*p)) < 0) {
			json_decref(env);
			return NULL;
		}
	return json_pack("{s:s, s:o, s:s*, s:s*, s:s*, s:s*, s:s*, s:b}", "engine", c->engine,
			 "env", env, "group", c->group, "image", c->image, "digest", c->digest,
			 "file", c->file, "imported", c->imported, "pull", c->pull);
}

/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "base/fd.h"
#include "base/id.h"
#include "base/json.h"
#include "fetcher.h"

/* More than this many refused entries are only counted in an answer; the manifest lists them. */
#define ANSWER_REFUSED_MAX 50

void fetcher_done(struct fetcher *f)
{
	ssh_free(f->ssh);
	ssh_keys_done(&f->keys);
	free(f->address);
	free(f->user);
	if (f->staging >= 0)
		close(f->staging);
	if (f->connector >= 0)
		close(f->connector);
}

int fetcher_open_staging(struct fetcher *f, const char *path, struct err *e)
{
	int r = fd_make_dir(path, 0700, &f->staging, e);

	return r < 0 ? r : fetch_clean_staging(f->staging, e);
}

/* --- the session ---------------------------------------------------------------------------- */

static int get_session(void *user, struct ssh **ret, struct err *e)
{
	struct fetcher *f = user;
	struct ssh_opts o = {
		.host = { .address = f->address, .port = f->port, .user = f->user },
		.keys = &f->keys,
		.stall_usec = f->args->stall_usec,
		.abort_fd = f->abort_fd,
		.connect = connector_ask,
		.connect_user = f,
	};
	int r;

	if (!f->ssh || !ssh_alive(f->ssh)) {
		ssh_free(f->ssh);
		f->ssh = NULL;
		r = ssh_open(&o, &f->ssh, e);
		if (r < 0)
			return r;
	}
	*ret = f->ssh;
	return 0;
}

static int set_host(struct fetcher *f, const struct ssh_host *h, struct err *e)
{
	int r;

	if (f->address) {
		if (str_eq(f->address, h->address) && str_eq(f->user, h->user) &&
		    f->port == h->port)
			return 0;
		return err_input(e, "this fetcher talks to %s@%s:%u only; start one for each host",
				 f->user, f->address, f->port);
	}
	if (f->confined)
		return err_input(e, "this fetcher began with local folders and has no network");
	if (!f->args->ssh_key || !f->args->known_hosts)
		return err_set(e, EKEYEXPIRED, ERR_HOST,
			       "ssh:// needs --ssh-key and --known-hosts (settings ssh_key and "
			       "ssh_known_hosts)");
	r = ssh_keys_read(f->args->ssh_key, f->args->known_hosts, &f->keys, e);
	if (r < 0) {
		e->code = EKEYEXPIRED;
		return r;
	}
	f->address = strdup(h->address);
	f->user = strdup(h->user);
	f->port = h->port;
	return f->address && f->user ? connector_start(f->args, h, &f->connector, e) : err_nomem(e);
}

/* --- confinement ---------------------------------------------------------------------------- */

/* The folder that targets may be made in: --root, or the target's own one for a single object. */
static int targets_root(const struct fetcher *f, const struct job *j, char **ret, struct err *e)
{
	const char *slash = strrchr(j->target, '/');
	int r;

	if (f->args->root)
		r = str_fmt(ret, "%s", f->args->root);
	else
		r = slash && slash > j->target
			    ? str_fmt(ret, "%.*s", (int)(slash - j->target), j->target)
			    : str_fmt(ret, slash ? "/" : ".");
	if (r < 0)
		return err_nomem(e);
	return fd_mkdirs(*ret, 0750, e);
}

static int confine_once(struct fetcher *f, const struct job *j, struct err *e)
{
	auto_free char *root = NULL;
	int r;

	if (f->confined)
		return 0;
	r = targets_root(f, j, &root, e);
	r = r < 0 ? r
		  : confine(&(struct confine_spec){ .staging = f->staging,
						    .source = j->host ? NULL : j->dir,
						    .root = root,
						    .verbose = f->args->verbose },
			    e);
	f->confined = r == 0;
	return r;
}

/* --- one object ----------------------------------------------------------------------------- */

static int check_job(const struct fetcher *f, const struct job *j, struct err *e)
{
	size_t n = f->args->root ? strlen(f->args->root) : 0;

	if (!id_is_digest(j->root_hash))
		return err_input(e, "'%s' is not sha256:<64 hexadecimal digits>",
				 STR_ESC(j->root_hash));
	if (!*j->name || strspn(j->name, "abcdefghijklmnopqrstuvwxyz-") != strlen(j->name))
		return err_input(e, "'%s' is not the name of an object", STR_ESC(j->name));
	if (!*j->target || strstr(j->target, "/../") || str_ends(j->target, "/") ||
	    str_ends(j->target, "/.."))
		return err_input(e, "'%s' is not a target", STR_ESC(j->target));
	if (n && (strncmp(j->target, f->args->root, n) != 0 || j->target[n] != '/'))
		return err_input(e, "target '%s' is not beneath %s", STR_ESC(j->target),
				 f->args->root);
	return 0;
}

static int run(struct fetcher *f, const struct job *j, struct fetch_result *ret, struct err *e)
{
	uint8_t root[HASH_SIZE];
	struct fetch_spec spec = {
		.session = j->host ? get_session : NULL,
		.bulk = j->host ? connector_ask_bulk : NULL,
		.session_user = f,
		.dir = j->dir,
		.name = j->name,
		.root = root,
		.staging_dirfd = f->staging,
		.target = j->target,
		.keep_manifest = j->keep_manifest,
		.limits = j->limits,
		.reserve_bytes = f->args->reserve_bytes,
		.keep_after_usec = f->args->keep_after_usec,
		.progress = j->progress,
		.progress_user = j->progress_user,
		.abort_fd = f->abort_fd,
	};
	int r = check_job(f, j, e);

	if (r == 0 && j->host)
		r = set_host(f, j->host, e);
	r = r < 0 ? r : confine_once(f, j, e);
	if (r < 0)
		return r;
	if (hash_parse_hex(j->root_hash + strlen("sha256:"), root) < 0)
		return err_input(e, "bad root hash");
	return fetch_object(&spec, ret, e);
}

static int put(json_t *o, const char *key, json_t *value)
{
	return json_object_set_new(o, key, value);
}

static json_t *refused_list(const struct manifest *m)
{
	json_t *list = json_array();
	size_t n = m->n_refused < ANSWER_REFUSED_MAX ? m->n_refused : ANSWER_REFUSED_MAX;

	for (size_t i = 0; list && i < n; i++) {
		json_t *o = json_object();

		if (!o || put(o, "path", json_string(m->refused[i].path)) < 0 ||
		    put(o, "type", json_string(m->refused[i].type)) < 0 ||
		    put(o, "reason", json_string(m->refused[i].reason)) < 0 ||
		    json_array_append(list, o) < 0) {
			json_decref(o);
			json_decref(list);
			return NULL;
		}
		json_decref(o);
	}
	return list;
}

static json_t *success(const struct fetch_result *r, const char *root_hash)
{
	const struct manifest *m = &r->manifest;
	json_t *o = json_object();

	if (!o || put(o, "ok", json_true()) < 0 ||
	    put(o, "already", json_boolean(r->already)) < 0 ||
	    put(o, "root_hash", json_string(root_hash)) < 0 ||
	    put(o, "files", json_integer((json_int_t)m->files)) < 0 ||
	    put(o, "dirs", json_integer((json_int_t)m->dirs)) < 0 ||
	    put(o, "bytes", json_integer((json_int_t)m->bytes)) < 0 ||
	    put(o, "pack_bytes", json_integer((json_int_t)m->pack_size)) < 0 ||
	    put(o, "fetched_bytes", json_integer((json_int_t)r->fetched_bytes)) < 0 ||
	    put(o, "truncated", json_string(m->truncated)) < 0 ||
	    put(o, "refused_total", json_integer((json_int_t)m->refused_total)) < 0 ||
	    put(o, "refused", refused_list(m)) < 0) {
		json_decref(o);
		return NULL;
	}
	return o;
}

static json_t *failure(const struct err *e, enum fetch_class c)
{
	json_t *o = json_object();

	if (!o || put(o, "ok", json_false()) < 0 ||
	    put(o, "class", json_string(fetch_class_name(c))) < 0 ||
	    put(o, "detail", js_from_bytes(e->msg, strlen(e->msg))) < 0) {
		json_decref(o);
		return NULL;
	}
	return o;
}

json_t *fetcher_failure(const struct err *e)
{
	return failure(e, fetch_class(e));
}

json_t *fetcher_run(struct fetcher *f, const struct job *j, bool *ret_ok,
		    enum fetch_class *ret_class)
{
	auto_done(fetch_result) res = { .already = false };
	struct err e = { .code = 0 };
	int r = run(f, j, &res, &e);

	*ret_ok = r == 0;
	if (r == 0)
		return success(&res, j->root_hash);
	*ret_class = fetch_class(&e);
	return failure(&e, *ret_class);
}

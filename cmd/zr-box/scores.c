/* SPDX-License-Identifier: MIT */
/*
 * The scores file: an object of finite numbers, texts and booleans, nested. It was written by the
 * job, so it is opened without following links, must be a regular file, and is bounded in every way
 * before anything of it goes into an event.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/str.h"
#include "keeper.h"

enum {
	BYTES_MAX = 256 << 10,
	DEPTH_MAX = 8,
	KEYS_MAX = 1000,
	NAME_MAX_BYTES = 256,
};

static int check_object(const json_t *o, unsigned *keys, struct err *e);

static int check_value(const char *key, const json_t *v, unsigned *keys, struct err *e)
{
	if (++*keys > KEYS_MAX)
		return err_input(e, "more than %d members", KEYS_MAX);
	if (strlen(key) > NAME_MAX_BYTES)
		return err_input(e, "a name is longer than %d bytes", NAME_MAX_BYTES);
	if (json_is_object(v))
		return check_object(v, keys, e);
	if (json_is_real(v) && !isfinite(json_real_value(v)))
		return err_input(e, "'%s' is not a finite number", STR_ESC(key));
	if (json_is_number(v) || json_is_string(v) || json_is_boolean(v))
		return 0;
	return err_input(e, "'%s' is neither a number, a text, true or false, nor an object",
			 STR_ESC(key));
}

static int check_object(const json_t *o, unsigned *keys, struct err *e)
{
	json_t *obj = (json_t *)(uintptr_t)o;
	int r = 0;

	for (void *it = json_object_iter(obj); it && r == 0; it = json_object_iter_next(obj, it))
		r = check_value(json_object_iter_key(it), json_object_iter_value(it), keys, e);
	return r;
}

static int open_scores(const struct keeper *k, int *ret_fd, struct err *e)
{
	auto_close int dir = -1, fd = -1;
	struct stat st;
	int r = fd_open_beneath(k->tree, k->output, O_RDONLY | O_DIRECTORY, 0, &dir, e);

	if (r == 0)
		r = fd_open_beneath(dir, k->spec->scores_file, O_RDONLY | O_NONBLOCK, 0, &fd, e);
	if (r == -ELOOP)
		return err_input(e, "it is a symbolic link");
	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return err_input(e, "it is not a regular file");
	if (st.st_size > BYTES_MAX)
		return err_input(e, "it has %lld bytes, more than %d", (long long)st.st_size,
				 BYTES_MAX);
	*ret_fd = take_fd(fd);
	return 0;
}

static int read_scores(const struct keeper *k, json_t **ret, struct err *e)
{
	auto_buf struct buf b = { 0 };
	auto_close int fd = -1;
	unsigned keys = 0;
	json_t *o = NULL;
	int r = open_scores(k, &fd, e);

	if (r < 0)
		return r;
	r = fd_read_all(fd, "it", BYTES_MAX, &b, e);
	if (r == 0)
		r = js_parse(b.data ? b.data : "", b.len, DEPTH_MAX, &o, e);
	if (r < 0)
		return r;
	r = json_is_object(o) ? check_object(o, &keys, e) : err_input(e, "it is not an object");
	if (r < 0)
		json_decref(o);
	else
		*ret = o;
	return r;
}

enum scores_state scores_read(struct keeper *k)
{
	struct err e = { 0 };
	int r = read_scores(k, &k->result.scores, &e);

	if (r == 0)
		return SCORES_GOOD;
	if (r == -ENOENT)
		err_input(&e, "the file is missing");
	if (str_fmt(&k->result.scores_error, "%s: %s", k->spec->scores_file, e.msg) < 0)
		k->result.scores_error = NULL;
	return r == -ENOENT ? SCORES_MISSING : SCORES_BAD;
}

/* SPDX-License-Identifier: MIT */
/* channel:*: what a requester does in the folder of a directory channel, zr-channel(7). */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/id.h"
#include "base/json.h"
#include "base/str.h"
#include "base/time.h"
#include "commands.h"
#include "messaging/dirfile.h"
#include "messaging/message.h"
#include "pack.h"

#define LOOK_USEC (100 * USEC_PER_MSEC)

struct submit {
	struct cli *c;
	const char *folder, *evaluation;
	char *root; /* the folder's real path */
	char *source;
	struct pack pack;
	char evaluation_id[UUID_LEN + 1];
	json_t *args;
};

static void submit_done(struct submit *s)
{
	pack_done(&s->pack);
	json_decref(s->args);
	free(s->root);
	free(s->source);
}
DEFINE_AUTO_DONE(submit);

static int find_root(const char *folder, char **ret, struct err *e)
{
	auto_free char *requests = NULL;

	*ret = realpath(folder, NULL);
	if (!*ret)
		return err_set(e, errno, ERR_INPUT, "%s: %s", STR_ESC(folder), strerror(errno));
	if (str_fmt(&requests, "%s/requests", *ret) < 0)
		return err_nomem(e);
	return access(requests, F_OK) == 0
		       ? 0
		       : err_input(e,
				   "%s is no channel: start 'zr worker:run:eval --channel dir:%s' "
				   "once",
				   STR_ESC(folder), STR_ESC(folder));
}

/* A submission lies under its digest; one that is there is the same. */
static int place(struct submit *s, const char *path, struct err *e)
{
	auto_free char *packs = NULL;
	const char *hex;
	int r;

	if (str_fmt(&packs, "%s/submissions", s->root) < 0)
		return err_nomem(e);
	r = pack_make(packs, path, NULL, &s->pack, e);
	if (r < 0)
		return r;
	hex = s->pack.sealed.root_text + strlen("sha256:");
	r = fd_rename_durable(s->pack.fd, "sealed", s->pack.parent_fd, hex, true, e);
	if (r < 0 && r != -EEXIST && r != -ENOTEMPTY)
		return r;
	return str_fmt(&s->source, "file://%s/%s", packs, hex) < 0 ? err_nomem(e) : 0;
}

static int collect_args(struct submit *s, char **argv, int argc, struct err *e)
{
	s->args = json_array();
	for (int i = 0; i < argc; i++)
		if (json_array_append_new(s->args, json_string(argv[i])) < 0)
			return err_input(e, "argument '%s' is not UTF-8", STR_ESC(argv[i]));
	return s->args ? 0 : err_nomem(e);
}

static int put(const char *root, const char *folder, const char *name, const struct message *m,
	       struct err *e)
{
	auto_free char *path = NULL, *body = NULL;
	auto_close int fd = -1;
	size_t n = 0;
	int r = message_encode(m, &body, &n, e);

	if (r < 0)
		return r;
	if (str_fmt(&path, "%s/%s", root, folder) < 0)
		return err_nomem(e);
	r = fd_open_dir(AT_FDCWD, path, &fd, e);
	if (r == 0)
		r = dirfile_write(fd, name, body, n, e);
	if (r == 0 && fsync(fd) < 0)
		r = err_sys(e, "sync %s", STR_ESC(path));
	return r;
}

static int request(struct submit *s, const char *evaluator, struct err *e)
{
	char id[UUID_LEN + 1], name[UUID_LEN + 6];
	const struct message m = { .type = MESSAGE_REQUEST,
				   .request = { .id = id_uuid7(id),
						.evaluation = s->evaluation,
						.submission = "channel",
						.digest = s->pack.sealed.root_text,
						.source = s->source,
						.evaluator = evaluator,
						.args = s->args,
						.attempt = 1 } };

	/* Such names sort by time. */
	snprintf(name, sizeof(name), "%s.json", id);
	return put(s->root, "requests", name, &m, e);
}

/* --- waiting ------------------------------------------------------------------------------- */

/* The end of the evaluation in an event's file, or NULL. One that another attempt follows is none. */
static json_t *end_in(int dirfd, const char *name, const char *evaluation)
{
	auto_buf struct buf b = { 0 };
	auto_obj(message) m = NULL;

	if (fd_read_file(dirfd, name, MESSAGE_MAX, &b, NULL) < 0 ||
	    message_decode(b.data ? b.data : "", b.len, MESSAGE_MAX, &m, NULL) != MESSAGE_GOOD ||
	    m->type != MESSAGE_EVENT || !str_eq(m->event.evaluation, evaluation) ||
	    m->event.kind < MESSAGE_COMPLETED || json_object_get(m->json, "again"))
		return NULL;
	return json_incref(m->json);
}

static int compare(const void *key, const void *element)
{
	return strcmp(key, *(char *const *)element);
}

/* `old`: the names that were looked into; replaced. */
static json_t *look(int dirfd, const char *evaluation, char ***old)
{
	char **names = NULL;
	size_t n = strv_len(*old);
	json_t *o = NULL;

	if (dirfile_list(dirfd, ".json", &names, NULL) < 0)
		return NULL;
	for (char **p = names; p && *p && !o; p++)
		if (!n || !bsearch(*p, *old, n, sizeof(**old), compare))
			o = end_in(dirfd, *p, evaluation);
	strv_free(*old);
	*old = names;
	return o;
}

static int wait_for_end(const struct submit *s, json_t **ret, struct err *e)
{
	auto_free char *path = NULL;
	auto_strv char **old = NULL;
	auto_close int fd = -1;
	int r;

	if (str_fmt(&path, "%s/events", s->root) < 0)
		return err_nomem(e);
	r = fd_open_dir(AT_FDCWD, path, &fd, e);
	while (r == 0 && !(*ret = look(fd, s->evaluation, &old)))
		usleep(LOOK_USEC);
	return r;
}

static int show_end(const struct submit *s)
{
	json_auto_t *o = NULL;
	auto_free char *text = NULL;
	struct err e = { 0 };
	int r = wait_for_end(s, &o, &e);

	if (r == 0) {
		text = js_pretty(o);
		r = text ? 0 : err_nomem(&e);
	}
	if (r < 0)
		return cli_fail(s->c, &e);
	puts(text);
	return str_eq(json_string_value(json_object_get(o, "kind")), "completed") ? CLI_DONE
										  : CLI_FAILED;
}

/* --- the verbs ----------------------------------------------------------------------------- */

static int submit(struct cli *c)
{
	auto_done(submit) s = { .c = c, .pack = PACK_EMPTY };
	struct err e = { 0 };
	bool wait = false;
	const struct cli_opt opts[] = {
		{ "evaluation", 0, CLI_TEXT, &s.evaluation, "NAME",
		  "the evaluation's name; default: a new one" },
		{ "wait", 0, CLI_FLAG, &wait, NULL,
		  "wait for its end and print that event; exit status 1 unless it completed" },
		{ 0 },
	};
	int r;

	if (!cli_parse(c, opts, 3, -1))
		return c->status;
	if (!s.evaluation)
		s.evaluation = id_uuid7(s.evaluation_id);
	r = find_root(c->argv[0], &s.root, &e);
	if (r == 0)
		r = collect_args(&s, c->argv + 3, c->argc - 3, &e);
	if (r == 0)
		r = place(&s, c->argv[2], &e);
	if (r == 0)
		r = request(&s, c->argv[1], &e);
	if (r < 0)
		return cli_fail(c, &e);
	if (wait)
		return show_end(&s);
	printf("evaluation %s\n", s.evaluation);
	return CLI_DONE;
}

static int cancel(struct cli *c)
{
	const struct cli_opt opts[] = { { 0 } };
	struct message m = { .type = MESSAGE_CONTROL, .control = { .kind = MESSAGE_CANCEL } };
	auto_free char *root = NULL;
	char id[UUID_LEN + 1], name[UUID_LEN + 6];
	struct err e = { 0 };
	int r;

	if (!cli_parse(c, opts, 2, 2))
		return c->status;
	m.control.id = id_uuid7(id);
	m.control.evaluation = c->argv[1];
	m.control.by = getenv("USER");
	snprintf(name, sizeof(name), "%s.json", id);
	r = find_root(c->argv[0], &root, &e);
	if (r == 0)
		r = put(root, "control", name, &m, &e);
	return r < 0 ? cli_fail(c, &e) : CLI_DONE;
}

static const struct command commands[] = {
	{ "channel:submit", "FOLDER EVALUATOR SUBMISSION [ARG...]",
	  "Put a submission and its request into the folder of a directory channel",
	  "zr channel:submit /mnt/zr hello examples/hello --wait", submit, NULL },
	{ "channel:cancel", "FOLDER EVALUATION", "Cancel an evaluation of a directory channel",
	  "zr channel:cancel /mnt/zr 42", cancel, NULL },
	{ 0 },
};

const struct command_group channel_group = { "directory channels", commands };

/* SPDX-License-Identifier: MIT */
#include "reach.h"

#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/str.h"
#include "base/time.h"
#include "store/schema.h"

#define OBJECT_MAX   ((size_t)1 << 20)
#define CONNECT_USEC (10 * USEC_PER_SEC)

int reach_database(const struct settings *s, struct db **ret, struct err *e)
{
	auto_obj(db) d = NULL;
	int r;

	r = db_open(s->database_url, CONNECT_USEC, &d, e);
	if (r == 0)
		r = schema_check(d, e);
	if (r < 0)
		return r;
	*ret = take_ptr(d);
	return 0;
}

int cli_fail_setup(const struct cli *c, const struct err *e)
{
	int status = cli_fail(c, e);

	return e->kind == ERR_HOST || e->code == EACCES ? CLI_USAGE : status;
}

bool cli_id(struct cli *c, const char *what, const char *text, int64_t *ret)
{
	uint64_t v;

	if (str_u64(text, &v) == 0 && v >= 1 && v <= INT64_MAX) {
		*ret = (int64_t)v;
		return true;
	}
	c->status = cli_usage(c, "'%s' is no %s: want its number", STR_ESC(text), what);
	return false;
}

bool cli_ids(struct cli *c, const char *what, int64_t **ret)
{
	auto_free int64_t *ids = calloc((size_t)c->argc + 1, sizeof(*ids));
	struct err e = { 0 };

	if (!ids) {
		(void)err_nomem(&e);
		c->status = cli_fail(c, &e);
		return false;
	}
	for (int i = 0; i < c->argc; i++)
		if (!cli_id(c, what, c->argv[i], &ids[i]))
			return false;
	*ret = take_ptr(ids);
	return true;
}

bool cli_since(struct cli *c, const char *text, char out[TIME_TEXT_MAX], const char **ret)
{
	uint64_t usec, now = time_wall_usec();
	char day[40];

	*ret = NULL;
	if (!text)
		return true;
	snprintf(day, sizeof(day), "%.20sT00:00:00Z", text);
	if (time_parse(text, &usec) < 0 && (strlen(text) != 10 || time_parse(day, &usec) < 0)) {
		uint64_t span;

		if (str_span(text, &span) < 0 || span > now) {
			c->status = cli_usage(c,
					      "bad value for --since: '%s' (want e.g. 2h, "
					      "2026-11-21 or 2026-11-21T23:00:00Z)",
					      STR_ESC(text));
			return false;
		}
		usec = now - span;
	}
	*ret = time_text(out, usec);
	return true;
}

bool cli_status(struct cli *c, const char *text)
{
	static const char *const known[] = { "created",   "queued", "running",
					     "completed", "failed", "canceled" };

	if (!text)
		return true;
	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (str_eq(known[i], text))
			return true;
	c->status = cli_usage(c,
			      "bad value for --status: '%s' (want created, queued, running, "
			      "completed, failed or canceled)",
			      STR_ESC(text));
	return false;
}

int cli_read_json(const char *file, json_t **ret, struct err *e)
{
	bool is_stdin = str_eq(file, "-");
	const char *what = is_stdin ? "standard input" : file;
	auto_close int fd = is_stdin ? -1 : open(file, O_RDONLY | O_CLOEXEC);
	auto_buf struct buf b = { 0 };
	int r;

	if (fd < 0 && !is_stdin)
		return err_sys(e, "open %s", STR_ESC(file));
	r = fd_read_all(is_stdin ? STDIN_FILENO : fd, what, OBJECT_MAX, &b, e);
	if (r < 0)
		return r;
	r = js_parse(b.data ? b.data : "", b.len, JS_DEPTH_MAX, ret, e);
	return r < 0 ? err_wrap(e, "%s", STR_ESC(what)) : 0;
}

int cli_read_object(const char *file, json_t **ret, struct err *e)
{
	json_auto_t *o = NULL;
	int r = cli_read_json(file, &o, e);

	if (r < 0)
		return r;
	if (!json_is_object(o))
		return err_input(e, "%s: want one JSON object", STR_ESC(file));
	*ret = json_incref(o);
	return 0;
}

const char *cli_user(char *out, size_t size)
{
	const struct passwd *pw = getpwuid(getuid());

	if (pw)
		snprintf(out, size, "%s", pw->pw_name);
	else
		snprintf(out, size, "uid-%u", (unsigned)getuid());
	return out;
}

const char *cli_caller(const struct settings *s, char *out, size_t size)
{
	char user[128];

	snprintf(out, size, "%s@%s", cli_user(user, sizeof(user)), s->host);
	return out;
}

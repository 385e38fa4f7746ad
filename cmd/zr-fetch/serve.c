/* SPDX-License-Identifier: MIT */
/*
 * Server mode: one JSON object a line from SERVE_FD, one line of answer each, in order. Over a
 * SEQPACKET socket a message is a line, with or without its newline. The caller is trusted.
 */
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/id.h"
#include "base/json.h"
#include "fetcher.h"

#define COMMAND_MAX ((size_t)64 << 10)

struct server {
	struct fetcher *f;
	bool packets;
	struct buf in;
	json_t *id; /* of the command being served; borrowed */
};

/* --- lines ---------------------------------------------------------------------------------- */

static int send_line(const json_t *o, int flags)
{
	auto_free char *text = js_text(o);
	auto_buf struct buf b = { 0 };
	size_t at = 0;

	if (!text || buf_fmt(&b, "%s\n", text) < 0)
		return -ENOMEM;
	while (at < b.len) {
		ssize_t n = send(SERVE_FD, b.data + at, b.len - at, MSG_NOSIGNAL | flags);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		at += (size_t)n;
		/* A line that was begun is ended. */
		flags = 0;
	}
	return 0;
}

/* 1: a line is at the start of s->in, its length without the newline in *ret_n. 0: the end. */
static int next_line(struct server *s, size_t *ret_n)
{
	for (;;) {
		char *nl = s->in.len ? memchr(s->in.data, '\n', s->in.len) : NULL;
		ssize_t n;

		if (nl) {
			*ret_n = (size_t)(nl - s->in.data);
			return 1;
		}
		if (s->in.len > COMMAND_MAX)
			return -EMSGSIZE;
		if (buf_reserve(&s->in, COMMAND_MAX + 1) < 0)
			return -ENOMEM;
		n = recv(SERVE_FD, s->in.data + s->in.len, COMMAND_MAX, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		s->in.len += (size_t)n;
		if (s->packets && s->in.data[s->in.len - 1] != '\n' && buf_str(&s->in, "\n") < 0)
			return -ENOMEM;
	}
}

/* --- commands ------------------------------------------------------------------------------- */

struct pull {
	struct ssh_host host;
	struct job job;
	const char *op;
};

static int read_host(const json_t *o, struct pull *p, struct err *e)
{
	json_t *h;
	int64_t port = 22;
	int r = js_opt_obj(o, "host", &h, e);

	if (r <= 0)
		return r;
	r = js_str(h, "address", 255, &p->host.address, e);
	r = r < 0 ? r : js_str(h, "user", 64, &p->host.user, e);
	r = r < 0 ? r : js_opt_int(h, "port", 1, 65535, &port, e);
	p->host.port = (uint16_t)port;
	p->job.host = &p->host;
	return r < 0 ? r : 0;
}

static int read_limit(const json_t *o, const char *key, uint64_t *ret, struct err *e)
{
	int64_t v = (int64_t)*ret;
	int r = js_opt_int(o, key, 0, INT64_MAX, &v, e);

	*ret = (uint64_t)v;
	return r < 0 ? r : 0;
}

static int read_limits(const json_t *o, struct extract_limits *l, struct err *e)
{
	json_t *lim;
	int r = js_opt_obj(o, "limits", &lim, e);

	if (r <= 0)
		return r;
	r = read_limit(lim, "entries", &l->entries, e);
	r = r < 0 ? r : read_limit(lim, "bytes", &l->bytes, e);
	r = r < 0 ? r : read_limit(lim, "file_bytes", &l->file_bytes, e);
	return r < 0 ? r : read_limit(lim, "ratio", &l->ratio, e);
}

static int read_pull(const json_t *o, struct pull *p, struct err *e)
{
	int r = js_str(o, "op", 32, &p->op, e);

	if (r == 0 && !str_eq(p->op, "pull"))
		return err_input(e, "no such command '%s'", STR_ESC(p->op));
	r = r < 0 ? r : read_host(o, p, e);
	r = r < 0 ? r : js_str(o, "remote_dir", 4096, &p->job.dir, e);
	r = r < 0 ? r : js_str(o, "root_hash", 80, &p->job.root_hash, e);
	r = r < 0 ? r : js_str(o, "target", 4096, &p->job.target, e);
	r = r < 0 ? r : js_opt_str(o, "name", 64, &p->job.name, e);
	r = r < 0 ? r : js_opt_bool(o, "keep_manifest", &p->job.keep_manifest, e);
	return r < 0 ? r : read_limits(o, &p->job.limits, e);
}

/* A slow reader only loses progress, never time of the fetch. */
static void on_progress(void *user, uint64_t bytes, uint64_t total)
{
	struct server *s = user;
	json_t *o = json_object();

	if (o && json_object_set(o, "id", s->id) == 0 &&
	    json_object_set_new(o, "progress", json_integer((json_int_t)bytes)) == 0 &&
	    json_object_set_new(o, "total", json_integer((json_int_t)total)) == 0)
		(void)send_line(o, MSG_DONTWAIT);
	json_decref(o);
}

static json_t *serve_command(struct server *s, json_t *o)
{
	struct pull p = { .job = { .name = "result", .keep_manifest = true } };
	struct err e = { .code = 0 };
	enum fetch_class class;
	bool ok;

	s->id = json_object_get(o, "id");
	p.job.limits = s->f->args->limits;
	p.job.progress = on_progress;
	p.job.progress_user = s;
	if (read_pull(o, &p, &e) < 0)
		return fetcher_failure(&e);
	return fetcher_run(s->f, &p.job, &ok, &class);
}

static int answer(struct server *s, const char *line, size_t n)
{
	json_auto_t *o = NULL, *a = NULL;
	struct err e = { .code = 0 };

	if (js_parse(line, n, JS_DEPTH_MAX, &o, &e) < 0)
		a = fetcher_failure(&e);
	else
		a = serve_command(s, o);
	if (!a || (s->id && json_object_set(a, "id", s->id) < 0))
		return -ENOMEM;
	s->id = NULL;
	return send_line(a, 0);
}

int serve(struct fetcher *f)
{
	struct server s = { .f = f };
	socklen_t len = sizeof(int);
	int type = 0, r;
	size_t n = 0;

	if (getsockopt(SERVE_FD, SOL_SOCKET, SO_TYPE, &type, &len) < 0) {
		fprintf(stderr, "zr-fetch: --serve needs a socket at descriptor %d\n", SERVE_FD);
		return EXIT_USAGE;
	}
	s.packets = type == SOCK_SEQPACKET;
	f->abort_fd = SERVE_FD;
	while ((r = next_line(&s, &n)) > 0) {
		r = answer(&s, s.in.data, n);
		if (r < 0)
			break;
		buf_drop_front(&s.in, n + 1);
	}
	buf_done(&s.in);
	if (r < 0 && r != -ECONNRESET && r != -EPIPE) {
		fprintf(stderr, "zr-fetch: commands: %s\n", strerror(-r));
		return EXIT_FAILED;
	}
	return 0;
}

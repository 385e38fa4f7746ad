/* SPDX-License-Identifier: MIT */
#include "proxy.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/hash.h"
#include "base/id.h"
#include "base/log.h"
#include "base/pyjson.h"
#include "base/time.h"
#include "messaging/dirfile.h"
#include "messaging/dirwatch.h"
#include "messaging/pikefile.h"
#include "messaging/pikesubmit.h"

#define SCAN_USEC USEC_PER_SEC
/* A handshake that nobody answers is sent again after this, once its pair was taken. */
#define HANDSHAKE_USEC (5 * USEC_PER_SEC)
/* The text of a message may be seen later than its .done. */
#define GRACE_SEC 60
/* Clients wait for an hour. */
#define KEEP_SEC   86400
#define PRUNE_USEC (3600 * USEC_PER_SEC)

struct proxy {
	int in, out, store;
	struct dirwatch *watch;
	struct loop_src *handshake, *prune;
	char hand[UUID_LEN + 1]; /* the pair of the last handshake */
	bool ready;
};

/* --- to the worker ------------------------------------------------------------------------- */

static char *uuid4(char out[UUID_LEN + 1])
{
	uint8_t b[16];
	char *p = out;

	if (getrandom(b, sizeof(b), 0) != sizeof(b))
		abort(); /* 16 bytes never come in parts */
	b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
	b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
	for (size_t i = 0; i < sizeof(b); i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*p++ = '-';
		p += snprintf(p, 3, "%02x", b[i]);
	}
	return out;
}

static int send_pair(struct proxy *p, char stem[UUID_LEN + 1], const char *text, size_t n,
		     struct err *e)
{
	int r = pikefile_write(p->in, uuid4(stem), text, n, e);

	return r < 0 ? r : pikefile_say(p->in, stem, e);
}

static void on_handshake(void *user)
{
	static const char text[] = "{\"type\": \"handshake\"}";
	struct proxy *p = user;
	struct err e = { 0 };

	if (p->ready)
		return;
	loop_timer_set(p->handshake, HANDSHAKE_USEC);
	if (p->hand[0] && pikefile_is_said(p->in, p->hand))
		return;
	if (send_pair(p, p->hand, text, strlen(text), &e) < 0)
		log_warning("%s; trying again", e.msg);
}

/* --- from the worker ----------------------------------------------------------------------- */

static char *store_name(char out[80], const void *id, size_t n)
{
	uint8_t sum[HASH_SIZE];
	struct hash h;
	char hex[65];

	hash_init(&h);
	hash_add(&h, id, n);
	hash_end(&h, sum);
	snprintf(out, 80, "%s.json", hash_hex(hex, sum));
	return out;
}

/* The answer first, then the end of the pair: a crash in between costs nothing. */
static int keep(struct proxy *p, struct pj id, const struct buf *text, struct err *e)
{
	auto_buf struct buf name = { 0 };
	char file[80];

	if (pj_text(id, &name) < 0)
		return err_nomem(e);
	store_name(file, name.data ? name.data : "", name.len);
	return fd_write_file(p->store, file, text->data, text->len, 0640, false, e);
}

static bool may_come(struct proxy *p, const char *stem)
{
	struct timespec t = { 0 };

	return pikefile_time(p->out, stem, &t, NULL) == 0 && time(NULL) - t.tv_sec < GRACE_SEC;
}

static void put_aside(struct proxy *p, const char *stem, const char *why)
{
	struct err e = { 0 };

	if (pikefile_reject(p->out, stem, &e) < 0)
		log_warning("%s", e.msg);
	else
		log_warning("%s.json of the worker is put aside: %s", STR_ESC(stem), why);
}

static void take(struct proxy *p, const char *stem)
{
	auto_buf struct buf b = { 0 };
	struct pj m = { 0 }, type = { 0 }, id = { 0 };
	struct err e = { 0 };

	if (pikefile_read(p->out, stem, &b, &e) < 0 ||
	    pj_check(b.data ? b.data : "", b.len, &m, &e) < 0) {
		if (!may_come(p, stem))
			put_aside(p, stem, e.msg);
		return;
	}
	if (pj_member(m, "type", &type) && pj_is(type, "handshake")) {
		p->ready = true;
	} else if (!pj_member(m, "id", &id) || pj_type(id) != PJ_STRING) {
		put_aside(p, stem, "it has no id that a client could ask for");
		return;
	} else if (keep(p, id, &b, &e) < 0) {
		log_warning("%s; trying again", e.msg);
		return;
	}
	if (pikefile_remove(p->out, stem, &e) < 0)
		log_debug("%s", e.msg);
}

static void take_all(struct proxy *p)
{
	auto_strv char **names = NULL;
	struct err e = { 0 };

	if (dirfile_list(p->out, ".done", &names, &e) < 0)
		log_warning("%s", e.msg);
	for (char **n = names; n && *n; n++) {
		auto_free char *stem = strndup(*n, strlen(*n) - strlen(".done"));

		if (stem)
			take(p, stem);
	}
}

static void on_look(void *user, unused_arg enum dirwatch_why why)
{
	take_all(user);
}

static void on_prune(void *user)
{
	struct proxy *p = user;
	auto_strv char **names = NULL;
	struct stat st;

	loop_timer_set(p->prune, PRUNE_USEC);
	if (dirfile_list(p->store, ".json", &names, NULL) < 0)
		return;
	for (char **n = names; n && *n; n++)
		if (fstatat(p->store, *n, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    time(NULL) - st.st_mtime > KEEP_SEC)
			(void)unlinkat(p->store, *n, 0);
}

/* --- the routes ---------------------------------------------------------------------------- */

static void say(struct http_reply *reply, unsigned status, const char *type, const char *text)
{
	reply->status = status;
	reply->type = type;
	reply->body.len = 0;
	if (buf_str(&reply->body, text) < 0)
		reply->hang_up = true;
}

static void bad_input(struct http_reply *reply)
{
	say(reply, 500, NULL, "Bad input");
}

static void submit(struct proxy *p, const struct http_request *rq, struct http_reply *reply)
{
	auto_buf struct buf b = { 0 };
	char id[UUID_LEN + 1], stem[UUID_LEN + 1];
	struct err e = { 0 };
	int r = pikesubmit_message(rq->body, rq->n, uuid4(id), &b);

	if (r == -EINVAL) {
		bad_input(reply);
		return;
	}
	if (r == 0)
		r = send_pair(p, stem, b.data, b.len, &e);
	if (r < 0 && e.msg[0])
		log_warning("%s", e.msg);
	if (r < 0)
		reply->hang_up = true;
	else
		say(reply, 200, NULL, id);
}

static void poll_result(struct proxy *p, const struct http_request *rq, struct http_reply *reply)
{
	char name[80];
	struct err e = { 0 };
	int r;

	if (!rq->id || !*rq->id) {
		bad_input(reply);
		return;
	}
	store_name(name, rq->id, strlen(rq->id));
	say(reply, 200, "application/json", "");
	r = fd_read_file(p->store, name, PIKE_MESSAGE_MAX, &reply->body, &e);
	if (r < 0 && r != -ENOENT)
		log_warning("%s", e.msg);
	if (r < 0)
		say(reply, 200, "application/json", "null");
}

static void close_worker(struct proxy *p, struct http_reply *reply)
{
	static const char text[] = "{\"type\": \"close\"}";
	char stem[UUID_LEN + 1];
	struct err e = { 0 };

	if (send_pair(p, stem, text, strlen(text), &e) == 0) {
		say(reply, 200, NULL, "OK");
		return;
	}
	log_warning("%s", e.msg);
	reply->hang_up = true;
}

void proxy_handle(void *user, const struct http_request *rq, struct http_reply *reply)
{
	struct proxy *p = user;
	bool get = str_eq(rq->method, "GET"), post = str_eq(rq->method, "POST");

	log_debug("%s %s", STR_ESC(rq->method), STR_ESC(rq->path));
	if (!get && !post)
		say(reply, 501, "text/html;charset=utf-8",
		    "<!DOCTYPE HTML>\n<html><head><title>Error response</title></head>"
		    "<body><h1>Error response</h1><p>Error code: 501</p></body></html>\n");
	else if (get && str_eq(rq->path, "/ready"))
		say(reply, 200, "application/json", p->ready ? "true" : "false");
	else if (post && str_eq(rq->path, "/submit"))
		submit(p, rq, reply);
	else if (get && str_eq(rq->path, "/poll"))
		poll_result(p, rq, reply);
	else if (get && str_eq(rq->path, "/close"))
		close_worker(p, reply);
	else
		say(reply, 404, NULL, "Not Found");
}

/* --- opening ------------------------------------------------------------------------------- */

static int empty_input(struct proxy *p, struct err *e)
{
	auto_strv char **names = NULL;
	int r = dirfile_list(p->in, "", &names, e);

	for (char **n = names; n && *n; n++) {
		bool regular = false;

		if (dirfile_is_regular(p->in, *n, &regular, NULL) == 0 && regular)
			(void)unlinkat(p->in, *n, 0);
	}
	return r;
}

static int open_folder(const char *base, const char *name, int *ret, struct err *e)
{
	auto_free char *path = NULL;

	if (str_fmt(&path, "%s/%s", base, name) < 0)
		return err_nomem(e);
	return fd_make_dir(path, 0775, ret, e);
}

int proxy_new(struct loop *l, const char *worker_io, struct proxy **ret, struct err *e)
{
	auto_obj(proxy) p = calloc(1, sizeof(*p));
	struct err why = { 0 };
	int r;

	if (!p)
		return err_nomem(e);
	p->in = p->out = p->store = -1;
	r = open_folder(worker_io, "input", &p->in, e);
	if (r == 0)
		r = open_folder(worker_io, "output", &p->out, e);
	if (r == 0)
		r = open_folder(worker_io, "gateway", &p->store, e);
	if (r == 0)
		r = empty_input(p, e);
	if (r == 0)
		r = dirwatch_new(l, SCAN_USEC, true, on_look, p, &p->watch, e);
	if (r == 0 && dirwatch_add(p->watch, p->out, &why) < 0)
		log_notice("%s: looking once a second only", why.msg);
	if (r == 0)
		r = loop_timer(l, 0, on_handshake, p, &p->handshake, e);
	if (r == 0)
		r = loop_timer(l, 0, on_prune, p, &p->prune, e);
	if (r < 0)
		return r;
	*ret = take_ptr(p);
	return 0;
}

void proxy_free(struct proxy *p)
{
	if (!p)
		return;
	dirwatch_free(p->watch);
	loop_src_free(p->handshake);
	loop_src_free(p->prune);
	if (p->in >= 0)
		close(p->in);
	if (p->out >= 0)
		close(p->out);
	if (p->store >= 0)
		close(p->store);
	free(p);
}

/* SPDX-License-Identifier: MIT */
/*
 * The control socket of the box: JSON lines. The keeper tells what is new, and the reader finds the
 * rest in the box folder:
 *
 *	{"t":"started","at":…,"phase":"run","isolation":{…}}
 *	{"t":"phase","phase":"run"}                   of those that follow the first
 *	{"t":"log","out":BYTES,"err":BYTES}           sizes of the files, at most 10 times a second
 *	{"t":"progress","phase":"run","progress":{…}} at most 4 times a second, the last one always
 *	{"t":"violation","phase":"run","violations":{…}} what there is by now, at most once a second
 *	{"t":"end","spare":true,"ready":true}         the journal has the result; so does a hang-up.
 *	                                              spare: the folder is fit for another box;
 *	                                              ready: we for another job (serve.c)
 *
 * A client says {"t":"cancel"}, or {"t":"kill"}, which is the same without grace and may follow it, or
 * {"t":"lease","usec":N,"at":USEC}: the lease lasts N microseconds from `at` on, a time of
 * CLOCK_BOOTTIME, or from now on without it (lease.c). A new client is first told all that is still
 * true. Adopters and people come through the listener; the worker that is served has a socket of its
 * own, which keeps messages apart, and stays from one job to the next (serve.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/id.h"
#include "base/json.h"
#include "base/str.h"
#include "base/time.h"
#include "exec/keepers.h"
#include "keeper.h"

#define LOG_PAUSE       (100 * USEC_PER_MSEC)
#define PROGRESS_PAUSE  (250 * USEC_PER_MSEC)
#define VIOLATION_PAUSE (1000 * USEC_PER_MSEC)
#define READS_MAX       256

void control_init(struct control *c, int serve)
{
	*c = (struct control){ .listener = -1, .folder = -1 };
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		c->client[i].fd = -1;
	c->client[0].fd = serve;
}

static void drop(struct client *c)
{
	close(c->fd);
	*c = (struct client){ .fd = -1 };
}

/* A client hung up while there is a job. */
static void lost(struct keeper *k, struct client *c)
{
	drop(c);
	if (c == &k->control.client[0] && k->spec->attended)
		verdict(k, BOX_CANCELED, "canceled because the program that started it has gone");
}

/* --- telling ---------------------------------------------------------------------------------- */

static char *progress_message(const struct keeper *k)
{
	json_t *o = json_pack("{s:s, s:s, s:o}", "t", "progress", "phase", phase_name(k->phase),
			      "progress", progress_json(&k->control.progress));
	char *text = o ? js_text(o) : NULL;

	json_decref(o);
	return text;
}

static char *violation_message(const struct keeper *k)
{
	json_t *o = json_pack(
		"{s:s, s:s, s:o}", "t", "violation", "phase", phase_name(k->phase), "violations",
		k->result.violations ? json_incref(k->result.violations) : violations_json(k));
	char *text = o ? js_text(o) : NULL;

	json_decref(o);
	return text;
}

static char *message(const struct keeper *k, unsigned bit)
{
	char *text = NULL;
	int r = 0;

	if (bit == TELL_STARTED)
		return k->control.started ? strdup(k->control.started) : NULL;
	if (bit == TELL_PROGRESS)
		return progress_message(k);
	if (bit == TELL_VIOLATION)
		return violation_message(k);
	if (bit == TELL_PHASE)
		r = str_fmt(&text, "{\"t\":\"phase\",\"phase\":\"%s\"}", phase_name(k->phase));
	else if (bit == TELL_LOG)
		r = str_fmt(&text, "{\"t\":\"log\",\"out\":%llu,\"err\":%llu}",
			    (unsigned long long)k->log[0].size, (unsigned long long)k->log[1].size);
	else
		r = str_fmt(&text, "{\"t\":\"end\",\"spare\":%s,\"ready\":%s}",
			    k->untouched && !k->clean && !k->stuck ? "true" : "false",
			    !k->clean && !k->stuck && !k->changed ? "true" : "false");
	return r < 0 ? NULL : text;
}

/* Puts the next thing to say into the client's buffer. */
static void compose(const struct keeper *k, struct client *c)
{
	unsigned bit = c->dirty & -c->dirty; /* lowest first: `started` before the others */
	auto_free char *text = message(k, bit);
	size_t n = text ? strlen(text) : 0;

	c->dirty &= ~bit;
	c->out_len = c->out_sent = 0;
	if (!n || n + 1 > sizeof(c->out))
		return;
	memcpy(c->out, text, n);
	c->out[n] = '\n';
	c->out_len = n + 1;
}

static void send_to(struct keeper *k, struct client *c)
{
	while (c->fd >= 0 && !c->deaf) {
		ssize_t n;

		if (c->out_sent == c->out_len) {
			if (!c->dirty)
				return;
			compose(k, c);
			continue;
		}
		n = send(c->fd, c->out + c->out_sent, c->out_len - c->out_sent,
			 MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n > 0) {
			c->out_sent += (size_t)n;
			continue;
		}
		/* The hang-up is read after all that it has said. */
		c->deaf = true;
		c->out_len = c->out_sent = 0;
	}
}

static void tell_all(struct keeper *k, unsigned bits)
{
	for (size_t i = 0; i < CLIENTS_MAX; i++) {
		struct client *c = &k->control.client[i];

		if (c->fd < 0 || c->deaf)
			continue;
		c->dirty |= bits;
		send_to(k, c);
	}
}

void control_tell(struct keeper *k, unsigned bits)
{
	const unsigned paced = TELL_LOG | TELL_PROGRESS | TELL_VIOLATION;

	k->control.known |= bits;
	k->control.waiting |= bits & paced;
	if (bits & ~paced)
		tell_all(k, bits & ~paced);
}

/* Returns when it is due, or sends it. */
static uint64_t tick_one(struct keeper *k, unsigned bit, uint64_t *last, uint64_t pause,
			 uint64_t now)
{
	if (!(k->control.waiting & bit))
		return UINT64_MAX;
	if (now < *last + pause)
		return *last + pause;
	*last = now;
	k->control.waiting &= ~bit;
	tell_all(k, bit);
	return UINT64_MAX;
}

uint64_t control_tick(struct keeper *k, uint64_t now)
{
	struct control *c = &k->control;
	uint64_t due = tick_one(k, TELL_LOG, &c->log_usec, LOG_PAUSE, now);
	uint64_t other = tick_one(k, TELL_PROGRESS, &c->progress_usec, PROGRESS_PAUSE, now);

	due = other < due ? other : due;
	other = tick_one(k, TELL_VIOLATION, &c->violation_usec, VIOLATION_PAUSE, now);
	return other < due ? other : due;
}

/* All that is waiting, whatever its rate. */
static void flush(struct keeper *k)
{
	unsigned bits = k->control.waiting;

	k->control.waiting = 0;
	if (bits)
		tell_all(k, bits);
}

void control_started(struct keeper *k, char *record)
{
	k->control.started = record;
	control_tell(k, TELL_STARTED);
}

void control_progress(struct keeper *k, const struct progress *p)
{
	k->control.progress = *p;
	control_tell(k, TELL_PROGRESS);
}

/* --- from job to job -------------------------------------------------------------------------- */

#define BESIDE "../../" KEEPERS_DIR

/* Under a name of our own. The working directory is a box, so the path fits. */
static int listen_beside(struct control *c, struct err *e)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	auto_close int folder = -1;

	if (mkdir(BESIDE, 0700) < 0 && errno != EEXIST)
		return err_sys(e, "make the folder of the keepers");
	folder = open(BESIDE, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || folder < 0)
		return err_sys(e, "make a socket");
	snprintf(a.sun_path, sizeof(a.sun_path), BESIDE "/%s", id_uuid7(c->name));
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, CLIENTS_MAX) < 0)
		return err_sys(e, "listen on the control socket");
	c->listener = take_fd(fd);
	c->folder = take_fd(folder);
	return 0;
}

static void close_listener(struct control *c)
{
	if (c->listener < 0)
		return;
	(void)unlinkat(c->folder, c->name, 0);
	close(c->listener);
	close(c->folder);
	c->listener = c->folder = -1;
}

/* One socket for all jobs: a link costs less than a socket each time. */
static int link_socket(const struct keeper *k)
{
	static const char name[] = "control";
	const struct control *c = &k->control;
	int r = linkat(c->folder, c->name, k->dir, name, 0);

	if (r < 0 && errno == EEXIST && unlinkat(k->dir, name, 0) == 0)
		r = linkat(c->folder, c->name, k->dir, name, 0);
	return r < 0 ? -errno : 0;
}

int control_enter(struct keeper *k, struct err *e)
{
	struct control *c = &k->control;
	int r = c->listener < 0 ? -ENOENT : link_socket(k);

	c->known = c->waiting = 0;
	c->client[0].dirty = 0;
	c->log_usec = c->progress_usec = c->violation_usec = 0;
	if (r == 0)
		return 0;
	/* The first job, or a folder elsewhere, or somebody has removed it. */
	close_listener(c);
	r = listen_beside(c, e);
	if (r < 0)
		return r;
	r = link_socket(k);
	return r < 0 ? err_errno(e, r, "link the control socket") : 0;
}

void control_leave(struct keeper *k)
{
	struct control *c = &k->control;

	flush(k);
	tell_all(k, TELL_END);
	for (size_t i = 1; i < CLIENTS_MAX; i++)
		if (c->client[i].fd >= 0)
			drop(&c->client[i]);
	free(c->started);
	c->started = NULL;
}

void control_ready(struct keeper *k)
{
	static const char text[] = "{\"t\":\"ready\"}\n";
	struct client *c = &k->control.client[0];

	/* Whoever does not even take `end` finds it out by the hang-up. */
	if (c->fd >= 0 && (c->dirty || c->out_sent < c->out_len ||
			   send(c->fd, text, sizeof(text) - 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0))
		drop(c);
}

void control_close(struct keeper *k)
{
	close_listener(&k->control);
	if (k->control.client[0].fd >= 0)
		drop(&k->control.client[0]);
}

/* --- listening -------------------------------------------------------------------------------- */

size_t control_poll(const struct keeper *k, struct pollfd *p)
{
	p[0] = (struct pollfd){ .fd = k->control.listener, .events = POLLIN };
	for (size_t i = 0; i < CLIENTS_MAX; i++) {
		const struct client *c = &k->control.client[i];
		bool more = !c->deaf && (c->out_sent < c->out_len || c->dirty);

		p[1 + i] = (struct pollfd){
			.fd = c->fd,
			.events = (short)(POLLIN | (more ? POLLOUT : 0)),
		};
	}
	p[POLL_LEASE] = (struct pollfd){ .fd = k->lease_timer, .events = POLLIN };
	return POLL_CONTROL;
}

static void obey_lease(struct keeper *k, const json_t *o)
{
	int64_t usec, at = 0;

	if (js_int(o, "usec", 1, LEASE_USEC_MAX, &usec, NULL) == 0 &&
	    js_opt_int(o, "at", 0, INT64_MAX, &at, NULL) >= 0)
		lease_renew(k, (uint64_t)at, (uint64_t)usec);
}

static void obey(struct keeper *k, const char *line, size_t n)
{
	json_t *o = NULL;
	const char *type = NULL;

	if (js_parse(line, n, 4, &o, NULL) < 0)
		return;
	if (js_str(o, "t", 32, &type, NULL) < 0)
		type = "";
	if (str_eq(type, "cancel") || str_eq(type, "kill"))
		verdict(k, BOX_CANCELED, "canceled on request");
	else if (str_eq(type, "lease"))
		obey_lease(k, o);
	k->hurry |= str_eq(type, "kill");
	json_decref(o);
}

/* True: there may be more. */
static bool read_from(struct keeper *k, struct client *c)
{
	ssize_t n = recv(c->fd, c->in + c->in_len, sizeof(c->in) - c->in_len, MSG_DONTWAIT);
	char *nl;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) {
		lost(k, c);
		return false;
	}
	c->in_len += (size_t)n;
	while ((nl = memchr(c->in, '\n', c->in_len))) {
		size_t len = (size_t)(nl - c->in);

		obey(k, c->in, len);
		c->in_len -= len + 1;
		memmove(c->in, nl + 1, c->in_len);
	}
	if (c->in_len < sizeof(c->in))
		return true;
	drop(c); /* no command is that long */
	return false;
}

static void read_all(struct keeper *k, struct client *c)
{
	for (int i = 0; i < READS_MAX && read_from(k, c); i++)
		;
}

/* What he says comes first: he may have gone already, or have come to renew the lease. */
static void add_client(struct keeper *k, int fd)
{
	for (size_t i = 1; i < CLIENTS_MAX; i++) {
		struct client *c = &k->control.client[i];

		if (c->fd >= 0)
			continue;
		*c = (struct client){ .fd = fd, .dirty = k->control.known };
		read_all(k, c);
		send_to(k, c);
		return;
	}
	close(fd);
}

static bool accept_client(struct keeper *k)
{
	/* cppcheck-suppress nullPointer; nobody asks who calls */
	int fd = accept4(k->control.listener, NULL, NULL, SOCK_CLOEXEC);

	if (fd >= 0)
		add_client(k, fd);
	return fd >= 0;
}

void control_events(struct keeper *k, const struct pollfd *p)
{
	for (size_t i = 0; i < CLIENTS_MAX; i++) {
		struct client *c = &k->control.client[i];

		if (c->fd < 0 || c->fd != p[1 + i].fd)
			continue;
		if (p[1 + i].revents & POLLOUT)
			send_to(k, c);
		if (c->fd >= 0 && p[1 + i].revents & (POLLIN | POLLHUP | POLLERR))
			(void)read_from(k, c);
	}
	if (p[POLL_LEASE].revents)
		lease_fired(k);
	if (p[0].revents & POLLIN)
		(void)accept_client(k);
}

void control_hear(struct keeper *k)
{
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		if (k->control.client[i].fd >= 0)
			read_all(k, &k->control.client[i]);
	for (int i = 0; i < CLIENTS_MAX && accept_client(k); i++)
		;
}

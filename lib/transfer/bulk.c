/* SPDX-License-Identifier: MIT */
#include "transfer/bulk.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"

enum {
	FXP_INIT = 1,
	FXP_VERSION = 2,
	FXP_OPEN = 3,
	FXP_READ = 5,
	FXP_HANDLE = 102,
	FXP_DATA = 103,
};

#define REQUEST    ((size_t)128 << 10)
#define RING       (2 * BULK_READ_MAX)
#define HANDLE_MAX 256
/*
 * Bytes on their way: as much as a fast host sends in a round trip, and a reserve. More only piles
 * up in ssh and sshd, which move all that waits there with every packet that they take out.
 */
#define WINDOW_MIN    ((size_t)1 << 20)
#define BYTES_IN_USEC 256
#define REPLY_MAX     4096

struct bulk {
	int fd, abort_fd;
	enum {
		BULK_GREETING, /* the version is awaited, */
		BULK_OPENING,  /* the handle */
		BULK_OPEN,
	} state;
	char *path;
	uint64_t wait_usec, since_usec;
	char reply[REPLY_MAX]; /* until it is open */
	size_t reply_len;
	char handle[HANDLE_MAX];
	uint32_t handle_len;
	uint64_t size, window;
	uint64_t floor;         /* offset: what is before it is not needed any more */
	uint64_t asked, got;    /* offsets: requested up to, arrived up to */
	unsigned char head[13]; /* of the answer that is coming in: length, type, id, length */
	size_t part;            /* bytes of it, head included, that are here */
	struct buf out;         /* requests being written */
	bool failed;            /* where nobody could be told */
	char ring[RING];        /* the byte at offset o is at o modulo RING */
};

/* --- the descriptor ------------------------------------------------------------------------- */

static int wait_for(struct bulk *b, short events, struct err *e)
{
	struct pollfd p[2] = { { .fd = b->fd, .events = events }, { .fd = b->abort_fd } };
	int n;

	do
		n = poll(p, 2, (int)(b->wait_usec / 1000));
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return err_sys(e, "wait for ssh");
	if (n == 0)
		return err_set(e, ETIMEDOUT, ERR_TRANSIENT, "ssh: no byte within the time limit");
	if (p[1].revents)
		return err_set(e, ECANCELED, ERR_TRANSIENT, "given up by the caller");
	return 0;
}

/* Bytes that are there; 0: none. */
static ssize_t recv_some(struct bulk *b, void *data, size_t n, struct err *e)
{
	ssize_t k = recv(b->fd, data, n, MSG_DONTWAIT);

	if (k < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (k < 0)
		return err_sys(e, "read from ssh");
	return k ? k : err_set(e, ECONNRESET, ERR_TRANSIENT, "ssh has ended");
}

/* Requests are small; a peer that takes none while it owes us answers is waited for like one that
 * sends nothing. */
static int send_out(struct bulk *b, struct err *e)
{
	size_t at = 0;

	while (at < b->out.len) {
		ssize_t k =
			send(b->fd, b->out.data + at, b->out.len - at, MSG_DONTWAIT | MSG_NOSIGNAL);
		int r = 0;

		if (k < 0 && errno == EAGAIN)
			r = wait_for(b, POLLOUT, e);
		else if (k < 0 && errno != EINTR)
			r = err_sys(e, "write to ssh");
		if (r < 0)
			return r;
		at += k > 0 ? (size_t)k : 0;
	}
	b->out.len = 0;
	return 0;
}

/* --- packets -------------------------------------------------------------------------------- */

static uint32_t get32(const void *data)
{
	const unsigned char *p = data;

	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static int put32(struct buf *b, uint32_t v)
{
	unsigned char p[4] = { (unsigned char)(v >> 24), (unsigned char)(v >> 16),
			       (unsigned char)(v >> 8), (unsigned char)v };

	return buf_add(b, p, sizeof(p));
}

static int put_head(struct buf *b, size_t body, unsigned char type)
{
	int r = put32(b, (uint32_t)(1 + body));

	return r < 0 ? r : buf_add(b, &type, 1);
}

static int malformed(struct err *e)
{
	return err_set(e, EPROTO, ERR_TRANSIENT, "ssh: an unexpected SFTP answer");
}

static int ask_version(struct bulk *b, struct err *e)
{
	int r = put_head(&b->out, 4, FXP_INIT);

	r = r < 0 ? r : put32(&b->out, 3);
	return r < 0 ? err_nomem(e) : send_out(b, e);
}

/* id 0, path, read, no attributes */
static int ask_handle(struct bulk *b, struct err *e)
{
	size_t len = strlen(b->path);
	int r = put_head(&b->out, 4 + 4 + len + 4 + 4, FXP_OPEN);

	r = r < 0 ? r : put32(&b->out, 0);
	r = r < 0 ? r : put32(&b->out, (uint32_t)len);
	r = r < 0 ? r : buf_add(&b->out, b->path, len);
	r = r < 0 ? r : put32(&b->out, 1);
	r = r < 0 ? r : put32(&b->out, 0);
	return r < 0 ? err_nomem(e) : send_out(b, e);
}

/* A short answer of the wanted type is in b->reply, after five bytes of head: 1, with its length. */
static int take_reply(struct bulk *b, unsigned char type, size_t *ret_n, struct err *e)
{
	const size_t head = 5;

	for (;;) {
		size_t n = b->reply_len < head ? 1 : get32(b->reply);
		ssize_t k;

		if (n < 1 || n + 4 > sizeof(b->reply))
			return malformed(e);
		if (b->reply_len >= head && b->reply_len == n + 4) {
			*ret_n = n - 1;
			b->reply_len = 0;
			return (unsigned char)b->reply[4] == type ? 1 : malformed(e);
		}
		k = recv_some(b, b->reply + b->reply_len, n + 4 - b->reply_len, e);
		if (k <= 0)
			return (int)k;
		b->reply_len += (size_t)k;
	}
}

static int take_handle(struct bulk *b, const char *reply, size_t n, struct err *e)
{
	if (n < 8 || get32(reply + 4) != n - 8 || n - 8 > HANDLE_MAX)
		return malformed(e);
	b->handle_len = (uint32_t)(n - 8);
	memcpy(b->handle, reply + 8, b->handle_len);
	b->state = BULK_OPEN;
	return 1;
}

int bulk_ready(struct bulk *b, struct err *e)
{
	size_t n;
	int r;

	if (b->state == BULK_GREETING) {
		r = take_reply(b, FXP_VERSION, &n, e);
		if (r > 0) {
			b->state = BULK_OPENING;
			r = ask_handle(b, e);
		}
		if (r < 0)
			return r;
	}
	if (b->state == BULK_OPENING) {
		r = take_reply(b, FXP_HANDLE, &n, e);
		if (r != 0)
			return r < 0 ? r : take_handle(b, b->reply + 5, n, e);
	}
	if (b->state != BULK_OPEN && time_mono_usec() - b->since_usec > b->wait_usec)
		return err_set(e, ETIMEDOUT, ERR_TRANSIENT,
			       "ssh: no session within the time limit");
	return b->state == BULK_OPEN;
}

int bulk_open(int fd, const struct bulk_spec *spec, struct bulk **ret, struct err *e)
{
	auto_obj(bulk) b = malloc(sizeof(*b));
	int r;

	if (!b) {
		close(fd);
		return err_nomem(e);
	}
	b->fd = fd;
	b->state = BULK_GREETING;
	b->path = strdup(spec->path);
	b->since_usec = time_mono_usec();
	b->reply_len = 0;
	b->abort_fd = spec->abort_fd;
	b->wait_usec = spec->wait_usec;
	b->size = spec->size;
	b->window = WINDOW_MIN + spec->rtt_usec * BYTES_IN_USEC;
	b->floor = b->asked = b->got = b->part = 0;
	b->out = (struct buf){ 0 };
	b->failed = false;
	r = b->path ? ask_version(b, e) : err_nomem(e);
	if (r < 0)
		return r;
	*ret = take_ptr(b);
	return 0;
}

void bulk_free(struct bulk *b)
{
	if (!b)
		return;
	close(b->fd);
	buf_done(&b->out);
	free(b->path);
	free(b);
}

/* --- reading -------------------------------------------------------------------------------- */

static size_t length_at(const struct bulk *b, uint64_t offset)
{
	return b->size - offset < REQUEST ? (size_t)(b->size - offset) : REQUEST;
}

/* The request's number says where its answer belongs. */
static uint32_t id_of(uint64_t offset)
{
	return (uint32_t)(offset / REQUEST + 1);
}

static int ask(struct bulk *b, uint64_t until, struct err *e)
{
	while (b->asked < b->size && b->asked < until) {
		size_t n = length_at(b, b->asked);
		int r = put_head(&b->out, 4 + 4 + b->handle_len + 8 + 4, FXP_READ);

		r = r < 0 ? r : put32(&b->out, id_of(b->asked));
		r = r < 0 ? r : put32(&b->out, b->handle_len);
		r = r < 0 ? r : buf_add(&b->out, b->handle, b->handle_len);
		r = r < 0 ? r : put32(&b->out, (uint32_t)(b->asked >> 32));
		r = r < 0 ? r : put32(&b->out, (uint32_t)b->asked);
		r = r < 0 ? r : put32(&b->out, (uint32_t)n);
		if (r < 0)
			return err_nomem(e);
		b->asked += n;
	}
	return b->out.len ? send_out(b, e) : 0;
}

static int check_head(const struct bulk *b, size_t n, struct err *e)
{
	const unsigned char *h = b->head;

	if (h[4] != FXP_DATA || get32(h) != 9 + n || get32(h + 5) != id_of(b->got) ||
	    get32(h + 9) != n)
		return malformed(e);
	return 0;
}

/* One recv() of the next answer, which come in the order of the requests, whole. 1: bytes came.
 * 0: none are there. */
static int step(struct bulk *b, struct err *e)
{
	size_t n = length_at(b, b->got);
	bool in_head = b->part < sizeof(b->head);
	char *to = in_head ? (char *)b->head + b->part
			   : b->ring + b->got % RING + (b->part - sizeof(b->head));
	size_t want = (in_head ? sizeof(b->head) : sizeof(b->head) + n) - b->part;
	ssize_t k = recv_some(b, to, want, e);

	if (k <= 0)
		return (int)k;
	b->part += (size_t)k;
	if (b->part == sizeof(b->head) && check_head(b, n, e) < 0)
		return -EPROTO;
	if (b->part == sizeof(b->head) + n) {
		b->got += n;
		b->part = 0;
	}
	return 1;
}

/* Half a window is asked at once: fewer, larger writes. */
static int top_up(struct bulk *b, struct err *e)
{
	uint64_t until = b->got + b->window, room = b->floor + RING;

	if (b->asked - b->got > b->window / 2)
		return 0;
	return ask(b, until < room ? until : room, e);
}

void bulk_pump(struct bulk *b)
{
	int r = b->state == BULK_OPEN;

	while (r > 0 && !b->failed) {
		r = top_up(b, NULL);
		if (r == 0 && b->got < b->asked)
			r = step(b, NULL);
	}
	b->failed |= r < 0;
}

int bulk_read(struct bulk *b, uint64_t offset, size_t n, const void **ret_data, size_t *ret_n,
	      struct err *e)
{
	if (offset % BULK_READ_MAX || offset > b->got || offset > b->size || n > BULK_READ_MAX) {
		/* Begun later than at the start: what lies before is skipped, not fetched. */
		if (offset % BULK_READ_MAX || b->asked || offset > b->size || n > BULK_READ_MAX)
			return err_set(e, EINVAL, ERR_TRANSIENT, "ssh: not the next chunk");
		b->asked = b->got = offset;
	}
	if (b->failed)
		return err_set(e, ECONNRESET, ERR_TRANSIENT, "ssh failed in the last chunk");
	b->floor = offset;
	if (n > b->size - offset)
		n = (size_t)(b->size - offset);
	while (b->got < offset + n) {
		int r = top_up(b, e);

		r = r < 0 ? r : step(b, e);
		if (r == 0)
			r = wait_for(b, POLLIN, e);
		if (r < 0)
			return r;
	}
	*ret_data = b->ring + offset % RING;
	*ret_n = n;
	return 0;
}

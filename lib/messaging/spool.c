/* SPDX-License-Identifier: MIT */
/*
 * A segment file is a sequence of records: magic, length, eight bytes of SHA-256 over length and
 * payload, payload. Appending writes at once; the deferred sync at the end of a loop turn, or the
 * timer under load, makes all of it durable with one fdatasync(). After a failed sync the
 * kernel may have dropped the pages, so what is not durable yet is kept in memory and written again
 * to a new segment.
 */
#include "messaging/spool.h"

#include <dirent.h>
#include <inttypes.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/hash.h"
#include "base/time.h"

#define MAGIC       0x3173727au /* "zrs1" */
#define HEADER_SIZE 16
#define SUM_SIZE    8
#define DROPPED     0x80000000u
/* Under load a sync waits so long for company: it costs the disk the same for many records as for one.
 * A record that comes alone is synced at the end of the loop's turn. */
#define SYNC_LATEST_USEC (10 * USEC_PER_MSEC)
#define LOAD_USEC        (20 * USEC_PER_MSEC)
#define RETRY_USEC       USEC_PER_SEC

struct header {
	uint32_t magic, len;
	uint8_t sum[SUM_SIZE];
};
_Static_assert(sizeof(struct header) == HEADER_SIZE, "the header is 16 bytes on disk");

struct segment {
	TAILQ_ENTRY(segment) entry;
	uint64_t number;   /* of the file's name */
	uint64_t first_id; /* of its first record */
	uint32_t *at;      /* offsets of the records; DROPPED is set in those that are confirmed */
	size_t n, cap, live;
	uint32_t size;
};

struct spool {
	char *dir;
	int dirfd, lock;
	const struct spool_ops *ops;
	void *user;
	uint64_t bytes_max, segment_bytes, bytes, records;

	TAILQ_HEAD(, segment) segments; /* oldest first; the last one may be the active */
	struct segment *active;         /* NULL: the next append makes one */
	int fd;                         /* of the active one */
	uint64_t next_number, last_id, durable_id;
	struct buf pending; /* the bytes of the records after durable_id */

	struct segment *reading; /* whose descriptor is kept open in read_fd */
	int read_fd;
	struct loop_src *defer, *timer;
	uint64_t synced_usec;
	bool armed;
};

/* --- records ------------------------------------------------------------------------------- */

static void checksum(uint32_t len, const void *data, uint8_t ret[SUM_SIZE])
{
	uint8_t sum[HASH_SIZE];
	struct hash h;

	hash_init(&h);
	hash_add(&h, &len, sizeof(len));
	hash_add(&h, data, len);
	hash_end(&h, sum);
	memcpy(ret, sum, SUM_SIZE);
}

size_t spool_parse(const void *data, size_t n, const void **ret_payload, size_t *ret_len)
{
	const char *p = data;
	uint8_t sum[SUM_SIZE];
	struct header h;

	if (n < HEADER_SIZE)
		return 0;
	memcpy(&h, p, sizeof(h));
	if (h.magic != MAGIC || h.len > SPOOL_RECORD_MAX || h.len > n - HEADER_SIZE)
		return 0;
	checksum(h.len, p + HEADER_SIZE, sum);
	if (memcmp(sum, h.sum, SUM_SIZE) != 0)
		return 0;
	*ret_payload = p + HEADER_SIZE;
	*ret_len = h.len;
	return HEADER_SIZE + h.len;
}

/* --- segments ------------------------------------------------------------------------------ */

static void segment_name(char out[32], uint64_t number)
{
	snprintf(out, 32, "%016" PRIx64 ".seg", number);
}

static int segment_add(struct segment *g, uint32_t offset)
{
	if (g->n == g->cap) {
		size_t cap = g->cap ? 2 * g->cap : 64;
		uint32_t *p = realloc(g->at, cap * sizeof(*p));

		if (!p)
			return -ENOMEM;
		g->at = p;
		g->cap = cap;
	}
	g->at[g->n++] = offset;
	g->live++;
	return 0;
}

static void close_reading(struct spool *s)
{
	if (s->read_fd >= 0)
		close(s->read_fd);
	s->read_fd = -1;
	s->reading = NULL;
}

static void segment_free(struct spool *s, struct segment *g, bool unlink_file)
{
	char name[32];

	if (s->reading == g)
		close_reading(s);
	if (s->active == g) {
		close(s->fd);
		s->fd = -1;
		s->active = NULL;
	}
	segment_name(name, g->number);
	/* A file that stays means repeated events after a restart, which their keys make harmless. */
	if (unlink_file)
		(void)unlinkat(s->dirfd, name, 0);
	s->bytes -= g->size;
	TAILQ_REMOVE(&s->segments, g, entry);
	free(g->at);
	free(g);
}

static struct segment *segment_new(struct spool *s, uint64_t number, uint64_t first_id)
{
	struct segment *g = calloc(1, sizeof(*g));

	if (!g)
		return NULL;
	g->number = number;
	g->first_id = first_id;
	TAILQ_INSERT_TAIL(&s->segments, g, entry);
	return g;
}

static int open_active(struct spool *s, uint64_t first_id, struct err *e)
{
	char name[32];
	int fd;

	segment_name(name, s->next_number);
	fd = openat(s->dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_sys(e, "create %s/%s", s->dir, name);
	if (fsync(s->dirfd) < 0) {
		close(fd);
		return err_sys(e, "sync %s", s->dir);
	}
	s->active = segment_new(s, s->next_number, first_id);
	if (!s->active) {
		close(fd);
		return err_nomem(e);
	}
	s->next_number++;
	s->fd = fd;
	return 0;
}

/* --- appending ----------------------------------------------------------------------------- */

static void arm(struct spool *s, uint64_t latest_usec)
{
	if (time_mono_usec() - s->synced_usec > LOAD_USEC)
		loop_defer_arm(s->defer);
	if (!s->armed)
		loop_timer_set(s->timer, latest_usec);
	s->armed = true;
}

/* Writes at the end of the active segment, or leaves it as it was. */
static int write_active(struct spool *s, const void *data, size_t n, struct err *e)
{
	const char *p = data;
	size_t done = 0;

	while (done < n) {
		ssize_t k = FAILPOINT_FAILS("spool.write")
				    ? -1
				    : pwrite(s->fd, p + done, n - done,
					     (off_t)(s->active->size + done));

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0) {
			int r = err_sys(e, "write to %s", s->dir);

			(void)!ftruncate(s->fd, s->active->size);
			return r;
		}
		done += (size_t)k;
	}
	return 0;
}

static int append_record(struct spool *s, const void *record, size_t n, struct err *e)
{
	int r = write_active(s, record, n, e);

	if (r < 0)
		return r;
	if (segment_add(s->active, s->active->size) < 0) {
		(void)!ftruncate(s->fd, s->active->size);
		return err_nomem(e);
	}
	s->active->size += (uint32_t)n;
	s->bytes += n;
	return 0;
}

int spool_append(struct spool *s, const void *data, size_t n, uint64_t *ret_id, struct err *e)
{
	struct header h = { .magic = MAGIC, .len = (uint32_t)n };
	size_t start = s->pending.len;
	int r;

	if (n > SPOOL_RECORD_MAX)
		return err_set(e, EMSGSIZE, ERR_INPUT, "%zu bytes are too much for the spool", n);
	if (s->bytes + HEADER_SIZE + n > s->bytes_max)
		return err_set(e, ENOSPC, ERR_TRANSIENT,
			       "the spool %s is full (%" PRIu64 " bytes wait)", s->dir, s->bytes);
	checksum(h.len, data, h.sum);
	if (buf_add(&s->pending, &h, sizeof(h)) < 0 || buf_add(&s->pending, data, n) < 0) {
		s->pending.len = start;
		return err_nomem(e);
	}
	r = s->active ? 0 : open_active(s, s->last_id + 1, e);
	if (r == 0)
		r = append_record(s, s->pending.data + start, HEADER_SIZE + n, e);
	if (r < 0) {
		s->pending.len = start;
		return r;
	}
	s->records++;
	*ret_id = ++s->last_id;
	arm(s, SYNC_LATEST_USEC);
	return 0;
}

/* --- durability ---------------------------------------------------------------------------- */

/* The active segment is full, or empty but long: the next append makes a new one. */
static void retire_active(struct spool *s)
{
	struct segment *g = s->active;

	if (!g || s->durable_id < s->last_id)
		return;
	if (g->live == 0 && g->size >= s->segment_bytes / 4) {
		segment_free(s, g, true);
	} else if (g->size >= s->segment_bytes) {
		close(s->fd);
		s->fd = -1;
		s->active = NULL;
	}
}

/* After a failed sync: the records that are not durable move to a new file. */
static int rewrite_pending(struct spool *s, struct err *e)
{
	struct segment *old = s->active;
	size_t moved = (size_t)(s->last_id - s->durable_id), at = 0;
	int r;

	(void)!ftruncate(s->fd, (off_t)(old->size - s->pending.len));
	close(s->fd);
	s->fd = -1;
	s->active = NULL;
	old->n -= moved;
	for (size_t i = old->n; i < old->n + moved; i++)
		old->live -= !(old->at[i] & DROPPED);
	s->bytes -= s->pending.len;
	old->size -= (uint32_t)s->pending.len;
	r = open_active(s, s->durable_id + 1, e);
	while (r == 0 && at < s->pending.len) {
		struct header h;

		memcpy(&h, s->pending.data + at, sizeof(h));
		r = append_record(s, s->pending.data + at, HEADER_SIZE + h.len, e);
		at += HEADER_SIZE + h.len;
	}
	if (old->live == 0)
		segment_free(s, old, true);
	return r;
}

int spool_sync(struct spool *s, struct err *e)
{
	s->armed = false;
	loop_timer_set(s->timer, USEC_INFINITY);
	if (s->durable_id == s->last_id)
		return 0;
	if (!s->active || FAILPOINT_FAILS("spool.sync") || fdatasync(s->fd) < 0) {
		int r = err_sys(e, "sync %s", s->dir);

		if (s->active && rewrite_pending(s, NULL) < 0)
			return r;
		if (!s->active || fdatasync(s->fd) < 0)
			return r;
	}
	FAILPOINT("spool.synced");
	s->pending.len = 0;
	s->durable_id = s->last_id;
	s->synced_usec = time_mono_usec();
	retire_active(s);
	if (s->ops->on_durable)
		s->ops->on_durable(s->user, s->durable_id);
	return 0;
}

static void on_sync(void *user)
{
	struct spool *s = user;
	struct err e = { 0 };

	if (spool_sync(s, &e) == 0)
		return;
	if (s->ops->on_error)
		s->ops->on_error(s->user, &e);
	s->armed = true;
	loop_timer_set(s->timer, RETRY_USEC);
}

/* --- reading ------------------------------------------------------------------------------- */

static int open_reading(struct spool *s, struct segment *g, struct err *e)
{
	char name[32];

	if (s->reading == g)
		return 0;
	close_reading(s);
	segment_name(name, g->number);
	s->read_fd = openat(s->dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (s->read_fd < 0)
		return err_sys(e, "open %s/%s", s->dir, name);
	s->reading = g;
	return 0;
}

static int read_record(struct spool *s, struct segment *g, size_t i, struct buf *b, struct err *e)
{
	uint32_t from = g->at[i], to = i + 1 < g->n ? g->at[i + 1] & ~DROPPED : g->size;
	const void *payload;
	size_t len;
	int r = open_reading(s, g, e);

	if (r < 0)
		return r;
	b->len = 0;
	if (buf_reserve(b, to - from) < 0)
		return err_nomem(e);
	if (pread(s->read_fd, b->data, to - from, from) != (ssize_t)(to - from) ||
	    !spool_parse(b->data, to - from, &payload, &len))
		return err_set(e, EIO, ERR_HOST, "a record of %s cannot be read back", s->dir);
	b->len = to - from;
	buf_drop_front(b, HEADER_SIZE);
	return 0;
}

int spool_next(struct spool *s, uint64_t *id, struct buf *b, struct err *e)
{
	struct segment *g;

	TAILQ_FOREACH (g, &s->segments, entry) {
		size_t i = *id + 1 > g->first_id ? (size_t)(*id + 1 - g->first_id) : 0;

		while (i < g->n && g->at[i] & DROPPED)
			i++;
		if (i >= g->n)
			continue;
		if (g->first_id + i > s->durable_id)
			return 0;
		*id = g->first_id + i;
		return read_record(s, g, i, b, e) < 0 ? -EIO : 1;
	}
	return 0;
}

void spool_drop(struct spool *s, uint64_t id)
{
	struct segment *g;

	TAILQ_FOREACH (g, &s->segments, entry)
		if (id >= g->first_id && id < g->first_id + g->n)
			break;
	if (!g || g->at[id - g->first_id] & DROPPED)
		return;
	g->at[id - g->first_id] |= DROPPED;
	g->live--;
	s->records--;
	if (g->live)
		return;
	if (g == s->active)
		retire_active(s);
	else
		segment_free(s, g, true);
}

/* --- opening ------------------------------------------------------------------------------- */

/* Reads one file found at start; what is torn off its end is cut and counted. */
static int load_segment(struct spool *s, const char *name, uint64_t number, uint64_t *cut,
			struct err *e)
{
	auto_buf struct buf b = { 0 };
	struct segment *g;
	size_t at = 0, n, len;
	const void *payload;
	int r = fd_read_file(s->dirfd, name, DROPPED - 1, &b, e);

	if (r < 0)
		return r;
	g = segment_new(s, number, s->last_id + 1);
	if (!g)
		return err_nomem(e);
	while ((n = spool_parse(b.data + at, b.len - at, &payload, &len))) {
		if (segment_add(g, (uint32_t)at) < 0)
			return err_nomem(e);
		at += n;
	}
	g->size = (uint32_t)at;
	*cut += b.len - at;
	s->bytes += at;
	s->records += g->n;
	s->last_id += g->n;
	if (g->n == 0)
		segment_free(s, g, true);
	return 0;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_segment(const struct dirent *de)
{
	return strlen(de->d_name) == 20 && str_ends(de->d_name, ".seg") &&
	       strspn(de->d_name, "0123456789abcdef") == 16;
}

static int load(struct spool *s, uint64_t *cut, struct err *e)
{
	struct dirent **names = NULL;
	int n = scandirat(s->dirfd, ".", &names, is_segment, by_name), r = 0;

	if (n < 0)
		return err_sys(e, "read the folder %s", s->dir);
	for (int i = 0; i < n; i++) {
		uint64_t number = strtoull(names[i]->d_name, NULL, 16);

		if (r == 0)
			r = load_segment(s, names[i]->d_name, number, cut, e);
		s->next_number = number + 1;
		free(names[i]);
	}
	free(names);
	s->durable_id = s->last_id;
	return r;
}

int spool_open(struct loop *l, const char *dir, uint64_t bytes_max, uint64_t segment_bytes,
	       const struct spool_ops *ops, void *user, struct spool **ret, uint64_t *ret_cut,
	       struct err *e)
{
	auto_spool struct spool *s = calloc(1, sizeof(*s));
	uint64_t cut = 0;
	int r;

	if (!s)
		return err_nomem(e);
	*s = (struct spool){ .dirfd = -1, .lock = -1, .fd = -1, .read_fd = -1 };
	TAILQ_INIT(&s->segments);
	s->ops = ops;
	s->user = user;
	s->bytes_max = bytes_max;
	s->segment_bytes = segment_bytes;
	s->dir = strdup(dir);
	r = s->dir ? fd_make_dir(dir, 0700, &s->dirfd, e) : err_nomem(e);
	if (r == 0)
		r = fd_lock(s->dirfd, "lock", false, &s->lock, e);
	if (r == 0)
		r = load(s, &cut, e);
	if (r == 0)
		r = loop_defer(l, on_sync, s, &s->defer, e);
	if (r == 0)
		r = loop_timer(l, USEC_INFINITY, on_sync, s, &s->timer, e);
	if (r < 0)
		return r;
	if (ret_cut)
		*ret_cut = cut;
	*ret = take_ptr(s);
	return 0;
}

void spool_close(struct spool *s)
{
	static const struct spool_ops silent = { 0 };
	struct segment *g;

	if (!s)
		return;
	s->ops = &silent;
	if (s->timer)
		(void)!spool_sync(s, NULL);
	while ((g = TAILQ_FIRST(&s->segments)))
		segment_free(s, g, g->live == 0);
	close_reading(s);
	loop_src_free(s->defer);
	loop_src_free(s->timer);
	buf_done(&s->pending);
	if (s->dirfd >= 0)
		close(s->dirfd);
	if (s->lock >= 0)
		close(s->lock);
	free(s->dir);
	free(s);
}

uint64_t spool_bytes(const struct spool *s)
{
	return s->bytes;
}

uint64_t spool_records(const struct spool *s)
{
	return s->records;
}

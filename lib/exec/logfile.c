/* SPDX-License-Identifier: MIT */
#include "exec/logfile.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"

#define CAP_MIN 64

void logfile_init(struct logfile *l, int dirfd, const char *name, uint64_t cap)
{
	cap = cap < CAP_MIN ? CAP_MIN : cap;
	*l = (struct logfile){ .dirfd = dirfd, .fd = -1, .tail_fd = -1, .name = name };
	l->tail_max = cap / 4;
	l->head_max = cap - l->tail_max;
}

void logfile_done(struct logfile *l)
{
	if (l->fd >= 0)
		close(l->fd);
	if (l->tail_fd >= 0)
		close(l->tail_fd);
	l->fd = l->tail_fd = -1;
}

static void append(struct logfile *l, const void *data, size_t n)
{
	int r = 0;

	if (l->error)
		return;
	if (l->fd < 0) {
		l->fd = openat(l->dirfd, l->name,
			       O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOFOLLOW,
			       0600);
		r = l->fd < 0 ? -errno : 0;
	}
	if (r == 0)
		r = fd_write_all(l->fd, data, n);
	if (r < 0)
		l->error = -r;
	else
		l->size += n;
}

/* The ring has no name: a keeper that is killed leaves nothing behind. */
static int make_ring(struct logfile *l)
{
	char name[64];

	snprintf(name, sizeof(name), "%s.tail", l->name);
	l->tail_fd =
		openat(l->dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (l->tail_fd < 0 && errno == EEXIST && unlinkat(l->dirfd, name, 0) == 0)
		return make_ring(l);
	if (l->tail_fd < 0)
		return -errno;
	return unlinkat(l->dirfd, name, 0) < 0 ? -errno : 0;
}

static int put_at(int fd, const char *p, size_t n, uint64_t offset)
{
	while (n) {
		ssize_t k = pwrite(fd, p, n, (off_t)offset);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return -errno;
		p += k;
		offset += (uint64_t)k;
		n -= (size_t)k;
	}
	return 0;
}

/* `at` is the position of data[0] in the stream behind the head. */
static void ring_add(struct logfile *l, const char *data, size_t n, uint64_t at)
{
	int r = 0;

	if (l->error)
		return;
	if (l->tail_fd < 0)
		r = make_ring(l);
	if (n > l->tail_max) {
		data += n - l->tail_max;
		at += n - l->tail_max;
		n = (size_t)l->tail_max;
	}
	while (r == 0 && n) {
		uint64_t offset = at % l->tail_max;
		size_t k = n < l->tail_max - offset ? n : (size_t)(l->tail_max - offset);

		r = put_at(l->tail_fd, data, k, offset);
		data += k;
		at += k;
		n -= k;
	}
	if (r < 0)
		l->error = -r;
}

void logfile_add(struct logfile *l, const void *data, size_t n)
{
	size_t head = 0;

	if (l->total < l->head_max)
		head = n < l->head_max - l->total ? n : (size_t)(l->head_max - l->total);
	if (head)
		append(l, data, head);
	if (n > head)
		ring_add(l, (const char *)data + head, n - head, l->total + head - l->head_max);
	l->total += n;
}

static void append_ring(struct logfile *l, uint64_t offset, uint64_t n)
{
	char buf[16384];

	while (n && !l->error) {
		size_t want = n < sizeof(buf) ? (size_t)n : sizeof(buf);
		ssize_t k = pread(l->tail_fd, buf, want, (off_t)offset);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0) {
			l->error = k < 0 ? errno : EIO;
			return;
		}
		append(l, buf, (size_t)k);
		offset += (uint64_t)k;
		n -= (uint64_t)k;
	}
}

bool logfile_truncated(const struct logfile *l)
{
	return l->error || l->total > l->head_max + l->tail_max;
}

void logfile_finish(struct logfile *l)
{
	uint64_t behind = l->total > l->head_max ? l->total - l->head_max : 0, start;
	char marker[64];

	if (!behind || l->error)
		return;
	if (behind <= l->tail_max) {
		append_ring(l, 0, behind);
		return;
	}
	snprintf(marker, sizeof(marker), LOGFILE_MARKER,
		 (unsigned long long)(behind - l->tail_max));
	append(l, marker, strlen(marker));
	start = behind % l->tail_max;
	append_ring(l, start, l->tail_max - start);
	append_ring(l, 0, start);
}

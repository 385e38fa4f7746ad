/* SPDX-License-Identifier: MIT */
#include "transfer/sftp.h"

#include <string.h>
#include <unistd.h>

#include "transfer/ssh_impl.h"

struct sftp_file {
	struct ssh *s;
	LIBSSH2_SFTP_HANDLE *h;
	char *path;
	uint64_t size; /* as the host says it: only decides how far to ask ahead */
	/* data[len] are the bytes from `offset`. What comes beyond a request stays for the next. */
	uint64_t offset;
	size_t len;
	bool end;
	char data[2 * SFTP_READ_MAX];
};

static int open_handle(struct ssh *s, const char *path, unsigned long flags, unsigned mode,
		       LIBSSH2_SFTP_HANDLE **ret, struct err *e)
{
	int rc, r = 0;

	ssh_begin(s);
	do {
		*ret = libssh2_sftp_open_ex(s->sftp, path, (unsigned)strlen(path), flags,
					    (long)mode, LIBSSH2_SFTP_OPENFILE);
		rc = *ret ? 0 : libssh2_session_last_errno(s->raw);
	} while (ssh_again(s, rc, &r, e));
	if (r < 0)
		return r;
	return rc < 0 ? ssh_fail(s, e, "open %s", STR_ESC(path)) : 0;
}

static int close_handle(struct ssh *s, LIBSSH2_SFTP_HANDLE *h, const char *path, struct err *e)
{
	int rc, r = 0;

	if (s->broken) {
		s->stray = h;
		return 0;
	}
	ssh_begin(s);
	do
		rc = libssh2_sftp_close_handle(h);
	while (ssh_again(s, rc, &r, e));
	if (r < 0)
		return r;
	return rc < 0 ? ssh_fail(s, e, "close %s", STR_ESC(path)) : 0;
}

static int file_size(struct sftp_file *f, uint64_t *ret, struct err *e)
{
	LIBSSH2_SFTP_ATTRIBUTES a = { 0 };
	int rc, r = 0;

	do
		rc = libssh2_sftp_fstat_ex(f->h, &a, 0);
	while (ssh_again(f->s, rc, &r, e));
	if (r < 0)
		return r;
	if (rc < 0)
		return ssh_fail(f->s, e, "look at %s", STR_ESC(f->path));
	if (!(a.flags & LIBSSH2_SFTP_ATTR_SIZE) ||
	    ((a.flags & LIBSSH2_SFTP_ATTR_PERMISSIONS) && !LIBSSH2_SFTP_S_ISREG(a.permissions)))
		return err_input(e, "%s: %s is not a regular file", f->s->label, STR_ESC(f->path));
	*ret = a.filesize;
	return 0;
}

int sftp_open(struct ssh *s, const char *path, struct sftp_file **ret, uint64_t *ret_size,
	      struct err *e)
{
	auto_obj(sftp_file) f = malloc(sizeof(*f));
	int r;

	if (!f)
		return err_nomem(e);
	f->s = s;
	f->h = NULL;
	f->size = f->offset = f->len = 0;
	f->end = false;
	f->path = strdup(path);
	if (!f->path)
		return err_nomem(e);
	r = open_handle(s, path, LIBSSH2_FXF_READ, 0, &f->h, e);
	r = r < 0 ? r : file_size(f, &f->size, e);
	if (r < 0)
		return r;
	*ret_size = f->size;
	*ret = take_ptr(f);
	return 0;
}

void sftp_file_free(struct sftp_file *f)
{
	if (!f)
		return;
	if (f->h && close_handle(f->s, f->h, f->path, NULL) < 0)
		f->s->broken = true;
	free(f->path);
	free(f);
}

/* libssh2 asks ahead for four times the buffer that it is given, beyond the end of the file too:
 * large buffers keep a long line full, small ones near the end keep it free of idle requests. */
static size_t ask(const struct sftp_file *f)
{
	uint64_t at = f->offset + f->len, left = f->size > at ? f->size - at : 0;

	if (left / 4 >= SFTP_READ_MAX)
		return SFTP_READ_MAX;
	return left / 4 < 4096 ? 4096 : (size_t)(left / 4 + 1);
}

/* Appends what comes, at most SFTP_READ_MAX. */
static int read_more(struct sftp_file *f, struct err *e)
{
	size_t n = ask(f);
	int64_t rc;
	int r = 0;

	do
		rc = libssh2_sftp_read(f->h, f->data + f->len, n);
	while (ssh_again(f->s, rc, &r, e));
	if (r < 0)
		return r;
	if (rc < 0)
		return ssh_fail(f->s, e, "read %s", STR_ESC(f->path));
	f->len += (size_t)rc;
	f->end = rc == 0;
	return 0;
}

/* Forgets what is before `offset`; elsewhere than in or right after the buffer, starts anew. */
static void move_to(struct sftp_file *f, uint64_t offset)
{
	uint64_t skip = offset - f->offset;

	if (offset < f->offset || skip > f->len) {
		libssh2_sftp_seek64(f->h, offset);
		f->len = 0;
		f->end = false;
	} else {
		f->len -= (size_t)skip;
		memmove(f->data, f->data + skip, f->len);
	}
	f->offset = offset;
}

void sftp_discard(struct sftp_file *f)
{
	libssh2_sftp_seek64(f->h, f->offset);
	f->len = 0;
	f->end = false;
}

int sftp_read(struct sftp_file *f, uint64_t offset, size_t n, const void **ret_data, size_t *ret_n,
	      struct err *e)
{
	move_to(f, offset);
	n = n < SFTP_READ_MAX ? n : SFTP_READ_MAX;
	ssh_begin(f->s);
	while (f->len < n && !f->end) {
		int r = read_more(f, e);

		if (r < 0)
			return r;
	}
	*ret_data = f->data;
	*ret_n = f->len < n ? f->len : n;
	return 0;
}

int sftp_read_file(struct ssh *s, const char *path, size_t max, struct buf *b, struct err *e)
{
	auto_obj(sftp_file) f = NULL;
	uint64_t size, at = 0;
	int r = sftp_open(s, path, &f, &size, e);

	if (r < 0)
		return r;
	for (;;) {
		const void *data;
		size_t n;

		r = sftp_read(f, at, SFTP_READ_MAX, &data, &n, e);
		if (r < 0)
			return r;
		at += n;
		if (at > max || size > max)
			return err_set(e, EFBIG, ERR_INPUT, "%s: %s is larger than %zu bytes",
				       s->label, STR_ESC(path), max);
		if (buf_add(b, data, n) < 0)
			return err_nomem(e);
		if (n < SFTP_READ_MAX)
			return 0;
	}
}

/* --- writing -------------------------------------------------------------------------------- */

static int write_block(struct ssh *s, LIBSSH2_SFTP_HANDLE *h, const char *data, size_t n,
		       const char *path, struct err *e)
{
	while (n) {
		int64_t rc;
		int r = 0;

		do
			rc = libssh2_sftp_write(h, data, n);
		while (ssh_again(s, rc, &r, e));
		if (r < 0)
			return r;
		if (rc < 0)
			return ssh_fail(s, e, "write %s", STR_ESC(path));
		data += rc;
		n -= (size_t)rc;
	}
	return 0;
}

static int write_all(struct ssh *s, LIBSSH2_SFTP_HANDLE *h, int fd, const char *path, struct err *e)
{
	auto_free char *data = malloc(SFTP_READ_MAX);
	off_t at = 0;
	int r = 0;

	if (!data)
		return err_nomem(e);
	ssh_begin(s);
	while (r == 0) {
		ssize_t n = pread(fd, data, SFTP_READ_MAX, at);

		if (n < 0)
			return err_sys(e, "read what goes to %s", STR_ESC(path));
		if (n == 0)
			return 0;
		r = write_block(s, h, data, (size_t)n, path, e);
		at += n;
	}
	return r;
}

/* An extension of OpenSSH's; a host without it syncs when it likes. */
static int sync_file(struct ssh *s, LIBSSH2_SFTP_HANDLE *h, const char *path, struct err *e)
{
	int rc, r = 0;

	do
		rc = libssh2_sftp_fsync(h);
	while (ssh_again(s, rc, &r, e));
	if (r < 0)
		return r;
	if (rc == LIBSSH2_ERROR_SFTP_PROTOCOL &&
	    libssh2_sftp_last_error(s->sftp) == LIBSSH2_FX_OP_UNSUPPORTED)
		return 0;
	return rc < 0 ? ssh_fail(s, e, "sync %s", STR_ESC(path)) : 0;
}

int sftp_put(struct ssh *s, int fd, const char *path, unsigned mode, struct err *e)
{
	LIBSSH2_SFTP_HANDLE *h = NULL;
	int r, k;

	r = open_handle(s, path, LIBSSH2_FXF_WRITE | LIBSSH2_FXF_CREAT | LIBSSH2_FXF_EXCL, mode, &h,
			e);
	if (r < 0)
		return r;
	r = write_all(s, h, fd, path, e);
	r = r < 0 ? r : sync_file(s, h, path, e);
	k = close_handle(s, h, path, r < 0 ? NULL : e);
	return r < 0 ? r : k;
}

/* --- names ---------------------------------------------------------------------------------- */

int sftp_mkdir(struct ssh *s, const char *path, unsigned mode, struct err *e)
{
	int rc, r = 0;

	ssh_begin(s);
	do
		rc = libssh2_sftp_mkdir_ex(s->sftp, path, (unsigned)strlen(path), (long)mode);
	while (ssh_again(s, rc, &r, e));
	if (r < 0)
		return r;
	return rc < 0 ? ssh_fail(s, e, "make folder %s", STR_ESC(path)) : 0;
}

int sftp_rename(struct ssh *s, const char *from, const char *to, struct err *e)
{
	int rc, r = 0;

	ssh_begin(s);
	do
		rc = libssh2_sftp_rename_ex(s->sftp, from, (unsigned)strlen(from), to,
					    (unsigned)strlen(to), 0);
	while (ssh_again(s, rc, &r, e));
	if (r < 0)
		return r;
	return rc < 0 ? ssh_fail(s, e, "rename to %s", STR_ESC(to)) : 0;
}

int sftp_unlink(struct ssh *s, const char *path, struct err *e)
{
	int rc, r = 0;

	ssh_begin(s);
	do
		rc = libssh2_sftp_unlink_ex(s->sftp, path, (unsigned)strlen(path));
	while (ssh_again(s, rc, &r, e));
	if (r < 0)
		return r;
	return rc < 0 ? ssh_fail(s, e, "remove %s", STR_ESC(path)) : 0;
}

int sftp_rmdir(struct ssh *s, const char *path, struct err *e)
{
	int rc, r = 0;

	ssh_begin(s);
	do
		rc = libssh2_sftp_rmdir_ex(s->sftp, path, (unsigned)strlen(path));
	while (ssh_again(s, rc, &r, e));
	if (r < 0)
		return r;
	return rc < 0 ? ssh_fail(s, e, "remove folder %s", STR_ESC(path)) : 0;
}

int sftp_exists(struct ssh *s, const char *path, struct err *e)
{
	LIBSSH2_SFTP_ATTRIBUTES a = { 0 };
	int rc, r = 0;

	ssh_begin(s);
	do
		rc = libssh2_sftp_stat_ex(s->sftp, path, (unsigned)strlen(path), LIBSSH2_SFTP_LSTAT,
					  &a);
	while (ssh_again(s, rc, &r, e));
	if (r < 0)
		return r;
	if (rc == 0)
		return 1;
	r = ssh_fail(s, e, "look at %s", STR_ESC(path));
	return r == -ENOENT ? 0 : r;
}

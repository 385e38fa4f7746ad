/* SPDX-License-Identifier: MIT */
#include "transfer/push.h"

#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/hash.h"
#include "base/id.h"
#include "transfer/manifest.h"
#include "transfer/sftp.h"

struct push {
	struct ssh *s;
	char *pack, *pack_path, *manifest_path; /* names here; pack is the name alone */
	char *final, *temp;                     /* folders there */
	struct err *e;
};

static void push_done(struct push *p)
{
	free(p->pack);
	free(p->pack_path);
	free(p->manifest_path);
	free(p->final);
	free(p->temp);
}

static int root_of(const char *path, char hex[65], struct err *e)
{
	auto_buf struct buf b = { 0 };
	uint8_t sum[HASH_SIZE];
	struct hash h;
	int r = fd_read_file(AT_FDCWD, path, MANIFEST_BYTES_MAX, &b, e);

	if (r < 0)
		return r;
	hash_init(&h);
	hash_add(&h, b.data, b.len);
	hash_end(&h, sum);
	hash_hex(hex, sum);
	return 0;
}

static int put_file(struct push *p, const char *from, const char *name)
{
	auto_close int fd = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	auto_free char *to = NULL;

	if (fd < 0)
		return err_sys(p->e, "open %s", STR_ESC(from));
	if (str_fmt(&to, "%s/%s", p->temp, name) < 0)
		return err_nomem(p->e);
	return sftp_put(p->s, fd, to, 0640, p->e);
}

/* The parent is made if its own parent is there; whether it was already, the next step tells. */
static int make_folders(struct push *p, const char *parent)
{
	int r = sftp_exists(p->s, parent, p->e);

	if (r == 0)
		r = sftp_mkdir(p->s, parent, 0750, p->e);
	return r < 0 ? r : sftp_mkdir(p->s, p->temp, 0750, p->e);
}

/* Best effort, after a failure. */
static void remove_temp(struct push *p)
{
	static const char *const names[] = { NULL, MANIFEST_FILE };

	for (size_t i = 0; i < ARRAY_LEN(names) && ssh_alive(p->s); i++) {
		auto_free char *path = NULL;

		if (str_fmt(&path, "%s/%s", p->temp, names[i] ? names[i] : p->pack) < 0 ||
		    sftp_unlink(p->s, path, NULL) < 0)
			continue;
	}
	if (!ssh_alive(p->s) || sftp_rmdir(p->s, p->temp, NULL) < 0)
		return;
}

static int push_files(struct push *p, const char *parent)
{
	int r = make_folders(p, parent);

	if (r < 0)
		return r;
	r = put_file(p, p->pack_path, p->pack);
	r = r < 0 ? r : put_file(p, p->manifest_path, MANIFEST_FILE);
	r = r < 0 ? r : sftp_rename(p->s, p->temp, p->final, p->e);
	if (r < 0)
		remove_temp(p);
	return r;
}

int push_object(struct ssh *s, const char *dir, const char *name, const char *remote_parent,
		char **ret_path, bool *ret_already, struct err *e)
{
	__attribute__((cleanup(push_done))) struct push p = { .s = s, .e = e };
	char hex[65], unique[UUID_LEN + 1];
	int r;

	if (str_fmt(&p.pack, "%s.tar.zst", name) < 0 ||
	    str_fmt(&p.pack_path, "%s/%s", dir, p.pack) < 0 ||
	    str_fmt(&p.manifest_path, "%s/%s", dir, MANIFEST_FILE) < 0)
		return err_nomem(e);
	r = root_of(p.manifest_path, hex, e);
	if (r < 0)
		return r;
	if (str_fmt(&p.final, "%s/%s", remote_parent, hex) < 0 ||
	    str_fmt(&p.temp, "%s/.%s.tmp", remote_parent, id_uuid7(unique)) < 0)
		return err_nomem(e);
	r = sftp_exists(s, p.final, e);
	*ret_already = r == 1;
	if (r == 0) {
		r = push_files(&p, remote_parent);
		/* Somebody else was first with the same object. */
		if (r == -EIO && ssh_alive(s) && sftp_exists(s, p.final, NULL) == 1)
			r = *ret_already = 1;
	}
	if (r < 0)
		return r;
	*ret_path = take_ptr(p.final);
	return 0;
}

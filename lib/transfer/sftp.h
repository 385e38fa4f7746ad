/* SPDX-License-Identifier: MIT */
/* Files at an SSH host. One file is open at a time, and is closed before its session is freed. */
#ifndef ZR_TRANSFER_SFTP_H
#define ZR_TRANSFER_SFTP_H

#include "transfer/ssh.h"

/* The most that one sftp_read() gives: also what keeps a long line full (libssh2 asks ahead for
 * a multiple of the buffer it is given). */
#define SFTP_READ_MAX ((size_t)4 << 20)

struct sftp_file;
/* *ret_size as the host says it. -ENOENT, -EPERM: ERR_INPUT, about this file only. */
int sftp_open(struct ssh *s, const char *path, struct sftp_file **ret, uint64_t *ret_size,
	      struct err *e) must_check;
void sftp_file_free(struct sftp_file *f);
DEFINE_AUTO(sftp_file);
/* *ret_data has the n (at most SFTP_READ_MAX) bytes from `offset`, fewer only at the end of the
 * file, until the next call. Calls that follow each other keep the line full. */
int sftp_read(struct sftp_file *f, uint64_t offset, size_t n, const void **ret_data, size_t *ret_n,
	      struct err *e) must_check;

/* Forgets what was read ahead: the next read asks the host anew. */
void sftp_discard(struct sftp_file *f);

/* A small file, whole. -EFBIG, ERR_INPUT: larger than max. */
int sftp_read_file(struct ssh *s, const char *path, size_t max, struct buf *b,
		   struct err *e) must_check;
/* Writes a new file from `fd`, from its start to its end, and syncs it there if the host can. */
int sftp_put(struct ssh *s, int fd, const char *path, unsigned mode, struct err *e) must_check;

/* The host's own words of refusal are few: -ENOENT, -EPERM, and -EIO for all others, which includes
 * "is there already". */
int sftp_mkdir(struct ssh *s, const char *path, unsigned mode, struct err *e) must_check;
int sftp_rename(struct ssh *s, const char *from, const char *to, struct err *e) must_check;
int sftp_unlink(struct ssh *s, const char *path, struct err *e) must_check;
int sftp_rmdir(struct ssh *s, const char *path, struct err *e) must_check;
/* 1: there. 0: not there. */
int sftp_exists(struct ssh *s, const char *path, struct err *e) must_check;

#endif

/* SPDX-License-Identifier: MIT */
#include "transfer/pack.h"

#include <string.h>
#include <zstd.h>

#include "base/fd.h"

/* Write-out to the disk is started this often, so that little is left for the final sync. */
#define FLUSH_BYTES ((uint64_t)8 << 20)

/* The end of an archive, 1024 zeros, as a zstd frame of one run. Spelt out, because what libzstd
 * makes of them depends on its version. */
static const uint8_t nothing[] = {
	0x28, 0xb5, 0x2f, 0xfd, /* magic */
	0x60, 0x00, 0x03,       /* one segment, of 256 + 0x300 bytes */
	0x03, 0x20, 0x00, 0x00, /* last block, a run of 1024; its byte */
};

struct pack {
	int fd;
	ZSTD_CCtx *ctx;
	uint64_t size, flushed;
	struct hash chunk, whole;
	uint64_t in_chunk;
	struct manifest chunks; /* only its chunk list */
	bool used;
	size_t out_size;
	char out[];
};

int pack_new(int fd, struct pack **ret, struct err *e)
{
	size_t out_size = ZSTD_CStreamOutSize();
	auto_obj(pack) p = malloc(sizeof(*p) + out_size);

	if (!p)
		return err_nomem(e);
	*p = (struct pack){ .fd = fd, .out_size = out_size, .ctx = ZSTD_createCCtx() };
	if (!p->ctx)
		return err_nomem(e);
	if (ZSTD_isError(ZSTD_CCtx_setParameter(p->ctx, ZSTD_c_compressionLevel, 1)))
		return err_set(e, EINVAL, ERR_HOST, "libzstd refuses level 1");
	hash_init(&p->chunk);
	*ret = take_ptr(p);
	return 0;
}

void pack_free(struct pack *p)
{
	if (!p)
		return;
	ZSTD_freeCCtx(p->ctx);
	manifest_done(&p->chunks);
	free(p);
}

static int end_chunk(struct pack *p)
{
	uint8_t sum[HASH_SIZE];

	/* The hash of the whole begins with the first chunk's: a pack of one chunk, which is what
	 * most are, is hashed once. */
	if (p->chunks.n_chunks == 0)
		p->whole = p->chunk;
	hash_end(&p->chunk, sum);
	p->in_chunk = 0;
	return manifest_add_chunk(&p->chunks, sum);
}

static int hash_out(struct pack *p, const char *data, size_t n)
{
	if (p->chunks.n_chunks)
		hash_add(&p->whole, data, n);
	while (n) {
		uint64_t room = MANIFEST_CHUNK - p->in_chunk;
		size_t k = n < room ? n : (size_t)room;

		hash_add(&p->chunk, data, k);
		p->in_chunk += k;
		data += k;
		n -= k;
		if (p->in_chunk < MANIFEST_CHUNK)
			continue;
		if (end_chunk(p) < 0)
			return -ENOMEM;
		if (p->chunks.n_chunks == 1)
			hash_add(&p->whole, data, n);
	}
	return 0;
}

static int emit(struct pack *p, size_t n, struct err *e)
{
	int r;

	if (hash_out(p, p->out, n) < 0)
		return err_nomem(e);
	r = fd_write_all(p->fd, p->out, n);
	if (r < 0)
		return err_errno(e, r, "write the pack");
	p->size += n;
	if (p->size - p->flushed >= FLUSH_BYTES) {
		(void)sync_file_range(p->fd, (off_t)p->flushed, (off_t)(p->size - p->flushed),
				      SYNC_FILE_RANGE_WRITE);
		p->flushed = p->size;
	}
	return 0;
}

static int compress(struct pack *p, const void *data, size_t n, ZSTD_EndDirective end,
		    struct err *e)
{
	ZSTD_inBuffer in = { .src = data, .size = n };
	size_t left;
	int r;

	do {
		ZSTD_outBuffer out = { .dst = p->out, .size = p->out_size };

		left = ZSTD_compressStream2(p->ctx, &out, &in, end);
		if (ZSTD_isError(left))
			return err_set(e, EIO, ERR_HOST, "compress: %s", ZSTD_getErrorName(left));
		r = out.pos ? emit(p, out.pos, e) : 0;
		if (r < 0)
			return r;
	} while (in.pos < in.size || (end == ZSTD_e_end && left));
	return 0;
}

int pack_write(struct pack *p, const void *data, size_t n, struct err *e)
{
	p->used = true;
	return compress(p, data, n, ZSTD_e_continue, e);
}

static int write_nothing(struct pack *p, struct err *e)
{
	memcpy(p->out, nothing, sizeof(nothing));
	return emit(p, sizeof(nothing), e);
}

int pack_end(struct pack *p, struct manifest *m, struct err *e)
{
	int r = p->used ? compress(p, NULL, 0, ZSTD_e_end, e) : write_nothing(p, e);

	if (r < 0)
		return r;
	if (p->in_chunk && end_chunk(p) < 0)
		return err_nomem(e);
	m->pack_size = p->size;
	hash_end(&p->whole, m->pack_sha256);
	free(m->chunks);
	m->chunks = take_ptr(p->chunks.chunks);
	m->n_chunks = p->chunks.n_chunks;
	m->cap_chunks = p->chunks.cap_chunks;
	p->chunks = (struct manifest){ 0 };
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * The pack comes from a host that may be taken over. The first byte chooses whether the rest is a
 * pack or an archive that is compressed here. Whatever it is, nothing but files and folders inside
 * the stage may come of it, and success only with exactly what the manifest says.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zstd.h>

#include "base/fd.h"
#include "transfer/extract.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct {
	const char *path, *text;
} entries[] = { { "a", "abc" }, { "d", NULL }, { "d/b", "" } };

static int give(void *user, const void **data, size_t *n, unused_arg struct err *e)
{
	struct buf *b = user;

	*data = b->data;
	*n = b->len;
	b->len = 0;
	return 0;
}

static void fill_manifest(struct manifest *m)
{
	for (size_t i = 0; i < ARRAY_LEN(entries); i++) {
		const char *text = entries[i].text;
		uint8_t sum[HASH_SIZE];
		struct hash h;

		hash_init(&h);
		hash_add(&h, text ? text : "", text ? strlen(text) : 0);
		hash_end(&h, sum);
		if (manifest_add(m, text ? MANIFEST_REG : MANIFEST_DIR, entries[i].path,
				 text ? strlen(text) : 0, text ? sum : NULL) < 0)
			abort();
	}
	m->pack_size = 1;
}

/* Only the stage is in the folder, and a success has all of it. */
static void check(int dir, int r)
{
	struct stat st;

	for (size_t i = 0; i < ARRAY_LEN(entries) && r == 0; i++) {
		char path[64];

		snprintf(path, sizeof(path), "stage/%s", entries[i].path);
		if (fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    S_ISREG(st.st_mode) != (entries[i].text != NULL))
			abort();
	}
	if (fd_rmtree(dir, "stage", NULL) < 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_done(manifest) m = { 0 };
	auto_buf struct buf pack = { 0 };
	auto_close int dir = -1, stage = -1;
	char path[] = "/tmp/zr-fuzz-XXXXXX";
	struct err e = { 0 };
	int r;

	if (size < 2 || size > 1 << 20)
		return 0;
	if (buf_reserve(&pack, ZSTD_compressBound(size)) < 0)
		abort();
	if (data[0] & 1) {
		pack.len = ZSTD_compress(pack.data, pack.cap, data + 1, size - 1, 1);
	} else {
		memcpy(pack.data, data + 1, size - 1);
		pack.len = size - 1;
	}
	if (!mkdtemp(path) || fd_open_dir(AT_FDCWD, path, &dir, &e) < 0 ||
	    mkdirat(dir, "stage", 0700) < 0 || fd_open_dir(dir, "stage", &stage, &e) < 0)
		abort();
	fill_manifest(&m);
	r = extract_tree(&m, give, &pack, stage, &e);
	check(dir, r);
	if (rmdir(path) < 0)
		abort();
	return 0;
}

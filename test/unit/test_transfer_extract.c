/* SPDX-License-Identifier: MIT */
/* Objects made here by hand, member by member, and one that seal_tree() made. */
#include "unit.h"

#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <zstd.h>

#include "transfer/extract.h"
#include "transfer/pack.h"
#include "transfer/pax.h"
#include "transfer/seal.h"

struct object {
	struct manifest m;
	struct buf tar, pack;
	size_t at;    /* given so far */
	size_t piece; /* bytes a read; 0: all */
	int dir;
	char path[64];
};

static struct object o;

static void setup(void)
{
	o = (struct object){ .path = "/tmp/zr-test-extract-XXXXXX" };
	ck_assert_ptr_nonnull(mkdtemp(o.path));
	o.dir = open(o.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(o.dir, 0);
	ck_assert_int_eq(mkdirat(o.dir, "stage", 0755), 0);
}

static void teardown(void)
{
	close(o.dir);
	ck_assert_int_eq(fd_rmtree(AT_FDCWD, o.path, NULL), 0);
	manifest_done(&o.m);
	buf_done(&o.tar);
	buf_done(&o.pack);
}

/* --- building ------------------------------------------------------------------------------- */

/* Puts a member into the archive; `type` 0 for what pax_header() makes of it. */
static void add_tar(const char *path, char type, const char *link, const char *data)
{
	static const char zeros[PAX_BLOCK];
	size_t n = strlen(data), start = o.tar.len;
	unsigned sum = 0;
	char *h;

	ck_assert_int_eq(pax_header(&o.tar, path, type == '5', n), 0);
	h = o.tar.data + o.tar.len - PAX_BLOCK;
	ck_assert_uint_ge(o.tar.len, start + PAX_BLOCK);
	if (type) {
		h[156] = type;
		memcpy(h + 100, "0006755", 7);
		snprintf(h + 157, 100, "%s", link ? link : "");
		memset(h + 148, ' ', 8);
		for (size_t i = 0; i < PAX_BLOCK; i++)
			sum += (unsigned char)h[i];
		snprintf(h + 148, 8, "%06o", sum);
	}
	ck_assert_int_eq(buf_add(&o.tar, data, n), 0);
	ck_assert_int_eq(buf_add(&o.tar, zeros, pax_padding(n)), 0);
}

static void add_entry(const char *path, const char *data)
{
	uint8_t sum[HASH_SIZE];
	struct hash h;

	hash_init(&h);
	hash_add(&h, data ? data : "", data ? strlen(data) : 0);
	hash_end(&h, sum);
	ck_assert_int_eq(manifest_add(&o.m, data ? MANIFEST_REG : MANIFEST_DIR, path,
				      data ? strlen(data) : 0, data ? sum : NULL),
			 0);
}

static void add(const char *path, const char *data)
{
	add_tar(path, data ? 0 : '5', NULL, data ? data : "");
	add_entry(path, data);
}

static void end_tar(void)
{
	static const char zeros[PAX_END_BYTES];

	ck_assert_int_eq(buf_add(&o.tar, zeros, sizeof(zeros)), 0);
}

static void compress_tar(void)
{
	size_t n = ZSTD_compressBound(o.tar.len);

	ck_assert_int_eq(buf_reserve(&o.pack, n), 0);
	n = ZSTD_compress(o.pack.data, n, o.tar.data, o.tar.len, 1);
	ck_assert(!ZSTD_isError(n));
	o.pack.len = n;
	o.m.pack_size = n;
}

static int give(void *user, const void **data, size_t *n, unused_arg struct err *e)
{
	struct object *x = user;
	size_t left = x->pack.len - x->at;

	*n = x->piece && x->piece < left ? x->piece : left;
	*data = x->pack.data + x->at;
	x->at += *n;
	return 0;
}

static int extract(struct err *e)
{
	auto_close int stage = openat(o.dir, "stage", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_buf struct buf canonical = { 0 };
	uint8_t root[HASH_SIZE];

	/* Sorts the entries, as a manifest that was read is. */
	ck_assert_int_eq(manifest_encode(&o.m, &canonical, root, e), 0);
	return extract_tree(&o.m, give, &o, stage, e);
}

static int run(struct err *e)
{
	end_tar();
	compress_tar();
	return extract(e);
}

static void has(const char *path, const char *data)
{
	auto_free char *full = NULL;
	auto_buf struct buf b = { 0 };
	struct err e;
	struct stat st;

	ck_assert_int_ge(str_fmt(&full, "stage/%s", path), 0);
	ck_assert_int_eq(fstatat(o.dir, full, &st, AT_SYMLINK_NOFOLLOW), 0);
	if (!data) {
		ck_assert(S_ISDIR(st.st_mode));
		ck_assert_uint_eq(st.st_mode & 07777, 0750);
		return;
	}
	ck_assert_uint_eq(st.st_mode, S_IFREG | 0640);
	ck_ok(fd_read_file(o.dir, full, 1 << 20, &b, &e), e);
	ck_assert_str_eq(b.data, data);
}

/* --- tests ---------------------------------------------------------------------------------- */

START_TEST(good)
{
	struct err e = { 0 };

	umask(0);
	o.piece = _i;
	add("d", NULL);
	add("d/e", NULL);
	add("d/e/f", "deep");
	add("empty", "");
	add("caf\xc3\xa9", "utf-8");
	add("top", "text");
	ck_ok(run(&e), e);
	has("d/e", NULL);
	has("d/e/f", "deep");
	has("caf\xc3\xa9", "utf-8");
	has("top", "text");
}
END_TEST

START_TEST(without_openat2)
{
	struct err e = { 0 };

	add("d", NULL);
	add("d/e", NULL);
	add("d/e/f", "deep");
	unit_lose_openat2();
	ck_ok(run(&e), e);
	has("d/e/f", "deep");
}
END_TEST

/* What is neither file nor folder is listed, and the rest goes on. */
START_TEST(other_types)
{
	static const struct {
		char type;
		const char *word;
	} t[] = {
		{ '1', "hardlink" },     { '2', "symlink" }, { '3', "char-device" },
		{ '4', "block-device" }, { '6', "fifo" },
	};
	struct err e = { 0 };
	struct stat st;

	add("a", "1");
	add_tar("odd", t[_i].type, "/etc/passwd", "");
	add("z", "2");
	ck_ok(run(&e), e);
	has("z", "2");
	ck_assert_uint_eq(o.m.n_refused, 1);
	ck_assert_str_eq(o.m.refused[0].path, "odd");
	ck_assert_str_eq(o.m.refused[0].type, t[_i].word);
	ck_assert_int_ne(fstatat(o.dir, "stage/odd", &st, AT_SYMLINK_NOFOLLOW), 0);
}
END_TEST

/* A setuid bit of the archive sets nothing. */
START_TEST(setuid_bit)
{
	struct err e = { 0 };

	umask(0);
	add_tar("s", '0', NULL, "x");
	add_entry("s", "x");
	ck_ok(run(&e), e);
	has("s", "x");
}
END_TEST

START_TEST(not_in_manifest)
{
	static const char *const paths[] = { "extra",   "../up",     "/abs", "a/../b", "a/b",
					     "n\nline", "d/../../x", ".",    "" };
	struct err e = { 0 };

	add("a", "1");
	add_tar(paths[_i], '0', NULL, "x");
	ck_fails(run(&e), EINVAL);
	ck_assert_int_eq(e.kind, ERR_INPUT);
	ck_assert_int_ne(faccessat(o.dir, "up", F_OK, 0), 0);
	ck_assert_int_ne(faccessat(o.dir, "x", F_OK, 0), 0);
}
END_TEST

START_TEST(link_then_through)
{
	struct err e = { 0 };

	add("d", NULL);
	add_tar("d", '2', "/tmp", "");
	add("d/f", "inside");
	ck_ok(run(&e), e);
	has("d/f", "inside");
	ck_assert_uint_eq(o.m.refused_total, 1);
}
END_TEST

START_TEST(disagreements)
{
	static const char *const words[] = {
		"'a' is in the archive twice",
		"'b' of the manifest is not in the archive",
		"file 'a' of the archive has not the announced hash",
		"file 'a' of the archive has not the announced size",
		"file 'a' of the archive has not the announced size",
		"the manifest has no dir 'a'",
		"the manifest has no file 'd'",
	};
	struct err e = { 0 };

	add_entry("a", "12345");
	switch (_i) {
	case 0:
		add_tar("a", 0, NULL, "12345");
		add_tar("a", 0, NULL, "12345");
		break;
	case 1:
		add_tar("a", 0, NULL, "12345");
		add_entry("b", "x");
		break;
	case 2:
		add_tar("a", 0, NULL, "12346");
		break;
	case 3:
		add_tar("a", 0, NULL, "1234");
		break;
	case 4:
		add_tar("a", 0, NULL, "123456");
		break;
	case 5:
		add_tar("a", '5', NULL, "");
		break;
	default:
		add_entry("d", NULL);
		add_tar("d", 0, NULL, "x");
		break;
	}
	ck_fails(run(&e), EINVAL);
	ck_assert_str_eq(e.msg, words[_i]);
}
END_TEST

START_TEST(damage)
{
	static const char *const words[] = {
		"the pack ends early",
		"the pack is not valid zstd",
		"bytes after the end of the pack",
		"the archive is malformed",
		"longer than its manifest explains",
		"the archive is malformed",
		"the pack ends early",
	};
	auto_free char *bomb = NULL;
	struct err e = { 0 };

	add("a", "12345");
	if (_i == 4) {
		bomb = calloc(1, 64 << 20);
		memset(bomb, 'x', (64 << 20) - 1);
		add_tar("bomb", '0', NULL, bomb);
		add_entry("bomb", "");
	}
	if (_i == 5)
		memset(o.tar.data + 100, 0xff, 300);
	end_tar();
	if (_i == 3)
		o.tar.len = PAX_BLOCK + 2;
	compress_tar();
	if (_i == 0)
		o.pack.len -= 3;
	if (_i == 1)
		o.pack.data[2] ^= 0x40;
	if (_i == 2)
		ck_assert_int_eq(buf_str(&o.pack, "junk"), 0);
	if (_i == 6)
		o.pack.len = 0;
	ck_fails(extract(&e), EINVAL);
	ck_assert_int_eq(e.kind, ERR_INPUT);
	if (_i == 4)
		ck_assert_msg(strstr(e.msg, words[4]) || strstr(e.msg, "size"), "%s", e.msg);
	else
		ck_has(e.msg, words[_i]);
}
END_TEST

START_TEST(limits)
{
	static const struct {
		struct extract_limits l;
		const char *words;
	} t[] = {
		{ { .entries = 1 }, "over a limit: 2 entries, at most 1" },
		{ { .bytes = 9 }, "over a limit: 10 bytes, at most 9" },
		{ { .file_bytes = 7 }, "over a limit: 8 bytes in one file, at most 7" },
		{ { .ratio = 1 }, "over a limit: 5 times its packed size, at most 1" },
	};
	struct err e = { 0 };

	add_entry("a", "12");
	add_entry("b", "12345678");
	o.m.pack_size = 2;
	ck_fails(extract_check_limits(&o.m, &t[_i].l, &e), E2BIG);
	ck_assert_str_eq(e.msg, t[_i].words);
	ck_ok(extract_check_limits(&o.m, &(struct extract_limits){ .entries = 2 }, &e), e);
}
END_TEST

START_TEST(publish)
{
	auto_free char *target = NULL;
	struct err e = { 0 };

	ck_assert_int_ge(str_fmt(&target, "%s/results/42/1", o.path), 0);
	add("a", "1");
	ck_ok(run(&e), e);
	ck_ok(extract_publish(&o.m, o.dir, "stage", target, &e), e);
	ck_assert_int_eq(faccessat(o.dir, "results/42/1/a", F_OK, 0), 0);
	ck_assert_int_ne(faccessat(o.dir, "stage", F_OK, 0), 0);
	/* Never replaced. */
	ck_assert_int_eq(mkdirat(o.dir, "stage", 0755), 0);
	manifest_done(&o.m);
	ck_fails(extract_publish(&o.m, o.dir, "stage", target, &e), EEXIST);
	ck_assert_int_eq(faccessat(o.dir, "results/42/1/a", F_OK, 0), 0);
}
END_TEST

/* What seal_tree() makes, extract_tree() takes. */
START_TEST(sealed)
{
	struct seal_part part = { .dirfd = o.dir, .source = "in", .as = "" };
	struct seal_spec spec = { .name = "result",
				  .parts = &part,
				  .n_parts = 1,
				  .out_dirfd = o.dir,
				  .out_name = "sealed" };
	auto_buf struct buf b = { 0 };
	struct seal_result res;
	struct err e = { 0 };
	char name[220];

	memset(name, 'n', sizeof(name) - 1);
	memcpy(name, "in/", 3);
	name[sizeof(name) - 1] = '\0';
	ck_assert_int_eq(mkdirat(o.dir, "in", 0755), 0);
	ck_assert_int_eq(mkdirat(o.dir, "in/d", 0755), 0);
	ck_ok(fd_write_file(o.dir, name, "long", 4, 0600, false, &e), e);
	ck_ok(fd_write_file(o.dir, "in/d/caf\xc3\xa9", "x", 1, 0600, false, &e), e);
	ck_ok(seal_tree(&spec, &res, &e), e);
	ck_ok(fd_read_file(o.dir, "sealed/manifest.json", 1 << 20, &b, &e), e);
	ck_ok(manifest_parse(b.data, b.len, 0, &o.m, &e), e);
	ck_ok(fd_read_file(o.dir, "sealed/result.tar.zst", 1 << 20, &o.pack, &e), e);
	ck_assert_uint_eq(o.pack.len, res.pack_bytes);
	ck_ok(extract(&e), e);
	has(name + 3, "long");
	has("d/caf\xc3\xa9", "x");
}
END_TEST

START_TEST(sealed_nothing)
{
	struct seal_spec spec = { .name = "result", .out_dirfd = o.dir, .out_name = "sealed" };
	auto_buf struct buf b = { 0 };
	struct seal_result res;
	struct err e = { 0 };

	ck_ok(seal_tree(&spec, &res, &e), e);
	ck_ok(fd_read_file(o.dir, "sealed/manifest.json", 1 << 20, &b, &e), e);
	ck_ok(manifest_parse(b.data, b.len, 0, &o.m, &e), e);
	ck_ok(fd_read_file(o.dir, "sealed/result.tar.zst", 1 << 20, &o.pack, &e), e);
	ck_assert_uint_eq(o.pack.len, res.pack_bytes);
	ck_ok(extract(&e), e);
}
END_TEST

static void tests(TCase *t)
{
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, good, 0, 8);
	tcase_add_test(t, without_openat2);
	tcase_add_loop_test(t, other_types, 0, 5);
	tcase_add_test(t, setuid_bit);
	tcase_add_loop_test(t, not_in_manifest, 0, 9);
	tcase_add_test(t, link_then_through);
	tcase_add_loop_test(t, disagreements, 0, 7);
	tcase_add_loop_test(t, damage, 0, 7);
	tcase_add_loop_test(t, limits, 0, 4);
	tcase_add_test(t, publish);
	tcase_add_test(t, sealed);
	tcase_add_test(t, sealed_nothing);
}

int main(void)
{
	return unit_main("transfer/extract", tests);
}

/* SPDX-License-Identifier: MIT */
#include "transfer/pax.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* The size field holds eleven octal digits. */
#define USTAR_SIZE_MAX (((uint64_t)1 << 33) - 1)

struct ustar {
	char name[100];
	char mode[8];
	char uid[8];
	char gid[8];
	char size[12];
	char mtime[12];
	char checksum[8];
	char type;
	char linkname[100];
	char magic[6];
	char version[2];
	char uname[32];
	char gname[32];
	char major[8];
	char minor[8];
	char prefix[155];
	char zero[12];
};
_Static_assert(sizeof(struct ustar) == PAX_BLOCK, "a tar header is one block");

/* `digits` octal digits, which must be enough, and a NUL. */
static void octal(char *out, unsigned digits, uint64_t v)
{
	for (unsigned i = digits; i-- > 0; v >>= 3)
		out[i] = (char)('0' + (v & 7));
	out[digits] = '\0';
}

static void checksum(struct ustar *h)
{
	const unsigned char *p = (const unsigned char *)h;
	unsigned sum = 0;

	memset(h->checksum, ' ', sizeof(h->checksum));
	for (size_t i = 0; i < sizeof(*h); i++)
		sum += p[i];
	octal(h->checksum, 6, sum);
	h->checksum[7] = ' ';
}

static int put_block(struct buf *b, char type, const char *name, size_t n, uint64_t size)
{
	struct ustar h = { .type = type, .magic = "ustar", .version = { '0', '0' } };

	memcpy(h.name, name, n < sizeof(h.name) ? n : sizeof(h.name));
	octal(h.mode, 7, type == '5' ? 0750 : 0640);
	octal(h.uid, 7, 0);
	octal(h.gid, 7, 0);
	octal(h.size, 11, size <= USTAR_SIZE_MAX ? size : 0);
	octal(h.mtime, 11, 0);
	octal(h.major, 7, 0);
	octal(h.minor, 7, 0);
	checksum(&h);
	return buf_add(b, &h, sizeof(h));
}

/* "LEN key=value\n", where LEN counts itself. */
static int put_record(struct buf *b, const char *key, const char *value)
{
	size_t rest = strlen(key) + strlen(value) + 3, len = rest + 1;

	while (len != rest + (size_t)snprintf(NULL, 0, "%zu", len))
		len = rest + (size_t)snprintf(NULL, 0, "%zu", len);
	return buf_fmt(b, "%zu %s=%s\n", len, key, value);
}

static int put_extended(struct buf *b, const char *path, bool long_path, uint64_t size)
{
	auto_buf struct buf records = { 0 };
	static const char zeros[PAX_BLOCK];
	char digits[24];
	int r = 0;

	if (long_path)
		r = put_record(&records, "path", path);
	if (r >= 0 && size > USTAR_SIZE_MAX) {
		snprintf(digits, sizeof(digits), "%" PRIu64, size);
		r = put_record(&records, "size", digits);
	}
	r = r < 0 ? r : put_block(b, 'x', "pax", 3, records.len);
	r = r < 0 ? r : buf_add(b, records.data, records.len);
	return r < 0 ? r : buf_add(b, zeros, pax_padding(records.len));
}

static bool is_ascii(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s >= 0x80)
			return false;
	return true;
}

int pax_header(struct buf *b, const char *path, bool dir, uint64_t size)
{
	size_t n = strlen(path);
	/* ustar says nothing about the encoding of a name; pax says UTF-8. */
	bool long_path = n > sizeof(((struct ustar *)NULL)->name) || !is_ascii(path);

	if (long_path || size > USTAR_SIZE_MAX)
		if (put_extended(b, path, long_path, size) < 0)
			return -ENOMEM;
	return put_block(b, dir ? '5' : '0', path, n, dir ? 0 : size);
}

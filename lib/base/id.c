/* SPDX-License-Identifier: MIT */
#include "base/id.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/fd.h"
#include "base/time.h"

/* The wall clock as it was when we asked first, going on steadily: names keep the order of their making
 * when it is set. */
static uint64_t steady_usec(void)
{
	static uint64_t offset;

	if (!offset)
		offset = time_wall_usec() - time_boot_usec();
	return offset + time_boot_usec();
}

char *id_uuid7(char out[UUID_LEN + 1])
{
	uint64_t usec = steady_usec(), msec = usec / 1000;
	uint16_t fine = (uint16_t)(usec % 1000 * 4096 / 1000); /* 12 bits of the millisecond */
	uint8_t r[8];

	if (getrandom(r, sizeof(r), 0) != sizeof(r))
		abort(); /* cannot happen for 8 bytes once the pool is initialised */
	snprintf(out, UUID_LEN + 1, "%08x-%04x-7%03x-%02x%02x-%02x%02x%02x%02x%02x%02x",
		 (unsigned)(msec >> 16), (unsigned)(msec & 0xffff), fine & 0xfffu,
		 (r[0] & 0x3fu) | 0x80u, r[1], r[2], r[3], r[4], r[5], r[6], r[7]);
	return out;
}

static bool is_hex(const char *s, size_t n)
{
	return strspn(s, "0123456789abcdef") >= n;
}

bool id_is_uuid(const char *s)
{
	static const size_t groups[] = { 8, 4, 4, 4, 12 };

	if (strlen(s) != UUID_LEN)
		return false;
	for (size_t i = 0; i < 5; i++) {
		if (!is_hex(s, groups[i]))
			return false;
		s += groups[i];
		if (*s != (i < 4 ? '-' : '\0'))
			return false;
		s++;
	}
	return true;
}

int id_boot(char out[UUID_LEN + 1], struct err *e)
{
	static char boot[UUID_LEN + 1];
	auto_buf struct buf b = { 0 };
	int r;

	if (!*boot) {
		r = fd_read_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &b, e);
		if (r < 0)
			return r;
		if (b.len < UUID_LEN)
			return err_set(e, EIO, ERR_HOST, "the kernel's boot id is too short");
		b.data[UUID_LEN] = '\0';
		if (!id_is_uuid(b.data))
			return err_set(e, EIO, ERR_HOST, "the kernel's boot id is no UUID");
		memcpy(boot, b.data, sizeof(boot));
	}
	memcpy(out, boot, sizeof(boot));
	return 0;
}

bool id_valid(const char *s)
{
	static const char rest[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	size_t n = strlen(s);

	return n >= 1 && n <= ID_MAX && *s != '.' && *s != '-' && *s != '_' && strspn(s, rest) == n;
}

bool id_is_digest(const char *s)
{
	return strncmp(s, "sha256:", 7) == 0 && strlen(s) == 71 && is_hex(s + 7, 64);
}

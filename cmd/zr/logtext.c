/* SPDX-License-Identifier: MIT */
#include "logtext.h"

#include <stdbool.h>

#include "base/str.h"

#define PIECE 200

static bool is_plain(char c)
{
	return c != '\n' && c != '\t' && c != '\r';
}

/* The first bytes of data[n] that are shown together; no character is cut in two. */
static size_t piece(const char *data, size_t n)
{
	size_t k = 0, back = 0;

	while (k < n && k < PIECE && is_plain(data[k]))
		k++;
	if (k < PIECE || k == n)
		return k;
	while (back < 4 && ((unsigned char)data[k - back] & 0xc0) == 0x80)
		back++;
	return back < 4 ? k - back : k;
}

void logtext_print(FILE *to, const char *data, size_t n)
{
	char out[4 * PIECE + 8];

	while (n) {
		size_t k = piece(data, n);

		if (k)
			fputs(str_escape(out, sizeof(out), data, k), to);
		if (k < n && !is_plain(data[k])) {
			/* A lone carriage return starts the line again, over what was there. */
			bool crlf = data[k] == '\r' && k + 1 < n && data[k + 1] == '\n';

			if (!crlf)
				fputc(data[k] == '\r' ? '\n' : data[k], to);
			k++;
		}
		data += k;
		n -= k;
	}
}

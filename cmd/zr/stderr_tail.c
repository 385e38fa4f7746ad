/* SPDX-License-Identifier: MIT */
#include "stderr_tail.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/str.h"

#define TAIL_LINES 8
#define TAIL_BYTES 2048

static const char *text_of(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

/* The last whole lines in data[n]; `cut`: something stands before them. */
static const char *last_lines(const char *data, size_t *n, bool cut)
{
	const char *from = data + *n, *end;
	int lines = 0;

	while (*n && data[*n - 1] == '\n')
		(*n)--;
	end = from = data + *n;
	while (from > data && (from[-1] != '\n' || ++lines < TAIL_LINES))
		from--;
	if (from == data && cut && lines && memchr(data, '\n', *n))
		from = (const char *)memchr(data, '\n', *n) + 1;
	*n = (size_t)(end - from);
	return from;
}

int stderr_tail_read(int fd, json_t **ret, struct err *e)
{
	char data[TAIL_BYTES];
	const char *lines;
	struct stat st;
	ssize_t got;
	size_t n;

	*ret = NULL;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return 0;
	got = pread(fd, data, sizeof(data), st.st_size > TAIL_BYTES ? st.st_size - TAIL_BYTES : 0);
	if (got <= 0)
		return 0;
	n = (size_t)got;
	lines = last_lines(data, &n, st.st_size > TAIL_BYTES);
	if (n)
		*ret = js_from_bytes(lines, n);
	return !n || *ret ? 0 : err_nomem(e);
}

static int read_tail(const char *result, json_t **ret, struct err *e)
{
	auto_close int dir = -1, fd = -1;
	int r = fd_open_dir(AT_FDCWD, result, &dir, e);

	if (r < 0)
		return r;
	fd = openat(dir, ".zr/err.log", O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	return fd < 0 ? 0 : stderr_tail_read(fd, ret, e);
}

int stderr_tail_add(json_t *evaluation, struct err *e)
{
	const json_t *results = json_object_get(evaluation, "results");
	const char *path = text_of(results, "path");
	json_t *tail = NULL;
	struct err why = { 0 };

	/* A folder that somebody moved away is no reason to show nothing of the rest. */
	if (path && str_eq(text_of(evaluation, "status"), "failed") &&
	    str_eq(text_of(results, "state"), "stored"))
		(void)!read_tail(path, &tail, &why);
	if (json_object_set_new(evaluation, "stderr", tail ? tail : json_null()) < 0)
		return err_nomem(e);
	return 0;
}

void stderr_tail_print(const json_t *evaluation, FILE *out)
{
	const char *line = text_of(evaluation, "stderr");

	if (!line)
		return;
	fputs("last lines of standard error:\n", out);
	while (*line) {
		size_t n = strcspn(line, "\n");
		char text[2 * TAIL_BYTES];

		fprintf(out, "  %s\n", str_escape(text, sizeof(text), line, n));
		line += n + (line[n] == '\n');
	}
}

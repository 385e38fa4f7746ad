/* SPDX-License-Identifier: MIT */
#include "messaging/dirlive.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/str.h"
#include "messaging/dirtree.h"
#include "messaging/message.h"

/* What two logs of the usual size need at most, six bytes for each of theirs. */
#define LINES_MAX (16u << 20)
#define TEMP      ".%s.tmp"

static int file_name(const char *evaluation, int attempt, const char *ending, char **ret)
{
	return str_fmt(ret, "%s.%d%s", evaluation, attempt, ending);
}

/* A line or nothing: half of one would spoil the next. Nobody else writes here. */
static void add_line(int dirfd, const char *name, const void *body, size_t n)
{
	struct iovec v[] = { { (void *)(uintptr_t)body, n }, { (char[]){ '\n' }, 1 } };
	auto_close int fd =
		openat(dirfd, name,
		       O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644);
	struct stat st;
	ssize_t done;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
	    (size_t)st.st_size + n > LINES_MAX)
		return;
	done = writev(fd, v, ARRAY_LEN(v));
	if (done > 0 && (size_t)done < n + 1)
		(void)!ftruncate(fd, st.st_size);
}

static void replace(int dirfd, const char *name, const void *body, size_t n)
{
	auto_free char *temp = NULL;
	auto_close int fd = -1;

	if (str_fmt(&temp, TEMP, name) < 0)
		return;
	(void)unlinkat(dirfd, temp, 0);
	fd = openat(dirfd, temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0)
		return;
	if (fd_write_all(fd, body, n) < 0 || renameat(dirfd, temp, dirfd, name) < 0)
		(void)unlinkat(dirfd, temp, 0);
}

void dirlive_write(int dirfd, const char *key, const void *body, size_t n)
{
	bool progress = str_starts(key, "event.progress.");
	auto_free char *name = NULL;
	json_auto_t *o = NULL;
	const char *evaluation;

	if ((!progress && !str_starts(key, "event.log.") && !str_starts(key, "event.violation.")) ||
	    js_parse(body, n, MESSAGE_DEPTH, &o, NULL) < 0)
		return;
	evaluation = json_string_value(json_object_get(o, "evaluation"));
	if (!evaluation ||
	    file_name(evaluation, (int)json_integer_value(json_object_get(o, "attempt")),
		      progress ? ".json" : ".log", &name) < 0)
		return;
	if (progress)
		replace(dirfd, name, body, n);
	else
		add_line(dirfd, name, body, n);
}

void dirlive_ended(int dirfd, const char *evaluation, int attempt)
{
	static const char *const endings[] = { ".json", ".log" };

	for (size_t i = 0; i < ARRAY_LEN(endings); i++) {
		auto_free char *name = NULL, *temp = NULL;

		if (file_name(evaluation, attempt, endings[i], &name) < 0 ||
		    str_fmt(&temp, TEMP, name) < 0)
			return;
		(void)unlinkat(dirfd, name, 0);
		(void)unlinkat(dirfd, temp, 0);
	}
}

/* SPDX-License-Identifier: MIT */
#include "exec/journal.h"

#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/str.h"
#include "base/time.h"

void journal_done(struct journal *j)
{
	json_decref(j->isolation);
	j->isolation = NULL;
	if (j->done)
		box_result_done(&j->result);
	j->done = false;
}

static int read_phase(const json_t *o, enum phase *ret, struct err *e)
{
	const char *name;
	int r = js_str(o, "phase", 32, &name, e);

	if (r < 0)
		return r;
	return phase_parse(name, ret) < 0 ? err_input(e, "there is no such phase") : 0;
}

static int read_started(const json_t *o, struct journal *j, struct err *e)
{
	const char *at;
	json_t *isolation = NULL;
	int r = js_str(o, "at", TIME_TEXT_MAX, &at, e);

	if (r == 0 && time_parse(at, &j->started_wall_usec) < 0)
		r = err_input(e, "'at' is not a time");
	if (r == 0)
		r = read_phase(o, &j->phase, e);
	if (r == 0)
		r = js_opt_obj(o, "isolation", &isolation, e);
	if (r < 0)
		return r;
	json_decref(j->isolation);
	j->isolation = json_incref(isolation);
	j->started = true;
	return 0;
}

static int read_done(const json_t *o, struct journal *j, struct err *e)
{
	json_t *result;
	int r = js_obj(o, "result", &result, e);

	if (r < 0 || j->done)
		return r;
	box_result_init(&j->result);
	r = box_result_from_json(result, &j->result, e);
	j->done = r == 0;
	return r;
}

static int read_line(const char *line, size_t n, struct journal *j, struct err *e)
{
	json_t *o = NULL;
	const char *type;
	int r = js_parse(line, n, JS_DEPTH_MAX, &o, e);

	if (r < 0)
		return r;
	r = js_str(o, "t", 32, &type, e);
	j->begun = true;
	if (r == 0 && str_eq(type, "begun"))
		r = 0;
	else if (r == 0 && str_eq(type, "started"))
		r = read_started(o, j, e);
	else if (r == 0 && str_eq(type, "phase"))
		r = read_phase(o, &j->phase, e);
	else if (r == 0 && str_eq(type, "done"))
		r = read_done(o, j, e);
	else if (r == 0)
		r = err_input(e, "there is no record '%s'", STR_ESC(type));
	json_decref(o);
	return r;
}

int journal_parse(const void *data, size_t n, struct journal *ret, struct err *e)
{
	auto_done(journal) j = { .phase = PHASE_RUN };
	const char *p = data, *end = p + n, *nl;
	unsigned line = 1;
	struct err why;

	for (; p < end && (nl = memchr(p, '\n', (size_t)(end - p))); p = nl + 1, line++)
		if (read_line(p, (size_t)(nl - p), &j, &why) < 0)
			return err_set(e, EBADMSG, ERR_HOST, JOURNAL_FILE ", line %u: %s", line,
				       why.msg);
	*ret = j;
	j = (struct journal){ .isolation = NULL };
	return 0;
}

int journal_read(int box_dirfd, struct journal *ret, struct err *e)
{
	auto_buf struct buf b = { 0 };
	int r = fd_read_file(box_dirfd, JOURNAL_FILE, JOURNAL_FILE_MAX, &b, e);

	if (r < 0 && r != -ENOENT)
		return r;
	return journal_parse(b.data ? b.data : "", b.len, ret, e);
}

int journal_result(int box_dirfd, struct box_result *ret, struct err *e)
{
	auto_done(journal) j = { .phase = PHASE_RUN };
	auto_buf struct buf b = { 0 };
	const char *nl = NULL, *before;
	size_t start;
	int r = fd_read_file(box_dirfd, JOURNAL_FILE, JOURNAL_FILE_MAX, &b, e);

	if (r < 0 && r != -ENOENT)
		return r;
	nl = b.len ? memrchr(b.data, '\n', b.len) : NULL;
	if (!nl)
		return 0;
	before = memrchr(b.data, '\n', (size_t)(nl - b.data));
	start = before ? (size_t)(before + 1 - b.data) : 0;
	r = journal_parse(b.data + start, (size_t)(nl + 1 - b.data) - start, &j, e);
	if (r < 0 || !j.done)
		return r;
	*ret = j.result;
	box_result_init(&j.result);
	return 1;
}

int journal_salvage(int box_dirfd, struct journal *ret, struct err *e)
{
	int r = journal_read(box_dirfd, ret, e);

	if (r != -EBADMSG)
		return r;
	ret->begun = true;
	box_result_init(&ret->result);
	ret->done = journal_result(box_dirfd, &ret->result, NULL) > 0;
	return 0;
}

/* --- writing ---------------------------------------------------------------------------------- */

/* A line that a crash has torn would spoil the next one. */
static int cut_torn_line(int fd, struct err *e)
{
	auto_buf struct buf b = { 0 };
	struct stat st;
	const char *nl;
	size_t whole;
	int r;

	if (fstat(fd, &st) == 0 && st.st_size == 0)
		return 0;
	r = fd_read_all(fd, JOURNAL_FILE, JOURNAL_FILE_MAX, &b, e);
	nl = r == 0 && b.len ? memrchr(b.data, '\n', b.len) : NULL;
	whole = nl ? (size_t)(nl - b.data) + 1 : 0;
	if (r == 0 && whole < b.len && ftruncate(fd, (off_t)whole) < 0)
		r = err_sys(e, "shorten " JOURNAL_FILE);
	return r;
}

int journal_open(int box_dirfd, int *ret_fd, struct err *e)
{
	auto_close int fd = openat(box_dirfd, JOURNAL_FILE,
				   O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r;

	if (fd < 0)
		return err_sys(e, "open " JOURNAL_FILE);
	r = cut_torn_line(fd, e);
	if (r == 0)
		*ret_fd = take_fd(fd);
	return r;
}

int journal_lock(int box_dirfd, int *ret_fd, struct err *e)
{
	auto_close int fd = -1;
	int r = journal_open(box_dirfd, &fd, e);

	if (r < 0)
		return r;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return err_sys(e, "lock " JOURNAL_FILE);
	*ret_fd = take_fd(fd);
	return 0;
}

bool journal_is_free(int box_dirfd)
{
	auto_close int fd =
		openat(box_dirfd, JOURNAL_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	return fd < 0 ? errno == ENOENT : flock(fd, LOCK_EX | LOCK_NB) == 0;
}

bool journal_is_empty(int box_dirfd)
{
	struct stat st;

	if (fstatat(box_dirfd, JOURNAL_FILE, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT;
	return st.st_size == 0;
}

/* `text` NULL: there was no memory for it. */
static int add_text(int fd, const char *text, struct err *e)
{
	auto_free char *line = NULL;
	int n = text ? str_fmt(&line, "%s\n", text) : -1, r;

	if (n < 0)
		return err_nomem(e);
	r = FAILPOINT_FAILS("journal.write") ? -errno : fd_write_all(fd, line, (size_t)n);
	return r < 0 ? err_errno(e, r, "write " JOURNAL_FILE) : 0;
}

/* Takes the record, which may be NULL for want of memory. */
static char *text_of(json_t *record)
{
	char *text = record ? js_text(record) : NULL;

	json_decref(record);
	return text;
}

static int add(int fd, json_t *record, struct err *e)
{
	auto_free char *text = text_of(record);

	return add_text(fd, text, e);
}

/*
 * Nothing here is synced: the page cache outlives every crash but the host's own, and after that the
 * boot id in spec.json tells that whatever ran is gone. A box whose `done` was torn off then counts
 * as lost; if its worker had said more before, that was synced in the worker's spool, goes out first
 * and has the same key, so that `lost` changes nothing.
 */
int journal_add_begun(int fd, struct err *e)
{
	return add(fd, json_pack("{s:s}", "t", "begun"), e);
}

int journal_add_started(int fd, uint64_t wall_usec, enum phase p, const json_t *isolation,
			char **ret_record, struct err *e)
{
	char at[TIME_TEXT_MAX];

	*ret_record = text_of(json_pack("{s:s, s:s, s:s, s:O}", "t", "started", "at",
					time_text(at, wall_usec), "phase", phase_name(p),
					"isolation", isolation));
	return add_text(fd, *ret_record, e);
}

int journal_add_phase(int fd, enum phase p, struct err *e)
{
	return add(fd, json_pack("{s:s, s:s}", "t", "phase", "phase", phase_name(p)), e);
}

int journal_add_done(int fd, const struct box_result *r, struct err *e)
{
	return add(fd, json_pack("{s:s, s:o}", "t", "done", "result", box_result_json(r)), e);
}

/* SPDX-License-Identifier: MIT */
#include "exec/conclude.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/id.h"
#include "base/time.h"
#include "exec/journal.h"

static int write_result(int dir, const struct box_result *r, struct err *e)
{
	auto_close int fd = -1;
	int n = journal_open(dir, &fd, e);

	return n < 0 ? n : journal_add_done(fd, r, e);
}

int conclude_unstarted(int box_dirfd, const struct box_spec *spec, enum box_reason reason,
		       const char *detail, struct err *e)
{
	auto_done(box_result) r;

	box_result_init(&r);
	r.reason = reason;
	r.detail = detail ? strdup(detail) : NULL;
	r.phase = spec->argv[PHASE_PREPARE] ? PHASE_PREPARE : PHASE_RUN;
	r.finished_wall_usec = time_wall_usec();
	return write_result(box_dirfd, &r, e);
}

static uint64_t size_of(int dir, const char *file)
{
	struct stat st;

	return fstatat(dir, file, &st, AT_SYMLINK_NOFOLLOW) < 0 ? 0 : (uint64_t)st.st_size;
}

/* A keeper that was killed between sealing and `done`: nobody will ever be told of what it sealed. After a
 * crash of the host only what was not sealed yet goes: what it said may be known, and its journal be gone. */
static int drop_unannounced(const struct box_spec *spec, struct err *e)
{
	auto_close int sealed = -1;
	char temp[UUID_LEN + 8];
	int r = fd_open_dir(AT_FDCWD, spec->sealed_dir, &sealed, e);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	snprintf(temp, sizeof(temp), ".%s.tmp", spec->attempt_id);
	r = fd_rmtree(sealed, temp, e);
	return r < 0 || spec_is_this_boot(spec) != 1 ? r : fd_rmtree(sealed, spec->attempt_id, e);
}

int conclude_lost(int box_dirfd, const struct box_spec *spec, bool all_killed, struct err *e)
{
	auto_done(box_result) r;
	auto_done(journal) j = { .phase = PHASE_RUN };
	int n = journal_salvage(box_dirfd, &j, e);

	box_result_init(&r);
	if (n == 0)
		n = drop_unannounced(spec, e);
	if (n < 0)
		return n;
	r.reason = BOX_LOST;
	r.detail = strdup(all_killed ? "the keeper of the job was killed, and the job with it"
				     : "the keeper of the job was killed, and a process of the job "
				       "cannot be killed");
	/* Of a host that went down nobody knows whose fault it was. */
	r.keeper_died = j.begun && spec_is_this_boot(spec) == 1;
	r.phase = j.phase;
	r.started_wall_usec = j.started_wall_usec;
	r.finished_wall_usec = time_wall_usec();
	r.isolation = json_incref(j.isolation);
	r.out_bytes = size_of(box_dirfd, OUT_LOG_FILE);
	r.err_bytes = size_of(box_dirfd, ERR_LOG_FILE);
	return write_result(box_dirfd, &r, e);
}

/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "engine.h"
#include "exec/journal.h"
#include "exec/spare.h"
#include "jail.h"
#include "keeper.h"
#include "transfer/manifest.h"
#include "transfer/seal.h"

/* Only a job that ended well has scores; without the file it may still be fine. */
static void judge_scores(struct keeper *k)
{
	enum scores_state s;

	if (k->decided || !k->spec->scores_file)
		return;
	s = scores_read(k);
	if (s == SCORES_BAD || (s == SCORES_MISSING && k->spec->scores_required))
		verdict(k, BOX_EXIT, "%s", k->result.scores_error ? k->result.scores_error : "");
}

static bool output_is_folder(const struct keeper *k)
{
	struct stat st;

	if (k->untouched && k->tree == k->dir)
		return true;
	return fstatat(k->tree, k->output, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

static int seal(struct keeper *k, bool output, struct seal_result *ret, struct err *e)
{
	/* The logs come first: what the job wrote into its output cannot push them out. */
	struct seal_part parts[4] = {
		{ k->dir, OUT_LOG_FILE, ".zr/" OUT_LOG_FILE, true },
		{ k->dir, ERR_LOG_FILE, ".zr/" ERR_LOG_FILE, true },
	};
	size_t n = 2;
	auto_close int out = -1;
	struct seal_spec spec = {
		.name = "result",
		.parts = parts,
		.out_name = k->spec->attempt_id,
		.replace = true,
	};
	uint64_t max = k->spec->limits.output_bytes, logs = k->log[0].size + k->log[1].size;
	/* The account that collects results must get through to them, and to nothing else. */
	int r = fd_make_dir(k->spec->sealed_dir, 0755, &out, e);

	if (r < 0)
		return r;
	if (output)
		parts[n++] = (struct seal_part){ k->tree, k->output, "", true };
	/* What was judged, apart from what the judge wrote. */
	if (!str_eq(k->output, "output"))
		parts[n++] = (struct seal_part){ k->tree, "output", "run", true };
	spec.n_parts = n;
	spec.out_dirfd = out;
	if (max) {
		spec.limits.bytes = max + logs;
		spec.limits.file_bytes = max > k->spec->log_cap ? max : k->spec->log_cap + 64;
	}
	return seal_tree(&spec, ret, e);
}

static void judge_sealed(struct keeper *k, const struct seal_result *s)
{
	k->result.root_hash = strdup(s->root_text);
	k->result.result_bytes = s->pack_bytes;
	if (s->truncated[0])
		verdict(k, BOX_OUTPUT_LIMIT,
			"the output folder is over its limit (%s); what fitted was kept",
			s->truncated);
}

/* The output folder can be removed only if it is empty, and is of no use then. */
static bool nothing_to_seal(const struct keeper *k, bool output)
{
	return k->log[0].size == 0 && k->log[1].size == 0 && str_eq(k->output, "output") &&
	       (!output || (k->untouched && k->tree == k->dir) ||
		unlinkat(k->tree, "output", AT_REMOVEDIR) == 0);
}

static void collect(struct keeper *k)
{
	bool output = output_is_folder(k);
	struct seal_result s;
	struct err e = { 0 };

	if (!output)
		verdict(k, BOX_EXIT, "the output folder is no folder any more");
	if (nothing_to_seal(k, output))
		k->result.root_hash = strdup(MANIFEST_EMPTY_RESULT);
	else if (FAILPOINT_FAILS("keeper.seal"))
		verdict(k, BOX_INFRASTRUCTURE, "cannot seal the result: %s", strerror(errno));
	else if (seal(k, output, &s, &e) < 0)
		verdict(k, BOX_INFRASTRUCTURE, "cannot seal the result: %s", e.msg);
	else
		judge_sealed(k, &s);
}

static void finish_logs(struct keeper *k)
{
	struct box_result *r = &k->result;
	struct logfile *out = &k->log[0], *err = &k->log[1];

	logfile_finish(out);
	logfile_finish(err);
	r->out_bytes = out->total;
	r->err_bytes = err->total;
	r->log_truncated = logfile_truncated(out) || logfile_truncated(err);
	if (out->error || err->error)
		verdict(k, BOX_INFRASTRUCTURE, "cannot keep the log: %s",
			strerror(out->error ? out->error : err->error));
	logfile_done(out);
	logfile_done(err);
	/* The tail of a long log has just been added. */
	if (out->size || err->size)
		control_tell(k, TELL_LOG);
}

static void conclude(struct keeper *k)
{
	struct box_result *r = &k->result;
	struct err e = { 0 };

	r->reason = k->decided ? k->reason : BOX_OK;
	if (k->decided && k->detail[0])
		r->detail = strdup(k->detail);
	if (r->reason != BOX_OK) {
		json_decref(r->scores);
		r->scores = NULL;
	}
	r->violations = violations_json(k);
	r->conditions = timing_conditions(k);
	r->isolation = json_incref(k->isolation);
	r->finished_wall_usec = time_wall_usec();
	/* Without this record the box counts as lost: that is then also the truth. */
	FAILPOINT("keeper.sealed");
	(void)!journal_add_done(k->journal, r, &e);
	FAILPOINT("keeper.done");
}

/* True: nothing is left of the job. */
static bool remove_folders(const struct keeper *k)
{
	bool gone = unlinkat(k->dir, "jail", AT_REMOVEDIR) == 0 || errno == ENOENT;

	for (size_t i = 0; i < ARRAY_LEN(job_folders) && !k->untouched; i++)
		gone &= unlinkat(k->dir, job_folders[i], AT_REMOVEDIR) == 0 || errno == ENOENT;
	return gone;
}

void finish_cleaning(struct keeper *k)
{
	if (!k->clean)
		return;
	(void)!fd_rmtree(k->dir, "jail", NULL);
	for (size_t i = 0; i < ARRAY_LEN(job_folders); i++)
		(void)!fd_rmtree(k->dir, job_folders[i], NULL);
}

bool folders_are_untouched(const struct keeper *k)
{
	if (k->spec->sandbox.level == ISOLATION_SANDBOX)
		return true;
	for (size_t i = 0; i < ARRAY_LEN(job_folders); i++)
		if (!spare_is_pristine(k->dir, job_folders[i]))
			return false;
	return true;
}

void finish(struct keeper *k)
{
	finish_logs(k);
	gpus_judge_memory(k);
	if (!k->stuck) {
		judge_scores(k);
		/* A job of which nothing was executed has nothing to seal. */
		if (k->result.started_wall_usec)
			collect(k);
	}
	conclude(k);
	/* First: what is in a jail's files is on its group's account. */
	jail_end(k);
	engine_end(k);
	if (k->stuck)
		return;
	cgroup_remove(&k->cg, NULL);
	/* What was sealed is not needed twice, and what was not is of no use to anybody. */
	k->clean = !remove_folders(k);
	close(k->journal);
	k->journal = -1;
}

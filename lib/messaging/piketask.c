/* SPDX-License-Identifier: MIT */
#include "messaging/piketask.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/json.h"
#include "messaging/channel.h"
#include "messaging/pikefile.h"

#define WORD_MAX   64
#define ID_LEN_MAX 65536
#define RECORD_MAX (1u << 20)
#define RESULT_MAX (64u << 20)
#define LOG_MAX    (64u << 20)
#define NOT_LOADED "{\"loaded\": false}"

static const char *const endings[PIKE_STATE_N] = { ".req", ".run", ".answered" };

void piketask_free(struct piketask *t)
{
	if (!t)
		return;
	free(t->id);
	free(t->level);
	free(t->task);
	free(t->mode);
	free(t->stem);
	free(t->output);
	free(t);
}

/* --- folders ------------------------------------------------------------------------------- */

static int open_one(const char *base, const char *name, int *fd, struct err *e)
{
	auto_free char *path = NULL;
	int r;

	if (str_fmt(&path, "%s/%s", base, name) < 0)
		return err_nomem(e);
	r = pikefile_open_dir(path, fd, e);
	return r < 0 ? r : 0;
}

int pikedirs_check(struct pikedirs *d, struct err *e)
{
	const struct {
		const char *name;
		int *fd;
	} parts[] = {
		{ "", &d->scratch_fd },
		{ "code", &d->code },
		{ "eval_output", &d->eval_output },
		{ "tmp", &d->tmp },
		{ "torch_ext", &d->torch_ext },
		{ "triton_cache", &d->triton_cache },
		{ "gpu_locks", &d->gpu_locks },
	};
	int r = 0;

	for (size_t i = 0; i < ARRAY_LEN(parts) && r == 0; i++)
		r = open_one(d->scratch, parts[i].name, parts[i].fd, e);
	return r;
}

int pikedirs_check_output(struct pikedirs *d, struct err *e)
{
	return open_one(d->scratch, "eval_output", &d->eval_output, e);
}

int pikedirs_open(const char *scratch, const char *state_dir, struct pikedirs *ret, struct err *e)
{
	int r;

	*ret = PIKEDIRS_NONE;
	ret->scratch = scratch;
	ret->state_dir = state_dir;
	r = pikedirs_check(ret, e);
	if (r == 0)
		r = open_one(state_dir, "pike/tasks", &ret->tasks, e);
	if (r < 0)
		pikedirs_done(ret);
	return r;
}

void pikedirs_done(struct pikedirs *d)
{
	int *const fds[] = { &d->tasks, &d->code,      &d->eval_output,  &d->scratch_fd,
			     &d->tmp,   &d->torch_ext, &d->triton_cache, &d->gpu_locks };

	for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
}

/* --- what was asked ------------------------------------------------------------------------ */

/* A text or a number, as text: it becomes a part of file names and a word of a command line. */
static int read_word(struct pj message, const char *key, const char *otherwise, char **ret,
		     struct err *e)
{
	auto_buf struct buf b = { 0 };
	struct pj v = { 0 };

	if (!pj_member(message, key, &v) || pj_type(v) == PJ_NULL) {
		*ret = otherwise ? strdup(otherwise) : NULL;
		return *ret ? 0 : err_input(e, "'%s' is missing", key);
	}
	if (pj_type(v) != PJ_STRING && pj_type(v) != PJ_NUMBER)
		return err_input(e, "'%s' is neither a text nor a number", key);
	if ((pj_type(v) == PJ_STRING ? pj_text(v, &b) : buf_add(&b, v.p, v.n)) < 0)
		return err_nomem(e);
	if (!b.data || !b.len || b.len > WORD_MAX || memchr(b.data, '/', b.len))
		return err_input(e, "'%s' must have 1 to %d bytes and no '/'", key, WORD_MAX);
	for (size_t i = 0; i < b.len; i++)
		if ((unsigned char)b.data[i] < 0x20 || b.data[i] == 0x7f)
			return err_input(e, "'%s' has a control character", key);
	*ret = take_ptr(b.data);
	return 0;
}

static int read_code(struct pj message, struct buf *code, struct err *e)
{
	struct pj v = { 0 };

	if (!pj_member(message, "code", &v))
		return err_input(e, "'code' is missing");
	if (pj_type(v) != PJ_STRING)
		return err_input(e, "'code' is not a text");
	return pj_text(v, code) < 0 ? err_nomem(e) : 0;
}

int piketask_read(struct pj message, const char *stem, uint64_t asked_wall_usec,
		  struct piketask **ret, struct buf *code, struct err *e)
{
	auto_obj(piketask) t = calloc(1, sizeof(*t));
	struct pj id = { 0 };
	int r;

	if (!t)
		return err_nomem(e);
	r = read_code(message, code, e);
	if (r == 0)
		r = read_word(message, "level", NULL, &t->level, e);
	if (r == 0)
		r = read_word(message, "task", NULL, &t->task, e);
	if (r == 0)
		r = read_word(message, "mode", "eager", &t->mode, e);
	if (r < 0)
		return r;
	if (!pj_member(message, "id", &id) || !id.p)
		return err_input(e, "'id' is missing");
	if (id.n > ID_LEN_MAX)
		return err_input(e, "'id' has more than %d bytes", ID_LEN_MAX);
	t->id = strndup(id.p, id.n);
	t->stem = strdup(stem);
	if (!t->id || !t->stem)
		return err_nomem(e);
	id_uuid7(t->evaluation);
	id_uuid7(t->request);
	id_uuid7(t->out);
	t->asked_wall_usec = asked_wall_usec;
	*ret = take_ptr(t);
	return 0;
}

/* --- its files ----------------------------------------------------------------------------- */

static int file_name(const struct piketask *t, const char *ending, char **ret)
{
	return str_fmt(ret, "task_%s_%s_%llu%s", t->level, t->task, (unsigned long long)t->n,
		       ending) < 0
		       ? -ENOMEM
		       : 0;
}

static void record_name(char out[80], const struct piketask *t, enum piketask_state s)
{
	snprintf(out, 80, "%s%s", t->evaluation, endings[s]);
}

static int make_folders(const struct pikedirs *d, const struct piketask *t, struct err *e)
{
	const int parents[] = { d->tmp, d->torch_ext, d->triton_cache };
	char name[24], locks[48];

	snprintf(name, sizeof(name), "%llu", (unsigned long long)t->n);
	for (size_t i = 0; i < ARRAY_LEN(parents); i++)
		if (mkdirat(parents[i], name, 0775) < 0 && errno != EEXIST)
			return err_sys(e, "make a folder of task %s", name);
	snprintf(locks, sizeof(locks), "%s/" PIKE_OWN_LOCKS, name);
	if (d->own_locks && mkdirat(d->tmp, locks, 0775) < 0 && errno != EEXIST)
		return err_sys(e, "make the folder for locks of task %s", name);
	return 0;
}

static int write_record(const struct pikedirs *d, const struct piketask *t, struct err *e)
{
	const char *output = str_utf8_valid(t->output, strlen(t->output)) ? t->output : NULL;
	json_auto_t *o =
		json_pack("{s:I, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s*, s:I}", "n",
			  (json_int_t)t->n, "id", t->id, "level", t->level, "task", t->task, "mode",
			  t->mode, "request", t->request, "out", t->out, "stem", t->stem, "output",
			  output, "asked", (json_int_t)t->asked_wall_usec);
	auto_free char *text = o ? js_text(o) : NULL;
	char name[80];

	if (!text)
		return err_input(e, "a name in it is not UTF-8");
	record_name(name, t, t->state);
	return fd_write_file(d->tasks, name, text, strlen(text), 0600, false, e);
}

static void forget_files(const struct pikedirs *d, const struct piketask *t, const char *number)
{
	auto_free char *code = NULL, *output = NULL;

	if (file_name(t, ".py", &code) == 0)
		(void)!fd_rmtree(d->code, code, NULL);
	if (file_name(t, ".json", &output) == 0)
		(void)!fd_rmtree(d->eval_output, output, NULL);
	(void)!fd_rmtree(d->tmp, number, NULL);
}

void piketask_forget(const struct pikedirs *d, const struct piketask *t, bool keep)
{
	char name[80];

	snprintf(name, sizeof(name), "%llu", (unsigned long long)t->n);
	if (!keep)
		forget_files(d, t, name);
	(void)!fd_rmtree(d->torch_ext, name, NULL);
	(void)!fd_rmtree(d->triton_cache, name, NULL);
	record_name(name, t, t->state);
	(void)unlinkat(d->tasks, name, 0);
}

int piketask_accept(const struct pikedirs *d, const struct piketask *t, const struct buf *code,
		    struct err *e)
{
	auto_free char *name = NULL;
	int r = file_name(t, ".py", &name) < 0 ? err_nomem(e) : 0;

	/* A task that ran before may have put something there. */
	piketask_forget(d, t, false);
	if (r == 0)
		r = make_folders(d, t, e);
	if (r == 0)
		r = fd_write_file(d->code, name, code->data ? code->data : "", code->len, 0664,
				  false, e);
	return r < 0 ? r : write_record(d, t, e);
}

int piketask_set_state(const struct pikedirs *d, struct piketask *t, enum piketask_state state,
		       struct err *e)
{
	char from[80], to[80];

	record_name(from, t, t->state);
	record_name(to, t, state);
	if (renameat(d->tasks, from, d->tasks, to) < 0)
		return err_sys(e, "rename record %s", from);
	t->state = state;
	return 0;
}

static int copy_text(const json_t *o, const char *key, char **ret, struct err *e)
{
	const char *s = NULL;
	int r = js_str(o, key, RECORD_MAX, &s, e);

	if (r < 0)
		return r;
	*ret = strdup(s);
	return *ret ? 0 : err_nomem(e);
}

static int copy_uuid(const json_t *o, const char *key, char ret[UUID_LEN + 1], struct err *e)
{
	const char *s = NULL;
	int r = js_str(o, key, UUID_LEN + 1, &s, e);

	if (r == 0)
		snprintf(ret, UUID_LEN + 1, "%s", s);
	return r;
}

static int read_record(const json_t *o, struct piketask *t, struct err *e)
{
	int64_t n = 0, asked = 0;
	int r = js_int(o, "n", 0, INT64_MAX, &n, e);

	if (r == 0)
		r = js_int(o, "asked", 0, INT64_MAX, &asked, e);
	if (r == 0)
		r = copy_text(o, "id", &t->id, e);
	if (r == 0)
		r = copy_text(o, "level", &t->level, e);
	if (r == 0)
		r = copy_text(o, "task", &t->task, e);
	if (r == 0)
		r = copy_text(o, "mode", &t->mode, e);
	if (r == 0)
		r = copy_text(o, "stem", &t->stem, e);
	if (r == 0 && json_object_get(o, "output"))
		r = copy_text(o, "output", &t->output, e);
	if (r == 0)
		r = copy_uuid(o, "request", t->request, e);
	if (r == 0)
		r = copy_uuid(o, "out", t->out, e);
	t->n = (uint64_t)n;
	t->asked_wall_usec = (uint64_t)asked;
	return r;
}

int piketask_load(const struct pikedirs *d, const char *name, struct piketask **ret, struct err *e)
{
	auto_obj(piketask) t = calloc(1, sizeof(*t));
	json_auto_t *o = NULL;
	int r;

	if (!t)
		return err_nomem(e);
	while (t->state < PIKE_STATE_N && !str_ends(name, endings[t->state]))
		t->state++;
	if (t->state == PIKE_STATE_N)
		return err_input(e, "%s is no record of a task", STR_ESC(name));
	snprintf(t->evaluation, sizeof(t->evaluation), "%.*s", UUID_LEN, name);
	r = js_read_file(d->tasks, name, RECORD_MAX, &o, e);
	if (r == 0)
		r = read_record(o, t, e);
	if (r < 0)
		return err_wrap(e, "%s", STR_ESC(name));
	*ret = take_ptr(t);
	return 0;
}

bool piketask_owns(const struct piketask *t, const char *file)
{
	auto_free char *code = NULL, *output = NULL;
	char number[24];

	snprintf(number, sizeof(number), "%llu", (unsigned long long)t->n);
	return str_eq(file, number) || (file_name(t, ".py", &code) == 0 && str_eq(file, code)) ||
	       (file_name(t, ".json", &output) == 0 && str_eq(file, output));
}

/* --- the answer ---------------------------------------------------------------------------- */

static int add_numbers(struct pj array, struct buf *b)
{
	const char *comma = "";
	struct pj item;
	size_t at = 0;
	int r = buf_str(b, "[");

	while (r == 0 && pj_item(array, &at, &item)) {
		double v;

		if (!pj_number(item, &v))
			return -EINVAL;
		r = buf_str(b, comma);
		if (r == 0)
			r = pj_add_number(b, v);
		comma = ", ";
	}
	return r < 0 ? r : buf_str(b, "]");
}

/* One of the three forms that clients can take, and no other. */
static int add_loaded(struct pj llm, struct buf *b)
{
	struct pj loaded = { 0 }, correct = { 0 }, diff = { 0 }, runtime = { 0 };
	double v = 0;
	bool right;
	int r;

	if (!pj_member(llm, "loaded", &loaded) || pj_type(loaded) != PJ_TRUE ||
	    !pj_member(llm, "correct", &correct) ||
	    (pj_type(correct) != PJ_TRUE && pj_type(correct) != PJ_FALSE) ||
	    !pj_member(llm, "max_diff", &diff) || pj_type(diff) != PJ_ARRAY)
		return -EINVAL;
	right = pj_type(correct) == PJ_TRUE;
	if (right && (!pj_member(llm, "runtime", &runtime) || !pj_number(runtime, &v)))
		return -EINVAL;
	r = buf_fmt(b,
		    "{\"loaded\": true, \"correct\": %s, \"max_diff\": ", right ? "true" : "false");
	if (r == 0)
		r = add_numbers(diff, b);
	if (r == 0 && right)
		r = buf_str(b, ", \"runtime\": ");
	if (r == 0 && right)
		r = pj_add_number(b, v);
	return r < 0 ? r : buf_str(b, "}");
}

int piketask_results(const void *data, size_t n, struct buf *b)
{
	auto_buf struct buf loaded = { 0 };
	struct pj whole = { 0 }, llm = { 0 };
	int r = pj_check(data, n, &whole, NULL);

	if (r == 0)
		r = pj_member(whole, "llm", &llm) ? add_loaded(llm, &loaded) : -EINVAL;
	if (r == -ENOMEM)
		return r;
	return r < 0 ? buf_str(b, NOT_LOADED) : buf_add(b, loaded.data, loaded.len);
}

/* A log of the job, as text; empty: `empty`. */
static int add_log(const struct pikedirs *d, const char *attempt_id, const char *name,
		   const char *empty, struct buf *b, struct err *e)
{
	auto_buf struct buf log = { 0 };
	auto_free char *path = NULL;
	int r;

	if (str_fmt(&path, "%s/spool/boxes/%s/%s", d->state_dir, attempt_id, name) < 0)
		return err_nomem(e);
	r = fd_read_file(AT_FDCWD, path, LOG_MAX, &log, e);
	if (r < 0 && r != -ENOENT && r != -EFBIG)
		return r;
	r = log.len ? pj_add_text(b, log.data, log.len) : buf_str(b, empty);
	return r < 0 ? err_nomem(e) : 0;
}

static int add_output(const struct pikedirs *d, const struct piketask *t, struct buf *b,
		      struct err *e)
{
	auto_buf struct buf out = { 0 };
	auto_free char *name = NULL;
	int r = file_name(t, ".json", &name) < 0
			? err_nomem(e)
			: fd_read_file(d->eval_output, name, RESULT_MAX, &out, e);

	/* Whatever the child made of it: there is no result, then. */
	if (r == -ENOMEM || r == -EIO)
		return r;
	return piketask_results(r < 0 || !out.data ? "" : out.data, r < 0 ? 0 : out.len, b) < 0
		       ? err_nomem(e)
		       : 0;
}

static int begin_answer(struct buf *b, const char *id, size_t n)
{
	int r = buf_str(b, "{\"id\": ");

	if (r == 0)
		r = buf_add(b, id, n);
	return r < 0 ? r : buf_str(b, ", \"type\": \"result\", \"results\": {\"stdout\": ");
}

static int add_nothing(struct buf *b, const char *why, bool timed_out)
{
	int r = buf_str(b, "null, \"stderr\": ");

	if (r == 0)
		r = why ? pj_add_text(b, why, strlen(why)) : buf_str(b, "null");
	return r < 0 ? r
		     : buf_fmt(b, ", \"eval_results\": " NOT_LOADED ", \"timed_out\": %s}}",
			       timed_out ? "true" : "false");
}

int piketask_refusal(struct pj id, const char *why, struct buf *b)
{
	int r = begin_answer(b, id.p, id.n);

	return r < 0 ? r : add_nothing(b, why, false);
}

static bool is_ours(const char *reason)
{
	static const char *const ours[] = { "setup", "infrastructure", "canceled", "lost",
					    "poison" };

	for (size_t i = 0; i < ARRAY_LEN(ours); i++)
		if (str_eq(reason, ours[i]))
			return true;
	return false;
}

int piketask_answer(const struct pikedirs *d, const struct piketask *t, const struct pikeend *end,
		    struct buf *b, struct err *e)
{
	bool timed_out = str_eq(end->reason, "wall-limit");
	int r = begin_answer(b, t->id, strlen(t->id));

	if (r == 0 && (timed_out || is_ours(end->reason)))
		return add_nothing(b, timed_out ? NULL : end->detail, timed_out) < 0 ? err_nomem(e)
										     : 0;
	if (r < 0)
		return err_nomem(e);
	r = add_log(d, end->attempt_id, "out.log", "\"\"", b, e);
	if (r == 0 && buf_str(b, ", \"stderr\": ") < 0)
		r = err_nomem(e);
	if (r == 0)
		r = add_log(d, end->attempt_id, "err.log", "null", b, e);
	if (r == 0 && buf_str(b, ", \"eval_results\": ") < 0)
		r = err_nomem(e);
	if (r == 0)
		r = add_output(d, t, b, e);
	if (r == 0 && buf_str(b, ", \"timed_out\": false}}") < 0)
		r = err_nomem(e);
	return r;
}

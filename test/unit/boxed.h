/* SPDX-License-Identifier: MIT */
/* Boxes for unit tests: the worker's side, with the real keeper. Both are worth little without the other. */
#ifndef ZR_UNIT_BOXED_H
#define ZR_UNIT_BOXED_H

#include <dirent.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/id.h"
#include "base/str.h"
#include "base/time.h"
#include "exec/box.h"
#include "exec/journal.h"

#include "unit.h"

static char dir[32];
static char *keeper;
static struct cgroup_host groups;
static uint64_t lease; /* of the boxes that are made */

static inline void setup(void)
{
	const char *obj = getenv("ZR_TEST_OBJ");
	struct err e = { 0 };

	lease = 0;
	unit_mkdir(dir);
	ck_assert_ptr_nonnull(obj);
	ck_assert_int_ge(str_fmt(&keeper, "%s/bin/zr-box", obj), 0);
	if (access(keeper, X_OK) < 0)
		ck_abort_msg("%s is not built", keeper);
	ck_ok(cgroup_probe(NULL, &groups, &e), e);
}

static inline void teardown(void)
{
	free(keeper);
	cgroup_host_done(&groups);
	unit_rmdir(dir);
}

/* --- a box of one shell command --------------------------------------------------------------- */

static char *path(const char *name)
{
	char *p;

	ck_assert_int_ge(str_fmt(&p, "%s/%s", dir, name), 0);
	return p;
}

static inline struct box_spec *make_spec(const char *command)
{
	struct box_spec *s = calloc(1, sizeof(*s));
	char id[UUID_LEN + 1];
	struct err e = { 0 };

	ck_assert_ptr_nonnull(s);
	s->evaluation = strdup("42");
	s->attempt = 1;
	s->attempt_id = strdup(id_uuid7(id));
	s->evaluator = strdup("ev");
	s->submission = strdup(dir);
	s->evaluator_dir = strdup(dir);
	s->sealed_dir = path("sealed");
	s->log_cap = 4096;
	s->term_grace_usec = 100000;
	s->lease_usec = lease;
	s->limits.wall_usec[PHASE_RUN] = 20 * USEC_PER_SEC;
	ck_assert_int_ge(strv_add(&s->argv[PHASE_RUN], "/bin/sh"), 0);
	ck_assert_int_ge(strv_add(&s->argv[PHASE_RUN], "-c"), 0);
	ck_assert_int_ge(strv_add(&s->argv[PHASE_RUN], command), 0);
	ck_ok(cgroup_host_copy(&groups, &s->cgroup, &e), e);
	return s;
}

static inline struct box *prepare(const char *command)
{
	auto_spec s = make_spec(command);
	struct box *b = NULL;
	struct err e = { 0 };

	ck_ok(box_prepare(dir, s, &b, &e), e);
	ck_assert_int_eq(box_state(b), BOX_NEW);
	return b;
}

/* --- what the callbacks saw --------------------------------------------------------------------- */

struct seen {
	struct loop *loop;
	struct keepers *keepers;
	char order[64]; /* one letter per call */
	double done;
	uint64_t out;
	struct box_result result;
	bool release; /* in on_end */
	bool stay;    /* the loop goes on after it */
	bool ended;
	struct box *cancel_at_start, *kill_at_log;
};

static inline void note(struct seen *s, char c)
{
	size_t n = strlen(s->order);

	if (n + 1 < sizeof(s->order) && (n == 0 || s->order[n - 1] != c))
		s->order[n] = c;
}

static inline void on_started(void *user, struct box *b, uint64_t wall_usec,
			      const json_t *isolation)
{
	struct seen *s = user;
	struct err e = { 0 };

	note(s, 's');
	ck_assert_uint_gt(wall_usec, 0);
	ck_assert_ptr_nonnull(json_object_get(isolation, "level"));
	if (s->cancel_at_start == b)
		ck_ok(box_cancel(b, &e), e);
}

static inline void on_phase(void *user, unused_arg struct box *b, enum phase phase)
{
	ck_assert_int_eq(phase, PHASE_RUN);
	note(user, 'p');
}

static inline void on_progress(void *user, unused_arg struct box *b, unused_arg enum phase phase,
			       const struct progress *p)
{
	struct seen *s = user;

	note(s, 'g');
	s->done = p->done;
}

static inline void on_log(void *user, struct box *b, enum box_stream stream, uint64_t size)
{
	struct seen *s = user;
	struct err e = { 0 };

	note(s, 'l');
	if (stream == BOX_OUT)
		s->out = size;
	if (s->kill_at_log == b) {
		ck_ok(box_cancel(b, &e), e);
		ck_ok(box_kill(b, &e), e);
	}
}

static inline void on_end(void *user, struct box *b, const struct box_result *r)
{
	struct seen *s = user;
	struct err e = { 0 };
	json_t *o = box_result_json(r);

	note(s, 'e');
	ck_assert_int_eq(box_state(b), BOX_ENDED);
	ck_ok(box_result_from_json(o, &s->result, &e), e);
	json_decref(o);
	if (s->release)
		ck_ok(box_release(b, true, &e), e);
	s->ended = true;
	if (!s->stay)
		loop_exit(s->loop, 0);
}

static const struct box_calls calls = {
	.on_started = on_started,
	.on_phase = on_phase,
	.on_progress = on_progress,
	.on_log = on_log,
	.on_end = on_end,
};

static inline void seen_init(struct seen *s)
{
	struct err e = { 0 };

	*s = (struct seen){ .loop = NULL };
	box_result_init(&s->result);
	ck_ok(loop_new(&s->loop, &e), e);
	ck_ok(keepers_new(s->loop, keeper, &s->keepers, &e), e);
}

static inline void seen_done(struct seen *s)
{
	keepers_free(s->keepers);
	loop_free(s->loop);
	box_result_done(&s->result);
}

static inline void run(struct seen *s)
{
	struct err e = { 0 };

	ck_ok(loop_run(s->loop, &e), e);
}

static inline bool exists(const char *name)
{
	auto_free char *p = path(name);

	return access(p, F_OK) == 0;
}

static inline void wait_for(const char *name)
{
	for (int i = 0; i < 2000 && !exists(name); i++)
		usleep(2000);
	ck_assert(exists(name));
}

static inline pid_t read_pid(const char *name)
{
	auto_buf struct buf b = { 0 };
	auto_free char *p = path(name);
	struct err e = { 0 };

	wait_for(name);
	for (int i = 0; i < 500 && (!b.len || b.data[b.len - 1] != '\n'); i++, usleep(2000)) {
		b.len = 0;
		ck_ok(fd_read_file(AT_FDCWD, p, 64, &b, &e), e);
	}
	return (pid_t)atol(b.data);
}

/* Zombies count as gone: who reaps them is not our business here. */
static inline bool alive(pid_t pid)
{
	auto_buf struct buf b = { 0 };
	char name[40], *p;

	snprintf(name, sizeof(name), "/proc/%d/stat", (int)pid);
	if (fd_read_file(AT_FDCWD, name, 4096, &b, NULL) < 0)
		return false;
	p = strrchr(b.data, ')');
	return p && p[2] != 'Z' && p[2] != 'X';
}

/* Idle keepers end when their pool does; nobody is left to reap them but us. */
static inline void keepers_gone(struct seen *s)
{
	keepers_free(s->keepers);
	s->keepers = NULL;
	while (wait(NULL) > 0)
		;
	ck_assert_int_eq(errno, ECHILD);
}

static inline struct box *start_and_abandon(const char *command)
{
	struct box *b = prepare(command);
	auto_free char *id = strdup(box_spec(b)->attempt_id);
	struct err e = { 0 };
	struct seen s;

	seen_init(&s);
	ck_ok(box_start(b, s.loop, s.keepers, &calls, &s, &e), e);
	box_free(b);
	seen_done(&s);
	ck_ok(box_open(dir, id, &b, &e), e);
	return b;
}

static inline pid_t run_one(struct seen *s, const char *command)
{
	struct box *b = prepare(command);
	struct err e = { 0 };
	auto_buf struct buf pid = { 0 };

	s->release = s->stay = true;
	s->ended = false;
	box_result_done(&s->result);
	ck_ok(box_start(b, s->loop, s->keepers, &calls, s, &e), e);
	while (!s->ended)
		ck_ok(loop_turn(s->loop, USEC_PER_SEC, &e), e);
	ck_ok(fd_read_file(AT_FDCWD, "/proc/thread-self/children", 4096, &pid, &e), e);
	return (pid_t)atol(pid.data);
}

#endif

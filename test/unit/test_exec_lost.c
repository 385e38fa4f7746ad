/* SPDX-License-Identifier: MIT */
/* Boxes whose keeper is killed, whose host is lost, whose lease is over. */
#include "boxed.h"

#include <sys/wait.h>

#include "exec/leftover.h"

static const char *const long_job =
	"trap '' TERM; setsid sh -c 'echo $$ >$ZR_SUBMISSION/child; exec sleep 1000' & "
	"echo $$ >$ZR_SUBMISSION/leader; sleep 1000";

/* Kills the one child we have: the keeper. */
static void kill_keeper(void)
{
	auto_buf struct buf b = { 0 };
	struct err e = { 0 };

	ck_ok(fd_read_file(AT_FDCWD, "/proc/thread-self/children", 64, &b, &e), e);
	ck_assert_int_eq(kill((pid_t)atol(b.data), SIGKILL), 0);
}

/* What a keeper leaves that is killed while it seals, or right after. */
static void seal_by_hand(const struct box_spec *spec, bool whole)
{
	auto_free char *folder = NULL, *inner = NULL;
	struct err e = { 0 };

	ck_assert_int_ge(str_fmt(&folder, whole ? "%s/%s" : "%s/.%s.tmp", spec->sealed_dir,
				 spec->attempt_id),
			 0);
	ck_assert_int_ge(str_fmt(&inner, "%s/inner", folder), 0);
	ck_ok(fd_mkdirs(inner, 0755, &e), e);
}

static void check_lost(struct seen *s)
{
	ck_assert_int_eq(s->result.reason, BOX_LOST);
	ck_assert(s->result.keeper_died);
	ck_assert_ptr_null(s->result.root_hash);
	ck_assert_uint_gt(s->result.started_wall_usec, 0);
	ck_assert(!alive(read_pid("leader")));
	ck_assert(!alive(read_pid("child")));
}

/* With a control group and without one. */
START_TEST(keeper_killed_under_us)
{
	struct err e = { 0 };
	struct seen s;
	struct box *b;

	if (_i)
		cgroup_host_done(&groups);
	seen_init(&s);
	b = prepare(long_job);
	ck_ok(box_start(b, s.loop, s.keepers, &calls, &s, &e), e);
	(void)read_pid("leader");
	(void)read_pid("child");
	seal_by_hand(box_spec(b), true);
	seal_by_hand(box_spec(b), false);
	kill_keeper();
	run(&s);
	check_lost(&s);
	ck_assert_msg(rmdir(box_spec(b)->sealed_dir) == 0, "something sealed is left");
	ck_ok(box_release(b, false, &e), e);
	seen_done(&s);
}
END_TEST

START_TEST(keeper_killed_before_adoption)
{
	struct box *b = start_and_abandon(long_job);
	auto_free char *id = strdup(box_spec(b)->attempt_id);
	struct err e = { 0 };
	struct seen s;

	seen_init(&s);
	(void)read_pid("leader");
	(void)read_pid("child");
	kill_keeper();
	wait(NULL);
	box_free(b);
	ck_ok(box_open(dir, id, &b, &e), e);
	ck_assert_int_eq(box_state(b), BOX_DEAD);
	ck_ok(box_attach(b, s.loop, &calls, &s, &e), e);
	run(&s);
	check_lost(&s);
	box_free(b);
	ck_ok(box_open(dir, id, &b, &e), e);
	ck_assert_int_eq(box_state(b), BOX_ENDED);
	box_free(b);
	seen_done(&s);
}
END_TEST

/* As on a full disk: its journal is not what it should be. */
START_TEST(keeper_that_cannot_begin)
{
	auto_spec spec = make_spec("exit 0");
	auto_close int folder = -1, journal = -1;
	auto_free char *name = NULL;
	struct err e = { 0 };
	struct box *b;
	struct seen s;

	seen_init(&s);
	ck_ok(box_prepare(dir, spec, &b, &e), e);
	ck_assert_int_ge(str_fmt(&name, "%s/spool/boxes/%s", dir, spec->attempt_id), 0);
	ck_ok(fd_open_dir(AT_FDCWD, name, &folder, &e), e);
	ck_ok(journal_open(folder, &journal, &e), e);
	ck_ok(journal_add_begun(journal, &e), e);
	ck_ok(box_start(b, s.loop, s.keepers, &calls, &s, &e), e);
	run(&s);
	ck_assert_int_eq(s.result.reason, BOX_LOST);
	ck_ok(box_release(b, false, &e), e);
	seen_done(&s);
}
END_TEST

START_TEST(group_of_an_ended_box)
{
	auto_spec spec = make_spec("exit 0");
	auto_free char *group = NULL;
	struct limits none = { 0 };
	struct err e = { 0 };
	struct cgroup_box cg;
	struct box *b;
	struct seen s;

	if (!groups.v2)
		return;
	seen_init(&s);
	ck_ok(box_prepare(dir, spec, &b, &e), e);
	ck_ok(cgroup_make(&groups, spec->attempt_id, &none, &cg, &e), e);
	cgroup_close(&cg);
	ck_assert_int_ge(str_fmt(&group, "%s/zr-%s", groups.v2, spec->attempt_id), 0);
	ck_assert_int_eq(access(group, F_OK), 0);
	ck_ok(box_conclude(b, BOX_EXIT, "its keeper was killed then", &e), e);
	ck_ok(box_attach(b, s.loop, &calls, &s, &e), e);
	run(&s);
	ck_assert_int_ne(access(group, F_OK), 0);
	ck_ok(box_release(b, false, &e), e);
	seen_done(&s);
}
END_TEST

/* What others at work on this host have in the real one is none of a test's business. */
static void groups_of_our_own(void)
{
	struct cgroup_host h = { .v2 = NULL };

	ck_assert_int_ge(str_fmt(&h.v2, "%s/zr-unit-%d", groups.v2, (int)getpid()), 0);
	ck_assert_int_eq(mkdir(h.v2, 0755), 0);
	cgroup_host_done(&groups);
	groups = h;
}

static void make_group(const char *id, struct cgroup_box *ret)
{
	struct limits l = { .memory_bytes = 64u << 20, .pids = 10 };
	struct err e = { 0 };

	ck_ok(cgroup_make(&groups, id, &l, ret, &e), e);
}

static bool has_group(const char *id)
{
	auto_free char *path = NULL;

	ck_assert_int_ge(str_fmt(&path, "%s/zr-%s", groups.v2, id), 0);
	return access(path, F_OK) == 0;
}

START_TEST(groups_of_nobody)
{
	char nobodys[UUID_LEN + 1], held[UUID_LEN + 1], busy[UUID_LEN + 1], of_a_box[UUID_LEN + 1];
	char *all[] = { nobodys, held, busy, of_a_box };
	auto_free char *box = NULL;
	auto_close int procs = -1;
	struct cgroup_box cg[4];
	struct err e = { 0 };
	int go[2];
	pid_t pid;

	if (!groups.v2)
		return;
	groups_of_our_own();
	ck_assert_int_eq(pipe(go), 0);
	pid = fork();
	if (pid == 0) {
		char c;

		_exit(close(go[1]) < 0 || read(go[0], &c, 1) != 0);
	}
	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		make_group(id_uuid7(all[i]), &cg[i]);
	procs = openat(cg[2].v2, "cgroup.procs", O_WRONLY | O_CLOEXEC);
	ck_assert_int_gt(dprintf(procs, "%d", (int)pid), 0);
	ck_assert_int_ge(str_fmt(&box, "%s/spool/boxes/%s", dir, of_a_box), 0);
	ck_ok(fd_mkdirs(box, 0755, &e), e);
	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		if (all[i] != held)
			cgroup_close(&cg[i]);

	leftover_sweep(&groups, dir);
	ck_assert(!has_group(nobodys) && has_group(held) && has_group(busy) && has_group(of_a_box));

	close(go[1]);
	close(go[0]);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	cgroup_close(&cg[1]);
	ck_assert_int_eq(rmdir(box), 0);
	leftover_sweep(&groups, dir);
	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		ck_assert(!has_group(all[i]));
	ck_assert_int_eq(rmdir(groups.v2), 0);
}
END_TEST

/* What a keeper has just made stays, however often somebody sweeps. */
START_TEST(groups_are_made_while_others_sweep)
{
	char id[UUID_LEN + 1];
	struct cgroup_box cg;
	pid_t pid;

	if (!groups.v2)
		return;
	groups_of_our_own();
	pid = fork();
	if (pid == 0)
		for (;;)
			leftover_sweep(&groups, dir);
	for (int i = 0; i < 500; i++) {
		make_group(id_uuid7(id), &cg);
		ck_assert(has_group(id));
		cgroup_remove(&cg, NULL);
		cgroup_close(&cg);
	}
	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	ck_assert_int_eq(rmdir(groups.v2), 0);
}
END_TEST

START_TEST(another_boot)
{
	auto_spec s = make_spec("exit 0");
	auto_obj(box) b = NULL;
	struct err e = { 0 };

	s->boot_id = strdup("00000000-0000-4000-8000-000000000000");
	ck_ok(box_prepare(dir, s, &b, &e), e);
	box_free(take_ptr(b));
	ck_ok(box_open(dir, s->attempt_id, &b, &e), e);
	ck_assert_int_eq(box_state(b), BOX_DEAD);
}
END_TEST

/* Before anything was begun (0), and after (1). */
START_TEST(lost_with_its_host)
{
	auto_spec spec = make_spec(long_job);
	struct err e = { 0 };
	struct box *b;
	struct seen s;

	seen_init(&s);
	spec->boot_id = strdup("00000000-0000-4000-8000-000000000000");
	ck_ok(box_prepare(dir, spec, &b, &e), e);
	if (_i) {
		ck_ok(box_start(b, s.loop, s.keepers, &calls, &s, &e), e);
		(void)read_pid("leader");
		kill_keeper();
	} else {
		box_free(b);
		ck_ok(box_open(dir, spec->attempt_id, &b, &e), e);
		ck_ok(box_attach(b, s.loop, &calls, &s, &e), e);
	}
	run(&s);
	ck_assert_int_eq(s.result.reason, BOX_LOST);
	ck_assert(!s.result.keeper_died);
	ck_ok(box_release(b, true, &e), e);
	seen_done(&s);
}
END_TEST

/* Before the start (0) and after it (1). */
START_TEST(renewed)
{
	struct err e = { 0 };
	struct seen s;
	struct box *b;

	lease = USEC_PER_SEC;
	seen_init(&s);
	b = prepare("sleep 1.5");
	ck_fails(box_renew(b, 0, &e), EINVAL);
	ck_fails(box_renew(b, LEASE_USEC_MAX + 1, &e), EINVAL);
	if (!_i)
		ck_ok(box_renew(b, LEASE_USEC_MAX, &e), e);
	ck_ok(box_start(b, s.loop, s.keepers, &calls, &s, &e), e);
	if (_i)
		ck_ok(box_renew(b, LEASE_USEC_MAX, &e), e);
	run(&s);
	ck_assert_int_eq(s.result.reason, BOX_OK);
	ck_ok(box_renew(b, 1, &e), e);
	box_free(b);
	seen_done(&s);
}
END_TEST

/* It is asked for when there is no way to the keeper yet. */
START_TEST(renewed_after_adoption)
{
	struct err e = { 0 };
	struct seen s;
	struct box *b;

	lease = USEC_PER_SEC;
	b = start_and_abandon("sleep 1.5");
	seen_init(&s);
	ck_ok(box_renew(b, 60 * USEC_PER_SEC, &e), e);
	ck_ok(box_attach(b, s.loop, &calls, &s, &e), e);
	run(&s);
	ck_assert_int_eq(s.result.reason, BOX_OK);
	box_free(b);
	seen_done(&s);
}
END_TEST

/* The keeper has not died of it, and its next job has no lease. */
START_TEST(not_renewed)
{
	struct err e = { 0 };
	struct seen s;
	pid_t first;

	seen_init(&s);
	lease = 400000;
	first = run_one(&s, "exec sleep 1000");
	ck_assert_int_eq(s.result.reason, BOX_LOST);
	ck_assert_str_eq(s.result.detail,
			 "the lease of 400ms was not renewed: stopped, so that it does "
			 "not run twice");
	ck_assert(!s.result.keeper_died);
	ck_ok(loop_turn(s.loop, USEC_PER_SEC, &e), e);
	(void)run_one(&s, "exit 0");
	ck_assert_int_eq(s.result.reason, BOX_OK);
	ck_ok(loop_turn(s.loop, USEC_PER_SEC, &e), e);
	lease = 0;
	ck_assert_int_eq(run_one(&s, "sleep 0.6"), first);
	ck_assert_int_eq(s.result.reason, BOX_OK);
	keepers_gone(&s);
	seen_done(&s);
}
END_TEST

/* A keeper that is stopped when it is given a job begins nothing when it finds it later. */
START_TEST(handed_to_a_stopped_keeper)
{
	struct err e = { 0 };
	struct seen s;
	struct box *b;
	uint64_t end;
	pid_t pid;

	seen_init(&s);
	pid = run_one(&s, "exit 0");
	ck_ok(loop_turn(s.loop, USEC_PER_SEC, &e), e);
	ck_assert_int_eq(kill(pid, SIGSTOP), 0);
	ck_assert_int_eq(waitid(P_PID, (id_t)pid, &(siginfo_t){ 0 }, WSTOPPED | WNOWAIT), 0);
	lease = 200000;
	b = prepare("exit 0");
	s.stay = s.release = false;
	box_result_done(&s.result);
	ck_ok(box_start(b, s.loop, s.keepers, &calls, &s, &e), e);
	for (end = time_boot_usec() + lease; time_boot_usec() < end;)
		ck_ok(loop_turn(s.loop, 10000, &e), e);
	ck_assert_int_eq(kill(pid, SIGCONT), 0);
	run(&s);
	ck_assert_int_eq(s.result.reason, BOX_LOST);
	ck_assert_uint_eq(s.result.started_wall_usec, 0);
	ck_assert(!s.result.keeper_died);
	box_free(b);
	keepers_gone(&s);
	seen_done(&s);
}
END_TEST

static void tests(TCase *t)
{
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 30);
	tcase_add_loop_test(t, keeper_killed_under_us, 0, 2);
	tcase_add_test(t, keeper_killed_before_adoption);
	tcase_add_test(t, keeper_that_cannot_begin);
	tcase_add_test(t, group_of_an_ended_box);
	tcase_add_test(t, groups_of_nobody);
	tcase_add_test(t, groups_are_made_while_others_sweep);
	tcase_add_test(t, another_boot);
	tcase_add_loop_test(t, lost_with_its_host, 0, 2);
	tcase_add_loop_test(t, renewed, 0, 2);
	tcase_add_test(t, renewed_after_adoption);
	tcase_add_test(t, not_renewed);
	tcase_add_test(t, handed_to_a_stopped_keeper);
}

int main(void)
{
	return unit_main("exec/lost", tests);
}

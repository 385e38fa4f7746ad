/* SPDX-License-Identifier: MIT */
/* The worker's side of a box, from claim to release. */
#include <sys/resource.h>

#include "boxed.h"

START_TEST(from_claim_to_release)
{
	struct seen s;
	struct err e = { 0 };
	auto_strv char **ids = NULL;
	struct box *b;

	seen_init(&s);
	s.release = true;
	b = prepare("echo Test 1 of 2; echo '{\"done\":2,\"total\":2}' >&3; exit 3");
	ck_ok(box_list(dir, &ids, &e), e);
	ck_assert_uint_eq(strv_len(ids), 1);
	ck_assert_str_eq(ids[0], box_spec(b)->attempt_id);
	ck_ok(box_start(b, s.loop, s.keepers, &calls, &s, &e), e);
	run(&s);
	ck_assert_msg(strncmp(s.order, "sp", 2) == 0 && strchr(s.order, 'l') &&
			      strchr(s.order, 'g') && str_ends(s.order, "e"),
		      "%s", s.order);
	ck_assert_uint_eq(s.out, 12);
	ck_assert_int_eq(s.result.reason, BOX_EXIT);
	ck_assert_int_eq(s.result.exit_code, 3);
	keepers_gone(&s);
	ck_ok(fd_rmtree(AT_FDCWD, dir, &e), e);
	ck_assert_int_eq(mkdir(dir, 0700), 0);
	seen_done(&s);
}
END_TEST

/* Files to be removed do not keep the worker waiting. */
START_TEST(large_work_folder)
{
	struct err e = { 0 };
	struct seen s;
	struct box *b;
	uint64_t since;

	seen_init(&s);
	b = prepare("i=0; while [ $i -lt 3000 ]; do i=$((i+1)); : >$i; done");
	ck_ok(box_start(b, s.loop, s.keepers, &calls, &s, &e), e);
	run(&s);
	since = time_wall_usec() - s.result.finished_wall_usec;
	ck_assert_msg(since < 900000, "told after %llu usec", (unsigned long long)since);
	ck_ok(box_release(b, true, &e), e);
	seen_done(&s);
}
END_TEST

START_TEST(one_claim)
{
	auto_spec s = make_spec("exit 0");
	auto_obj(box) first = NULL;
	struct box *second = NULL;
	struct err e = { 0 };

	ck_ok(box_prepare(dir, s, &first, &e), e);
	ck_fails(box_prepare(dir, s, &second, &e), EEXIST);
	ck_fails(box_open(dir, s->attempt_id, &second, &e), EWOULDBLOCK);
	ck_assert(!exists("spool/boxes/.new"));
}
END_TEST

/* Whatever it is that cannot be opened, no folder is left behind. */
START_TEST(claim_without_descriptors)
{
	auto_spec s = make_spec("exit 0");
	struct rlimit before;
	int lowest = dup(0), r = -1;

	close(lowest);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
	for (rlim_t n = 0; r < 0 && n < 20; n++) {
		const struct rlimit few = { .rlim_cur = (rlim_t)lowest + n,
					    .rlim_max = before.rlim_max };
		struct box *b = NULL;
		struct err e = { 0 };

		ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
		r = box_prepare(dir, s, &b, &e);
		ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
		if (r < 0)
			ck_assert_msg(r == -EMFILE && e.kind == ERR_TRANSIENT, "%s", e.msg);
		else
			ck_ok(box_release(b, false, &e), e);
	}
	ck_assert_int_eq(r, 0);
}
END_TEST

/* A claim without a start: the next worker starts it. */
START_TEST(restart_before_the_start)
{
	struct box *b = prepare("exit 0");
	auto_free char *id = strdup(box_spec(b)->attempt_id);
	struct err e = { 0 };
	struct seen s;

	seen_init(&s);
	box_free(b);
	ck_ok(box_open(dir, id, &b, &e), e);
	ck_assert_int_eq(box_state(b), BOX_NEW);
	ck_ok(box_start(b, s.loop, s.keepers, &calls, &s, &e), e);
	run(&s);
	ck_assert_int_eq(s.result.reason, BOX_OK);
	box_free(b);
	seen_done(&s);
}
END_TEST

START_TEST(restart_while_it_runs)
{
	struct box *b = start_and_abandon("echo Test 3 of 9; echo $$ >$ZR_SUBMISSION/pid; sleep 1");
	struct err e = { 0 };
	struct seen s;

	seen_init(&s);
	ck_assert_int_eq(box_state(b), BOX_RUNNING);
	(void)read_pid("pid");
	ck_fails(box_release(b, false, &e), EBUSY);
	ck_ok(box_attach(b, s.loop, &calls, &s, &e), e);
	run(&s);
	ck_assert_int_eq(s.order[0], 's');
	ck_assert_ptr_nonnull(strchr(s.order, 'g'));
	ck_assert_double_eq(s.done, 3);
	ck_assert_int_eq(s.result.reason, BOX_OK);
	box_free(b);
	seen_done(&s);
}
END_TEST

START_TEST(restart_after_the_end)
{
	struct box *b = start_and_abandon("exit 4");
	auto_done(box_result) r;
	auto_free char *id = strdup(box_spec(b)->attempt_id);
	struct err e = { 0 };
	struct seen s;

	seen_init(&s);
	wait(NULL);
	box_free(b);
	ck_ok(box_open(dir, id, &b, &e), e);
	ck_assert_int_eq(box_state(b), BOX_ENDED);
	ck_ok(box_result(b, &r, &e), e);
	ck_assert_int_eq(r.exit_code, 4);
	ck_ok(box_attach(b, s.loop, &calls, &s, &e), e);
	run(&s);
	ck_assert_str_eq(s.order, "e");
	ck_assert_int_eq(s.result.exit_code, 4);
	box_free(b);
	seen_done(&s);
}
END_TEST

/* Whoever wrote that: it must not stay for ever. */
START_TEST(restart_with_an_end_that_cannot_be_read)
{
	static const char text[] = "{\"t\":\"begun\"}\n{\"t\":\"done\",\"result\":{}}\n";
	struct box *b = start_and_abandon("exit 0");
	auto_free char *id = strdup(box_spec(b)->attempt_id);
	struct err e = { 0 };
	struct seen s;
	int fd;

	seen_init(&s);
	wait(NULL);
	fd = openat(box_dirfd(b), JOURNAL_FILE, O_WRONLY | O_TRUNC | O_CLOEXEC);
	ck_assert_int_eq(fd_write_all(fd, text, strlen(text)), 0);
	close(fd);
	box_free(b);
	ck_ok(box_open(dir, id, &b, &e), e);
	ck_assert_int_eq(box_state(b), BOX_DEAD);
	ck_ok(box_attach(b, s.loop, &calls, &s, &e), e);
	run(&s);
	ck_assert_str_eq(s.order, "e");
	ck_assert_int_eq(s.result.reason, BOX_LOST);
	box_free(b);
	ck_ok(box_open(dir, id, &b, &e), e);
	ck_assert_int_eq(box_state(b), BOX_ENDED);
	box_free(b);
	seen_done(&s);
}
END_TEST

START_TEST(cancel_running)
{
	struct err e = { 0 };
	struct seen s;
	struct box *b;

	seen_init(&s);
	b = prepare("sleep 1000");
	s.cancel_at_start = b;
	ck_ok(box_start(b, s.loop, s.keepers, &calls, &s, &e), e);
	run(&s);
	ck_assert_int_eq(s.result.reason, BOX_CANCELED);
	ck_ok(box_cancel(b, &e), e);
	box_free(b);
	seen_done(&s);
}
END_TEST

/* A job that would take its grace to the full. */
START_TEST(kill_after_cancel)
{
	struct err e = { 0 };
	struct seen s;
	struct box *b = NULL;
	auto_spec spec = make_spec("trap '' TERM; echo ready; while :; do sleep 1; done");

	spec->term_grace_usec = 60 * USEC_PER_SEC;
	seen_init(&s);
	ck_ok(box_prepare(dir, spec, &b, &e), e);
	s.kill_at_log = b;
	s.stay = true;
	ck_ok(box_start(b, s.loop, s.keepers, &calls, &s, &e), e);
	while (!s.ended)
		ck_ok(loop_turn(s.loop, USEC_PER_SEC, &e), e);
	ck_assert_int_eq(s.result.reason, BOX_CANCELED);
	ck_ok(box_kill(b, &e), e);
	box_free(b);
	while (keepers_leave(s.keepers))
		ck_ok(loop_turn(s.loop, USEC_PER_SEC, &e), e);
	ck_assert(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
	seen_done(&s);
}
END_TEST

static void leave_at_log(void *user, unused_arg struct box *b, unused_arg enum box_stream stream,
			 unused_arg uint64_t size)
{
	struct seen *s = user;

	loop_exit(s->loop, 0);
}

/* Nobody would adopt it: it ends with its worker, where any other box goes on. */
START_TEST(attended)
{
	static const struct box_calls only_log = { .on_log = leave_at_log };
	auto_spec spec = make_spec("echo ready; sleep 1000");
	struct err e = { 0 };
	struct seen s;
	struct box *b = NULL;

	spec->attended = true;
	seen_init(&s);
	ck_ok(box_prepare(dir, spec, &b, &e), e);
	ck_ok(box_start(b, s.loop, s.keepers, &only_log, &s, &e), e);
	run(&s);
	box_free(b);
	seen_done(&s);

	seen_init(&s);
	ck_ok(box_open(dir, spec->attempt_id, &b, &e), e);
	ck_ok(box_attach(b, s.loop, &calls, &s, &e), e);
	run(&s);
	ck_assert_int_eq(s.result.reason, BOX_CANCELED);
	ck_has(s.result.detail, "has gone");
	box_free(b);
	seen_done(&s);
}
END_TEST

START_TEST(cancel_before_the_start)
{
	auto_done(box_result) r;
	struct box *b = prepare("exit 0");
	struct err e = { 0 };

	ck_ok(box_cancel(b, &e), e);
	ck_assert_int_eq(box_state(b), BOX_ENDED);
	ck_ok(box_result(b, &r, &e), e);
	ck_assert_int_eq(r.reason, BOX_CANCELED);
	ck_assert_uint_eq(r.started_wall_usec, 0);
	ck_fails(box_conclude(b, BOX_SETUP, "late", &e), EBUSY);
	box_free(b);
}
END_TEST

static unsigned fds_of(pid_t pid)
{
	char name[40];
	unsigned n = 0;
	DIR *d;

	snprintf(name, sizeof(name), "/proc/%d/fd", (int)pid);
	d = opendir(name);
	ck_assert_ptr_nonnull(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* Job after job in one keeper; nothing of the one before is in the next, or stays open. */
START_TEST(keeper_goes_on)
{
	struct err e = { 0 };
	struct seen s;
	unsigned fds;
	pid_t keeper_pid;

	seen_init(&s);
	keeper_pid = run_one(&s, "echo first; echo $ZR_ATTEMPT_ID >left-over; exit 3");
	ck_assert_int_eq(s.result.reason, BOX_EXIT);
	ck_assert_uint_eq(s.result.out_bytes, 6);
	ck_ok(loop_turn(s.loop, USEC_PER_SEC, &e), e);
	fds = fds_of(keeper_pid);
	for (int i = 0; i < 20; i++) {
		ck_assert_int_eq(run_one(&s, "[ -z \"$(ls)\" ] || exit 9; ls /proc/$PPID/fd"),
				 keeper_pid);
		ck_assert_int_eq(s.result.reason, BOX_OK);
		ck_assert_int_eq(s.result.exit_code, 0);
		ck_assert_ptr_null(s.result.detail);
		ck_ok(loop_turn(s.loop, USEC_PER_SEC, &e), e);
	}
	ck_assert_uint_eq(fds_of(keeper_pid), fds);
	keepers_gone(&s);
	seen_done(&s);
}
END_TEST

/* An idle keeper that was killed is not trusted with a job. */
START_TEST(idle_keeper_killed)
{
	struct err e = { 0 };
	struct seen s;
	pid_t first;

	seen_init(&s);
	first = run_one(&s, "exit 0");
	ck_ok(loop_turn(s.loop, USEC_PER_SEC, &e), e);
	ck_assert_int_eq(kill(first, SIGKILL), 0);
	ck_assert_int_ne(waitid(P_PID, (id_t)first, &(siginfo_t){ 0 }, WEXITED | WNOWAIT), -1);
	(void)run_one(&s, "exit 5");
	ck_assert_int_eq(s.result.reason, BOX_EXIT);
	ck_assert_int_eq(s.result.exit_code, 5);
	keepers_gone(&s);
	seen_done(&s);
}
END_TEST

static void empty_file(int dirfd, const char *name)
{
	auto_close int fd = openat(dirfd, name, O_WRONLY | O_TRUNC | O_CLOEXEC);

	ck_assert_int_ge(fd, 0);
}

START_TEST(restored)
{
	auto_spec spec = make_spec("exit 0");
	auto_free char *id = strdup(spec->attempt_id);
	auto_free char *text = NULL;
	auto_free char *folder = NULL, *others = NULL;
	auto_strv char **ids = NULL;
	struct err e = { 0 };
	struct box *b, *other = NULL;

	b = prepare("exit 0");
	others = strdup(box_claim_text(b));
	ck_ok(box_release(b, false, &e), e);
	spec->boot_id = strdup("00000000-0000-4000-8000-000000000000");
	ck_ok(box_prepare(dir, spec, &b, &e), e);
	text = strdup(box_claim_text(b));
	/* There: nothing happens. */
	ck_assert_int_eq(box_restore(dir, text, strlen(text), &e), 1);
	ck_fails(box_open(dir, id, &other, &e), EWOULDBLOCK);
	ck_ok(box_release(b, false, &e), e);
	/* Gone, or with an empty file or another box's, as a power failure may leave it. */
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(box_restore(dir, text, strlen(text), &e), 1);
		ck_ok(box_open(dir, id, &b, &e), e);
		ck_assert_int_eq(box_state(b), BOX_DEAD);
		ck_assert(!box_is_of_this_boot(b));
		ck_assert_str_eq(box_spec(b)->attempt_id, id);
		if (i == 0)
			empty_file(box_dirfd(b), SPEC_FILE);
		else
			ck_ok(fd_write_file(box_dirfd(b), SPEC_FILE, others, strlen(others), 0600,
					    false, &e),
			      e);
		box_free(b);
	}
	/* Without a note such a one is no box. */
	ck_ok(box_list(dir, &ids, &e), e);
	ck_assert_ptr_null(ids[0]);
	ck_fails(box_restore(dir, "{}", 2, &e), EINVAL);
	ck_assert_int_ge(str_fmt(&folder, "%s/spool/boxes/%s", dir, id), 0);
	ck_ok(fd_rmtree(AT_FDCWD, folder, &e), e);
	/* A claim of this boot without its folder was released. */
	b = prepare("exit 0");
	free(text);
	text = strdup(box_claim_text(b));
	ck_ok(box_release(b, false, &e), e);
	ck_assert_int_eq(box_restore(dir, text, strlen(text), &e), 0);
}
END_TEST

START_TEST(concluded)
{
	struct box *b = prepare("exit 0");
	struct err e = { 0 };
	struct seen s;

	seen_init(&s);
	ck_ok(box_conclude(b, BOX_SETUP, "no such submission", &e), e);
	ck_ok(box_attach(b, s.loop, &calls, &s, &e), e);
	run(&s);
	ck_assert_int_eq(s.result.reason, BOX_SETUP);
	ck_assert_str_eq(s.result.detail, "no such submission");
	box_free(b);
	seen_done(&s);
}
END_TEST

START_TEST(no_keeper)
{
	struct box *b = prepare("exit 0");
	struct err e = { 0 };
	struct seen s;

	free(keeper);
	keeper = strdup("/no/such/zr-box");
	seen_init(&s);
	ck_fails(box_start(b, s.loop, s.keepers, &calls, &s, &e), ENOENT);
	ck_assert_int_eq(box_state(b), BOX_NEW);
	ck_ok(box_conclude(b, BOX_INFRASTRUCTURE, e.msg, &e), e);
	ck_ok(box_attach(b, s.loop, &calls, &s, &e), e);
	run(&s);
	ck_assert_int_eq(s.result.reason, BOX_INFRASTRUCTURE);
	ck_has(s.result.detail, "No such file");
	box_free(b);
	seen_done(&s);
}
END_TEST

/* What a crash leaves in the boxes folder is swept; what somebody is making is not. */
START_TEST(unfinished)
{
	auto_strv char **ids = NULL;
	auto_free char *fresh = path("spool/boxes/0190b8a0-0000-7000-8000-000000000001");
	auto_free char *old = path("spool/boxes/0190b8a0-0000-7000-8000-000000000003");
	const struct timespec long_ago[2] = { { .tv_sec = 1 }, { .tv_sec = 1 } };
	auto_free char *gone = path("spool/boxes/.0190b8a0-0000-7000-8000-000000000002.gone");
	struct err e = { 0 };

	box_free(prepare("exit 0"));
	ck_assert_int_eq(mkdir(fresh, 0700), 0);
	ck_assert_int_eq(mkdir(gone, 0700), 0);
	ck_assert_int_eq(mkdir(old, 0700), 0);
	ck_assert_int_eq(utimensat(AT_FDCWD, old, long_ago, 0), 0);
	ck_ok(box_list(dir, &ids, &e), e);
	ck_assert_uint_eq(strv_len(ids), 1);
	ck_assert_int_eq(access(fresh, F_OK), 0);
	ck_assert_int_lt(access(gone, F_OK), 0);
	ck_assert_int_lt(access(old, F_OK), 0);
}
END_TEST

static void abandoned_socket(const char *at)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", at);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
}

/* The socket of a killed keeper goes, that of a living one stays. */
START_TEST(sockets_swept)
{
	auto_free char *folder = path("spool/keepers");
	auto_free char *dead = path("spool/keepers/0190b8a0-0000-7000-8000-000000000004");
	struct err e = { 0 };
	struct seen s;
	unsigned n = 0;
	DIR *d;

	seen_init(&s);
	(void)run_one(&s, "exit 0");
	abandoned_socket(dead);
	keepers_sweep(dir);
	ck_assert_int_lt(access(dead, F_OK), 0);
	d = opendir(folder);
	ck_assert_ptr_nonnull(d);
	while (readdir(d))
		n++;
	closedir(d);
	ck_assert_uint_eq(n, 3);
	(void)run_one(&s, "exit 0");
	ck_assert_int_eq(s.result.reason, BOX_OK);
	keepers_gone(&s);
	ck_ok(fd_rmtree(AT_FDCWD, folder, &e), e);
	seen_done(&s);
}
END_TEST

START_TEST(torn_journal)
{
	static const char text[] =
		"{\"t\":\"started\",\"at\":\"2026-11-21T23:00:00Z\",\"phase\":\"run\"}\n"
		"{\"t\":\"done\",\"resu";
	auto_done(journal) j = { .phase = PHASE_RUN };
	auto_done(box_result) r;
	auto_close int fd = -1, d = -1;
	struct err e = { 0 };

	box_result_init(&r);
	ck_ok(fd_open_dir(AT_FDCWD, dir, &d, &e), e);
	ck_ok(fd_write_file(d, JOURNAL_FILE, text, strlen(text), 0600, false, &e), e);
	ck_ok(journal_read(d, &j, &e), e);
	ck_assert(j.started && !j.done);
	ck_ok(journal_open(d, &fd, &e), e);
	ck_ok(journal_add_done(fd, &r, &e), e);
	journal_done(&j);
	ck_ok(journal_read(d, &j, &e), e);
	ck_assert(j.started && j.done);
}
END_TEST

static void tests(TCase *t)
{
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 30);
	tcase_add_test(t, from_claim_to_release);
	tcase_add_test(t, large_work_folder);
	tcase_add_test(t, one_claim);
	tcase_add_test(t, claim_without_descriptors);
	tcase_add_test(t, restart_before_the_start);
	tcase_add_test(t, restart_while_it_runs);
	tcase_add_test(t, restart_after_the_end);
	tcase_add_test(t, restart_with_an_end_that_cannot_be_read);
	tcase_add_test(t, cancel_running);
	tcase_add_test(t, kill_after_cancel);
	tcase_add_test(t, attended);
	tcase_add_test(t, cancel_before_the_start);
	tcase_add_test(t, keeper_goes_on);
	tcase_add_test(t, idle_keeper_killed);
	tcase_add_test(t, restored);
	tcase_add_test(t, concluded);
	tcase_add_test(t, no_keeper);
	tcase_add_test(t, unfinished);
	tcase_add_test(t, sockets_swept);
	tcase_add_test(t, torn_journal);
}

int main(void)
{
	return unit_main("exec/box", tests);
}

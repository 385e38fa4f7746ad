/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/str.h"
#include "exec/evaluator.h"

#include "unit.h"

static char dir[32];

static void put(const char *name, const char *text, mode_t mode)
{
	auto_free char *path = NULL;
	struct err e = { 0 };

	ck_assert_int_ge(str_fmt(&path, "%s/%s", dir, name), 0);
	ck_ok(fd_write_file(AT_FDCWD, path, text, strlen(text), mode, false, &e), e);
	ck_assert_int_eq(chmod(path, mode), 0);
}

static void folder(const char *name)
{
	auto_free char *path = NULL;

	ck_assert_int_ge(str_fmt(&path, "%s/%s", dir, name), 0);
	ck_assert_int_eq(mkdir(path, 0755), 0);
}

static void setup(void)
{
	unit_mkdir(dir);
	folder("ev");
	put("ev/run.sh", "#!/bin/sh\n", 0755);
	put("ev/plain", "#!/bin/sh\n", 0644);
	put("bare", "#!/bin/sh\n", 0755);
	put("README.md", "words\n", 0644);
}

static void teardown(void)
{
	unit_rmdir(dir);
}

static int load(const char *conf, struct evaluator **ret, struct err *e)
{
	put("ev/evaluator.conf", conf, 0644);
	return evaluator_load(dir, "ev", ret, e);
}

START_TEST(full)
{
	auto_obj(evaluator) ev = NULL;
	auto_free char *path = NULL;
	struct err e = { 0 };

	ck_ok(load("# comment\n"
		   "description = \"all of it\"\n"
		   "prepare = \"./run.sh --make 'two words'\"\n"
		   "run = {\"run.sh\", \"a b\"}\n"
		   "score = run.sh\n"
		   "args = \"-x 1\"\n"
		   "allow_args = {\"--seed=[0-9]*\", \"-v\"}\n"
		   "wall_limit = 90s\nprepare_wall_limit = 10s\nscore_wall_limit = 5s\n"
		   "cpu_limit = 1m\nmemory = 64M\npids = 10\ndisk = 1G\noutput_limit = 1M\n"
		   "isolation = none\ngpus = 0\nnetwork = no\nretries = 3\n"
		   "scores = \"s.json\"\nprogress_pattern = \"([0-9]+)/([0-9]+)\"\n"
		   "log_cap = 64K\nlog_overflow = stop\nenv = {\"A=1\", \"B_2=x y\"}\n"
		   "timing = yes\nmounts = {\"/data\"}\n",
		   &ev, &e),
	      e);
	ck_assert_int_ge(str_fmt(&path, "%s/ev/run.sh", dir), 0);
	ck_assert_str_eq(ev->argv[PHASE_PREPARE][0], path);
	ck_assert_str_eq(ev->argv[PHASE_PREPARE][2], "two words");
	ck_assert_str_eq(ev->argv[PHASE_RUN][0], path);
	ck_assert_str_eq(ev->argv[PHASE_RUN][1], "a b");
	ck_assert_str_eq(ev->argv[PHASE_SCORE][0], path);
	ck_assert_uint_eq(strv_len(ev->args), 2);
	ck_assert_uint_eq(ev->limits.wall_usec[PHASE_RUN], 90000000);
	ck_assert_uint_eq(ev->limits.wall_usec[PHASE_SCORE], 5000000);
	ck_assert_uint_eq(ev->limits.cpu_usec, 60000000);
	ck_assert_uint_eq(ev->limits.memory_bytes, 64u << 20);
	ck_assert_uint_eq(ev->limits.pids, 10);
	ck_assert_uint_eq(ev->retries, 3);
	ck_assert_str_eq(ev->scores_file, "s.json");
	ck_assert(ev->scores_required && ev->log_stop && ev->isolation_given && ev->timing);
	ck_assert_str_eq(ev->env[1], "B_2=x y");
}
END_TEST

START_TEST(defaults)
{
	auto_obj(evaluator) ev = NULL;
	auto_obj(evaluator) bare = NULL;
	struct err e = { 0 };

	ck_ok(load("run = run.sh\n", &ev, &e), e);
	ck_ok(evaluator_load(dir, "bare", &bare, &e), e);
	ck_assert(bare->bare && !ev->bare);
	ck_assert_mem_eq(&ev->limits, &bare->limits, sizeof(ev->limits));
	ck_assert_uint_eq(ev->limits.wall_usec[PHASE_RUN], 3600000000ull);
	ck_assert_str_eq(ev->scores_file, "scores.json");
	ck_assert(!ev->scores_required && !bare->scores_required && !bare->isolation_given);
	ck_assert_str_eq(bare->dir, dir);
	ck_assert_ptr_null(bare->allow_args);
}
END_TEST

static const struct {
	const char *conf, *say;
} bad_files[] = {
	{ "", "evaluator.conf: 'run' is missing" },
	{ "run = run.sh\nrun = run.sh\n", "evaluator.conf:2: " },
	{ "# a\n\nrun = run.sh\nzz = 1\n", "evaluator.conf:4: " },
	{ "run = gone.sh\n", "evaluator.conf:1: run: program 'gone.sh': No such file" },
	{ "\n run = plain\n", "evaluator.conf:2: run: program 'plain': it is not executable" },
	{ "run = \"../bare\"\n", "it is outside the evaluator's folder" },
	{ "run = \"/bin/sh\"\n", "program '/bin/sh'" },
	{ "run = \"sub/../../bare\"\n", "program 'sub/../../bare'" },
	{ "run = link.sh\n", "symbolic link" },
	{ "run = \".\"\n", "it is not a regular file" },
	{ "run = \"\"\n", "'run' is empty" },
	{ "run = {}\n", "'run' is missing" },
	{ "run = \"run.sh 'a\"\n", "a quote is not closed" },
	{ "run = open.sh\n", "everybody on this host may change it" },
	{ "run = run.sh\nisolation = jail\n", "evaluator.conf:2: 'isolation' is 'jail'" },
	{ "run = run.sh\nmemory = lots\n", "evaluator.conf:2: bad value for 'memory'" },
	{ "run = run.sh\nmemory = 1K\n", "evaluator.conf:2: 'memory' is less than" },
	{ "run = run.sh\npids = -1\n", "evaluator.conf:2: 'pids' is -1" },
	{ "run = run.sh\nwall_limit = -5\n", "evaluator.conf:2: " },
	{ "run = run.sh\nretries = 11\n", "'retries' is 11" },
	{ "run = run.sh\nscores = \"../x\"\n", "'scores' is a file name" },
	{ "run = run.sh\nprogress_pattern = \"(\"\n", "bad pattern" },
	{ "run = run.sh\nlog_overflow = burst\n", "'log_overflow' is 'burst'" },
	{ "run = run.sh\nenv = {\"1A=2\"}\n", "'env': '1A=2' is not NAME=value" },
	{ "run = run.sh\nenv = {\"=2\"}\n", "is not NAME=value" },
	{ "run = run.sh\nenv = {\"ZR_OUTPUT=/x\"}\n", "'env' may not set ZR_OUTPUT" },
	{ "run = run.sh\nargs = \"${AMQP_URL}\"\n", "evaluator.conf:2: '${' would take" },
	{ "run = run.sh\ndescription = \"\xff\"\n", "is not UTF-8" },
	{ "run = run.sh\nmounts = {\"data\"}\n", "evaluator.conf:2: 'mounts': 'data' cannot be" },
	{ "run = run.sh\nmounts = {\"/\"}\n", "or is '/'" },
	{ "run = run.sh\nmounts = {\"/a/../b\"}\n", "'.' or '..'" },
	{ "run = run.sh\nmounts = {\"/a//b\"}\n", "an empty part" },
	{ "run = run.sh\nmounts = {\"/proc/sys\"}\n", "a folder of its own there" },
	{ "run = run.sh\nbeside = {\"../x\"}\n", "'../x' cannot be the name of an evaluator" },
	{ "run = run.sh\nbeside = {\"box\"}\n", "'box' cannot be the name of an evaluator" },
	{ "run = run.sh\nscore = run.sh\nreference = {\"../x\"}\n", "evaluator.conf:3: " },
	{ "run = run.sh\nreference = {\"x\"}\n",
	  "evaluator.conf:2: 'reference' is shown to nobody" },
	{ "run = run.sh\nsubmission = art\n", "'submission' is 'art'" },
	{ "run = run.sh\nisolation = container\n", "needs 'image' or 'submission_image'" },
	{ "run = run.sh\nisolation = container\nimage = \"-v\"\n", "does not begin with a letter" },
	{ "run = run.sh\nisolation = container\nimage = \"a b\"\n", "characters that are in no" },
	{ "run = run.sh\nisolation = container\nimage = \"a@sha256:12\"\n", "is no digest" },
	{ "run = run.sh\nisolation = container\nimage = a\nimage_file = \"../x\"\n",
	  "no path below a folder" },
	{ "run = run.sh\nimage = a\n", "an image needs isolation = \"container\"" },
	{ "run = run.sh\nscore = run.sh\nisolation = container\nsubmission_image = i.tar\n",
	  "'score' needs an 'image'" },
	{ "run = run.sh\nclaimed_percent = 5\n", "of no use without 'claimed_time'" },
	{ "run = run.sh\ncpus = 0.001\n", "'cpus' is 0.001, outside 0.01 to 4096" },
	{ "run = run.sh\ncpu_weight = 10001\n", "'cpu_weight' is 10001, outside 0 to 10000" },
	{ "run = run.sh\non_violation = cry\n", "'on_violation' is 'cry' (want count or stop)" },
	{ "run = run.sh\non_violation = stop\n", "needs isolation = \"sandbox\"" },
	{ "run = run.sh\nisolation = sandbox\nmemory = 0\n", "'memory' may not be unlimited" },
	{ "section {\n", "evaluator.conf:1: " },
};

START_TEST(bad_file)
{
	auto_obj(evaluator) ev = NULL;
	auto_free char *link = NULL;
	struct err e = { 0 };

	ck_assert_int_ge(str_fmt(&link, "%s/ev/link.sh", dir), 0);
	ck_assert_int_eq(symlink("run.sh", link), 0);
	put("ev/open.sh", "#!/bin/sh\n", 0777);
	folder("ev/sub");
	ck_assert_int_lt(load(bad_files[_i].conf, &ev, &e), 0);
	ck_assert_int_eq(e.kind, ERR_HOST);
	ck_has(e.msg, bad_files[_i].say);
	ck_assert_ptr_null(ev);
}
END_TEST

static const char *const bad_names[] = {
	"",     "..",   ".",   "/bin/true", "../bare", "ev/run.sh", "bare\n",       "-c",  "a b",
	"link", "gone", "ev/", "bare/",     "\xff",    ".hidden",   "README.md/..", "out",
};

START_TEST(bad_name)
{
	auto_obj(evaluator) ev = NULL;
	auto_free char *link = NULL, *out = NULL;
	struct err e = { 0 };

	ck_assert_int_ge(str_fmt(&link, "%s/link", dir), 0);
	ck_assert_int_ge(str_fmt(&out, "%s/out", dir), 0);
	ck_assert_int_eq(symlink("bare", link), 0);
	ck_assert_int_eq(symlink("/usr", out), 0);
	put(".hidden", "#!/bin/sh\n", 0755);
	ck_assert_int_lt(evaluator_load(dir, bad_names[_i], &ev, &e), 0);
	ck_assert_ptr_null(ev);
	if (e.code == ELOOP)
		ck_has(e.msg, "symbolic link");
	else
		ck_has(e.msg, "there is no evaluator");
}
END_TEST

/* With so many descriptors to spare. */
static int load_with(int spare, const char *name, struct evaluator **ret, struct err *e)
{
	struct rlimit before, few;
	int lowest = dup(0), r;

	close(lowest);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
	few = (struct rlimit){ .rlim_cur = (rlim_t)(lowest + spare), .rlim_max = before.rlim_max };
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
	r = evaluator_load(dir, name, ret, e);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
	return r;
}

/* It is there: who has a descriptor to spare finds it. */
START_TEST(no_descriptors)
{
	auto_obj(evaluator) ev = NULL;
	struct err e = { 0 };

	ck_assert_int_eq(load_with(1, "bare", &ev, &e), -EMFILE);
	ck_assert_int_eq(e.kind, ERR_TRANSIENT);
	ck_has(e.msg, "bare");
}
END_TEST

/* Wherever they end: nothing is wrong with it. */
START_TEST(few_descriptors)
{
	auto_obj(evaluator) ev = NULL;
	struct err e = { 0 };
	int r = -EMFILE, spare = 0;

	ck_ok(load("run = run.sh\n", &ev, &e), e);
	while (r < 0 && spare < 16) {
		auto_obj(evaluator) again = NULL;

		r = load_with(spare++, "ev", &again, &e);
		if (r < 0)
			ck_assert_msg(e.kind == ERR_TRANSIENT, "with %d: %s", spare - 1, e.msg);
	}
	ck_assert_int_gt(spare, 2);
	ck_ok(r, e);
}
END_TEST

START_TEST(arguments)
{
	char seed[] = "--seed=42", v[] = "-v", wrong[] = "--seed=x";
	char *good[] = { seed, v, NULL }, *bad[] = { v, wrong, NULL };
	auto_obj(evaluator) ev = NULL;
	auto_obj(evaluator) none = NULL;
	auto_obj(evaluator) any = NULL;
	struct err e = { 0 };

	ck_ok(load("run = run.sh\nallow_args = {\"--seed=[0-9]*\", \"-v\"}\n", &ev, &e), e);
	ck_ok(evaluator_check_args(ev, good, &e), e);
	ck_ok(evaluator_check_args(ev, NULL, &e), e);
	ck_fails(evaluator_check_args(ev, bad, &e), EINVAL);
	ck_assert_str_eq(e.msg, "evaluator 'ev' does not allow the argument '--seed=x'");
	ck_assert_int_eq(e.kind, ERR_INPUT);
	ck_ok(evaluator_load(dir, "bare", &none, &e), e);
	ck_fails(evaluator_check_args(none, good, &e), EINVAL);
	ck_ok(load("run = run.sh\nallow_args = any\n", &any, &e), e);
	ck_ok(evaluator_check_args(any, bad, &e), e);
}
END_TEST

START_TEST(refused_levels)
{
	static const struct {
		const char *conf, *say;
	} t[] = {
		{ "run = run.sh\narch = vax\n", "asks for arch = \"vax\"" },
	};

	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		auto_obj(evaluator) ev = NULL;
		struct err e = { 0 };

		ck_ok(load(t[i].conf, &ev, &e), e);
		ck_fails(evaluator_runnable(ev, &e), ENOTSUP);
		ck_assert_int_eq(e.kind, ERR_HOST);
		ck_has(e.msg, t[i].say);
	}
}
END_TEST

START_TEST(plan)
{
	char seed[] = "--seed=1", group[] = "/sys/fs/cgroup/x";
	char *args[] = { seed, NULL };
	const struct limits asked = { .wall_usec = { [PHASE_RUN] = 5000000 } };
	const struct limits too_much = { .memory_bytes = 2u << 30 };
	const struct cgroup_host cg = { .v2 = group };
	struct evaluator_job job = {
		.evaluation = "42",
		.attempt = 1,
		.attempt_id = "0190b8a0-0000-7000-8000-000000000001",
		.args = args,
		.asked = &asked,
		.submission = "/var/sub",
		.state_dir = "/var/lib/zr",
		.log_cap = 1000,
		.cgroup = &cg,
	};
	auto_obj(evaluator) ev = NULL;
	auto_spec s = NULL;
	struct err e = { 0 };

	ck_ok(load("prepare = run.sh\nrun = \"run.sh x\"\nargs = y\nallow_args = any\nmemory = "
		   "1G\n",
		   &ev, &e),
	      e);
	ck_ok(evaluator_plan(ev, &job, &s, &e), e);
	ck_assert_str_eq(s->argv[PHASE_PREPARE][1], "/var/sub");
	ck_assert_str_eq(s->argv[PHASE_RUN][1], "x");
	ck_assert_str_eq(s->argv[PHASE_RUN][2], "y");
	ck_assert_str_eq(s->argv[PHASE_RUN][3], "--seed=1");
	ck_assert_str_eq(s->argv[PHASE_RUN][4], "/var/sub");
	ck_assert_ptr_null(s->argv[PHASE_RUN][5]);
	ck_assert_uint_eq(s->limits.wall_usec[PHASE_RUN], 5000000);
	ck_assert_uint_eq(s->limits.memory_bytes, 1u << 30);
	ck_assert_str_eq(s->sealed_dir, "/var/lib/zr/sealed");
	job.asked = &too_much;
	ck_fails(evaluator_plan(ev, &job, &s, &e), EINVAL);
	ck_has(e.msg, "asks for memory_bytes 2147483648, the evaluator allows 1073741824");
}
END_TEST

START_TEST(gpus)
{
	struct gpu two[] = {
		{ .uuid = "GPU-1", .major = 9, .memory_bytes = 79ull << 30 },
		{ .uuid = "GPU-2", .major = 8, .minor = 9, .memory_bytes = 24ull << 30 }
	};
	const struct gpu_list l = { .gpu = two, .n = 2 };
	auto_obj(evaluator) ev = NULL, *bad = NULL;
	auto_obj(gpu_request) q = NULL;
	struct err e = { 0 };

	ck_ok(load("run = run.sh\ngpus = 1\ngpu_arch = HOPPER\ngpu_memory = 80G\n"
		   "gpu_wait_limit = 5m\n",
		   &ev, &e),
	      e);
	ck_ok(evaluator_gpus(ev, &l, &q, &e), e);
	ck_assert_uint_eq(q->n, 1);
	ck_assert_str_eq(q->gpu[0].uuid, "GPU-1");
	ck_assert_uint_eq(q->wait_usec, 300000000);
	/* Its mode lets nobody use it. */
	two[0].prohibited = true;
	gpu_request_free(q);
	q = NULL;
	ck_fails(evaluator_gpus(ev, &l, &q, &e), ENODEV);
	ck_has(e.msg, "evaluator 'ev' asks for 1 GPU of architecture HOPPER with 80.0 GiB, and of "
		      "the 2 of this host 0 fit");
	ck_fails(load("run = run.sh\ngpus = 1\ngpu_arch = hoper\n", &bad, &e), EINVAL);
	ck_has(e.msg, ":3: 'gpu_arch' is 'hoper' (want Volta");
	ck_fails(load("run = run.sh\ngpu_memory = 1G\n", &bad, &e), EINVAL);
	ck_has(e.msg, ":2: 'gpu_arch' and 'gpu_memory' are of no use without 'gpus'");
}
END_TEST

START_TEST(plan_of_a_sandbox)
{
	const struct cgroup_host cg = { .v2 = NULL };
	const struct evaluator_job job = {
		.evaluation = "42",
		.attempt = 1,
		.attempt_id = "0190b8a0-0000-7000-8000-000000000001",
		.submission = "/var/sub",
		.state_dir = "/var/lib/zr",
		.cgroup = &cg,
	};
	auto_obj(evaluator) ev = NULL;
	auto_free char *path = NULL;
	auto_spec s = NULL;
	struct err e = { 0 };

	ck_ok(load("run = run.sh\nscore = run.sh\nisolation = sandbox\nnetwork = yes\npids = 7\n"
		   "mounts = {\"/data\", \"/opt/cuda\"}\nreference = {\"labels\"}\n"
		   "beside = {\"judge\"}\n",
		   &ev, &e),
	      e);
	ck_ok(evaluator_plan(ev, &job, &s, &e), e);
	ck_assert_int_eq(s->sandbox.level, ISOLATION_SANDBOX);
	ck_assert(s->sandbox.network && !s->sandbox.bare && !s->sandbox.data);
	ck_assert_str_eq(s->sandbox.mounts[1], "/opt/cuda");
	ck_assert_str_eq(s->sandbox.reference[0], "labels");
	ck_assert_int_ge(str_fmt(&path, "%s/judge", dir), 0);
	ck_assert_str_eq(s->sandbox.beside[0], path);
	/* What the file leaves out is limited too. */
	ck_assert_uint_eq(s->limits.pids, 7);
	ck_assert_uint_eq(s->limits.memory_bytes, 4ull << 30);
	ck_assert_uint_eq(s->limits.disk_bytes, 1ull << 30);
}
END_TEST

START_TEST(listing)
{
	struct evaluator_entry *list;
	struct err e = { 0 };
	size_t n;

	put("ev/evaluator.conf", "run = run.sh\n", 0644);
	folder("broken");
	ck_ok(evaluator_list(dir, &list, &n, &e), e);
	ck_assert_uint_eq(n, 3);
	ck_assert_str_eq(list[0].name, "bare");
	ck_assert_str_eq(list[1].name, "broken");
	ck_assert_ptr_null(list[1].ev);
	ck_has(list[1].error, "broken/evaluator.conf is missing");
	ck_assert_str_eq(list[2].name, "ev");
	ck_assert_ptr_nonnull(list[2].ev);
	evaluator_list_free(list, n);
}
END_TEST

static void tests(TCase *t)
{
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, full);
	tcase_add_test(t, no_descriptors);
	tcase_add_test(t, few_descriptors);
	tcase_add_test(t, defaults);
	tcase_add_loop_test(t, bad_file, 0, ARRAY_LEN(bad_files));
	tcase_add_loop_test(t, bad_name, 0, ARRAY_LEN(bad_names));
	tcase_add_test(t, arguments);
	tcase_add_test(t, refused_levels);
	tcase_add_test(t, plan);
	tcase_add_test(t, gpus);
	tcase_add_test(t, plan_of_a_sandbox);
	tcase_add_test(t, listing);
}

int main(void)
{
	return unit_main("exec/evaluator", tests);
}

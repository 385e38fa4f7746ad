/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "base/str.h"
#include "exec/result.h"
#include "exec/spec.h"

#include "unit.h"

#define UUID "0190b8a0-0000-7000-8000-000000000001"
#define HEAD                                                                                       \
	"{\"zr_box\":1,\"evaluation\":\"42\",\"attempt\":1,\"attempt_id\":\"" UUID                 \
	"\",\"evaluator\":\"ev\",\"submission\":\"/s\",\"evaluator_dir\":\"/e\","                  \
	"\"sealed_dir\":\"/z\""
#define CONTAINER ",\"isolation\":{\"level\":\"container\"},\"container\":"
#define RUN       ",\"phases\":[{\"name\":\"run\",\"argv\":[\"/e/run.sh\",\"x\"]}]"

START_TEST(round_trip)
{
	static const char text[] =
		HEAD ",\"log_cap\":1000,\"log_stop\":true,\"term_grace_usec\":2000000,"
		     "\"lease_usec\":604800000000,\"attended\":true,"
		     "\"scores_file\":\"scores.json\",\"scores_required\":true,"
		     "\"progress_pattern\":\"([0-9]+)%\",\"phases\":["
		     "{\"name\":\"prepare\",\"argv\":[\"/e/p\"]},"
		     "{\"name\":\"run\",\"argv\":[\"/e/r\",\"a b\",\"\"]},"
		     "{\"name\":\"score\",\"argv\":[\"/e/s\"]}],"
		     "\"limits\":{\"wall_usec\":5,\"pids\":3},\"env\":[\"A=1\"],"
		     "\"cgroup\":{\"v2\":\"/c\",\"v1_memory\":\"/m\"},"
		     "\"isolation\":{\"level\":\"sandbox\",\"network\":true,\"bare\":false,"
		     "\"data\":true,\"stop\":true,\"writes\":true,\"mounts\":[\"/"
		     "data\"],\"beside\":[\"/bin/judge\"],\"reference\":[\"labels\",\"/r\"]},"
		     "\"claim\":{\"any\":[1,{}]}}";
	auto_free char *out = NULL;
	auto_spec s = NULL;
	struct err e = { 0 };

	ck_ok(spec_parse(text, strlen(text), &s, &e), e);
	ck_assert_str_eq(s->argv[PHASE_RUN][1], "a b");
	ck_assert_str_eq(s->argv[PHASE_RUN][2], "");
	ck_assert_uint_eq(s->limits.pids, 3);
	ck_assert_str_eq(s->cgroup.v1_memory, "/m");
	ck_assert_uint_eq(s->lease_usec, LEASE_USEC_MAX);
	ck_assert(s->log_stop && s->scores_required && s->attended);
	ck_assert_int_eq(s->sandbox.level, ISOLATION_SANDBOX);
	ck_assert(s->sandbox.network && s->sandbox.data && !s->sandbox.bare);
	ck_assert_str_eq(s->sandbox.reference[1], "/r");
	ck_ok(spec_text(s, &out, &e), e);
	ck_assert_str_eq(out, text);
}
END_TEST

START_TEST(host_program)
{
	static const char text[] = HEAD ",\"environ_file\":\"/w/environ\",\"work_dir\":\"/w\","
					"\"called\":\"python\"" RUN ",\"limits\":{},\"cgroup\":{}}";
	auto_free char *out = NULL;
	auto_spec s = NULL;
	struct err e = { 0 };

	ck_ok(spec_parse(text, strlen(text), &s, &e), e);
	ck_assert_str_eq(s->environ_file, "/w/environ");
	ck_assert_str_eq(s->work_dir, "/w");
	ck_assert_str_eq(s->called, "python");
	ck_ok(spec_text(s, &out, &e), e);
	ck_assert_str_eq(out, text);
}
END_TEST

static const struct {
	const char *text, *say;
} refused_texts[] = {
	{ HEAD RUN ",\"environ_file\":\"environ\"}", "environ_file" },
	{ HEAD RUN ",\"called\":\"a/b\"}", "called" },
	{ HEAD RUN ",\"work_dir\":\"/w\",\"isolation\":{\"level\":\"sandbox\"}}",
	  "go with isolation \"none\"" },
	{ "[]", "not an object" },
	{ HEAD "}", "'phases' is missing" },
	{ HEAD ",\"phases\":[]}", "there is no phase 'run'" },
	{ HEAD RUN ",\"zz\":1}", "there is no member 'zz'" },
	{ HEAD RUN ",\"claim\":[]}", "'claim' is not an object" },
	{ HEAD RUN ",\"isolation\":{\"level\":\"container\"}}", "goes with isolation" },
	{ HEAD RUN CONTAINER "{\"engine\":\"podman\"}}", "want 'image' or 'imported'" },
	{ HEAD RUN CONTAINER "{\"engine\":\"podman\",\"image\":\"--privileged\"}}", "'image' is" },
	{ HEAD RUN CONTAINER "{\"engine\":\"podman\",\"image\":\"a\",\"digest\":\"x\"}}",
	  "'digest' is" },
	{ HEAD RUN CONTAINER "{\"engine\":\"podman\",\"image\":\"a\",\"zz\":1}}",
	  "there is no member 'zz'" },
	{ HEAD RUN ",\"env\":[\"A\"]}", "without '='" },
	{ HEAD RUN ",\"limits\":{\"wall_usec\":0}}", "outside 1" },
	{ HEAD RUN ",\"limits\":{\"gpus\":1}}", "there is no limit 'gpus'" },
	{ HEAD RUN ",\"cgroup\":{\"v2\":\"relative\"}}", "bad value for 'v2'" },
	{ HEAD RUN ",\"cgroup\":{\"x\":1}}", "there is no member 'x'" },
	{ HEAD RUN ",\"isolation\":{}}", "isolation: 'level' is missing" },
	{ HEAD RUN ",\"isolation\":{\"level\":\"jail\"}}", "there is no level 'jail'" },
	{ HEAD RUN ",\"isolation\":{\"level\":\"sandbox\",\"x\":1}}", "no member 'x'" },
	{ HEAD RUN ",\"isolation\":{\"level\":\"sandbox\",\"mounts\":[\"a\"]}}",
	  "'mounts' has the path 'a': it is not absolute" },
	{ HEAD RUN ",\"isolation\":{\"level\":\"sandbox\",\"reference\":[\"../a\"]}}", "'..'" },
	{ HEAD RUN ",\"scores_file\":\"a/b\"}", "bad value for 'scores_file'" },
	{ HEAD RUN ",\"scores_file\":\"..\"}", "bad value for 'scores_file'" },
	{ HEAD RUN ",\"log_cap\":-1}", "'log_cap' is -1" },
	{ HEAD RUN ",\"lease_usec\":604800000001}", "'lease_usec' is more than 7 days" },
	{ HEAD RUN ",\"lease_usec\":-1}", "'lease_usec' is -1" },
	{ HEAD RUN ",\"lease_usec\":\"1m\"}", "'lease_usec'" },
	{ HEAD ",\"phases\":[{\"name\":\"run\",\"argv\":[\"run.sh\"]}]}", "not an absolute path" },
	{ HEAD ",\"phases\":[{\"name\":\"run\",\"argv\":[]}]}", "not an absolute path" },
	{ HEAD ",\"phases\":[{\"name\":\"run\",\"argv\":[1]}]}", "not a list of texts" },
	{ HEAD ",\"phases\":[{\"name\":\"run\",\"argv\":[\"/x\"],\"cwd\":\"/\"}]}",
	  "there is no member 'cwd'" },
	{ HEAD ",\"phases\":[{\"name\":\"score\",\"argv\":[\"/x\"]},"
	       "{\"name\":\"run\",\"argv\":[\"/x\"]}]}",
	  "out of order" },
	{ "{\"zr_box\":2}", "'zr_box' is 2" },
	{ "{\"zr_box\":1,\"evaluation\":\"../x\"}", "bad value for 'evaluation'" },
};

START_TEST(refused)
{
	struct box_spec *s = NULL;
	struct err e = { 0 };

	ck_fails(spec_parse(refused_texts[_i].text, strlen(refused_texts[_i].text), &s, &e),
		 EINVAL);
	ck_has(e.msg, refused_texts[_i].say);
	ck_assert_ptr_null(s);
}
END_TEST

START_TEST(lowering)
{
	struct limits l = { .memory_bytes = 100, .pids = 0 };
	const struct limits ask = { .memory_bytes = 50, .pids = 7 };
	const struct limits more = { .pids = 8 };
	struct err e = { 0 };

	ck_ok(limits_lower(&l, &ask, &e), e);
	ck_assert_uint_eq(l.memory_bytes, 50);
	ck_assert_uint_eq(l.pids, 7);
	ck_fails(limits_lower(&l, &more, &e), EINVAL);
	ck_assert_uint_eq(l.pids, 7);
}
END_TEST

START_TEST(result_round_trip)
{
	static const char text[] =
		"{\"reason\":\"exit\",\"detail\":\"d\",\"exit_code\":3,\"signal\":null,"
		"\"phase\":\"score\",\"scores\":{\"a\":1.5},\"scores_error\":null,"
		"\"root_hash\":\"sha256:"
		"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\","
		"\"result_bytes\":77,\"started_at\":\"2026-11-21T23:00:00.123456Z\","
		"\"finished_at\":\"2026-11-21T23:00:01.000000Z\",\"usage\":{\"wall_usec\":1,"
		"\"cpu_usec\":2,\"memory_peak_bytes\":null},\"log\":{\"out_bytes\":3,"
		"\"err_bytes\":4,\"truncated\":true},\"isolation\":{\"level\":\"none\"}}";
	auto_done(box_result) r;
	json_t *in = json_loads(text, 0, NULL), *out;
	auto_free char *back = NULL;
	struct err e = { 0 };

	box_result_init(&r);
	ck_ok(box_result_from_json(in, &r, &e), e);
	ck_assert_int_eq(r.reason, BOX_EXIT);
	ck_assert_uint_eq(r.memory_peak_bytes, BOX_UNKNOWN);
	out = box_result_json(&r);
	back = json_dumps(out, JSON_COMPACT);
	ck_assert_str_eq(back, text);
	ck_assert(!r.keeper_died);
	json_decref(in);
	json_decref(out);
}
END_TEST

START_TEST(result_keeper_died)
{
	static const char text[] = "{\"reason\":\"lost\",\"phase\":\"run\",\"keeper_died\":true}";
	static const char bad[] = "{\"reason\":\"lost\",\"phase\":\"run\",\"keeper_died\":1}";
	auto_done(box_result) r;
	json_t *in = json_loads(text, 0, NULL), *wrong = json_loads(bad, 0, NULL), *out;
	struct err e = { 0 };

	box_result_init(&r);
	ck_fails(box_result_from_json(wrong, &r, &e), EINVAL);
	ck_ok(box_result_from_json(in, &r, &e), e);
	ck_assert(r.keeper_died);
	out = box_result_json(&r);
	ck_assert(json_is_true(json_object_get(out, "keeper_died")));
	json_decref(in);
	json_decref(wrong);
	json_decref(out);
}
END_TEST

START_TEST(result_empty)
{
	auto_done(box_result) r;
	json_t *o;

	box_result_init(&r);
	r.detail = strdup("\xff is not UTF-8");
	o = box_result_json(&r);
	ck_assert_ptr_nonnull(o);
	ck_assert(json_is_null(json_object_get(o, "scores")));
	ck_assert(json_is_null(json_object_get(o, "exit_code")));
	ck_assert(json_is_null(json_object_get(o, "isolation")));
	json_decref(o);
}
END_TEST

static void tests(TCase *t)
{
	tcase_add_test(t, round_trip);
	tcase_add_test(t, host_program);
	tcase_add_loop_test(t, refused, 0, ARRAY_LEN(refused_texts));
	tcase_add_test(t, lowering);
	tcase_add_test(t, result_round_trip);
	tcase_add_test(t, result_keeper_died);
	tcase_add_test(t, result_empty);
}

int main(void)
{
	return unit_main("exec/spec", tests);
}

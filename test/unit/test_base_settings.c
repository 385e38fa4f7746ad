/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/conf.h"
#include "base/fd.h"
#include "base/settings.h"
#include "base/time.h"

#include "unit.h"

static char dir[32], file[64], drop_ins[64];

static void setup(void)
{
	unsetenv("AMQP_URL");
	unsetenv("DATABASE_URL");
	unsetenv("ZR_BIN");
	unsetenv("ZR_CONF");
	unsetenv("CREDENTIALS_DIRECTORY");
	snprintf(file, sizeof(file), "%s/zr.conf", unit_mkdir(dir));
	snprintf(drop_ins, sizeof(drop_ins), "%s/conf.d", dir);
}

static void teardown(void)
{
	unit_rmdir(dir);
}

static void put(const char *text, mode_t mode)
{
	struct err e = { 0 };

	ck_assert_int_eq(fd_write_file(AT_FDCWD, file, text, strlen(text), mode, false, &e), 0);
}

static void put_drop_in(const char *name, const char *text, mode_t mode)
{
	auto_close int fd = -1;
	struct err e = { 0 };

	ck_ok(fd_make_dir(drop_ins, 0700, &fd, &e), e);
	ck_ok(fd_write_file(fd, name, text, strlen(text), mode, false, &e), e);
}

/* The words of the error, without the folder. */
static const char *load_error(const char *text)
{
	static struct err e;
	struct settings *s = NULL;

	put(text, 0600);
	e = (struct err){ 0 };
	ck_assert_int_lt(settings_load(file, &s, &e), 0);
	ck_assert_int_eq(e.kind, ERR_INPUT);
	ck_assert(strncmp(e.msg, dir, strlen(dir)) == 0);
	return e.msg + strlen(dir) + 1;
}

START_TEST(errors_name_file_and_line)
{
	static const struct {
		const char *text, *error;
	} t[] = {
		{ "# a\n# b\n\nlease = 64Q\n",
		  "zr.conf:4: bad value for 'lease': '64Q' (want e.g. 90s, 5m, 2h)" },
		{ "# c\nzz = 1\n", "zr.conf:2: no such option 'zz'" },
		{ "lease = 5s\n\nlease = 6s\n", "zr.conf:3: 'lease' is given twice" },
		{ "host \"a\" {\n  port = 7\n",
		  "zr.conf:3: missing '}' before the end of the file" },
		{ "host \"../a\" { }\n",
		  "zr.conf: bad value for 'host': '../a' (want letters, digits, '.', '_', '-')" },
		{ "host \"a\" { port = 70000 }\n",
		  "zr.conf: host 'a': port 70000 is outside 1 to 65535" },
		{ "submissions_url = \"http://h/p\"\n",
		  "zr.conf: bad value for 'submissions_url': 'http://h/p' (want file:///PATH or "
		  "ssh://HOST/PATH)" },
		{ "infrastructure_retries = -1\n",
		  "zr.conf: bad value for 'infrastructure_retries': '-1' (want 0 to 100)" },
		{ "amqp_heartbeat = 1s\n",
		  "zr.conf: bad value for 'amqp_heartbeat': '1s' (want 5s to 1m)" },
	};

	ck_assert_str_eq(load_error(t[_i].text), t[_i].error);
}
END_TEST

START_TEST(values)
{
	auto_obj(settings) s = NULL;
	struct err e = { 0 };

	put("hostname = \"h1\"\npool = {\"a\", \"b\"}\nstate_dir = \"/s\"\nlog_cap = 64K\n"
	    "host \"oberon\" { address = \"127.0.0.1\" port = 2222 }\n",
	    0644);
	ck_assert_msg(settings_load(file, &s, &e) == 0, "%s", e.msg);
	ck_assert_str_eq(s->host, "h1");
	ck_assert_str_eq(s->pools[1], "b");
	ck_assert_str_eq(s->results_dir, "/s/results");
	ck_assert_str_eq(s->submissions_url, "ssh://h1/s/submissions");
	ck_assert_uint_eq(s->log_cap, 65536);
	ck_assert_uint_eq(s->lease_usec, 60000000);
	ck_assert_uint_eq(settings_find_host(s, "oberon")->port, 2222);
	ck_assert_ptr_null(settings_find_host(s, "titania"));
}
END_TEST

START_TEST(environment_wins)
{
	auto_obj(settings) s = NULL;
	struct err e = { 0 };

	setenv("AMQP_URL", "amqp://env", 1);
	put("amqp_url = \"amqp://file\"\n", 0600);
	ck_assert_int_eq(settings_load(file, &s, &e), 0);
	ck_assert_str_eq(s->amqp_url, "amqp://env");
}
END_TEST

START_TEST(open_secret_is_refused)
{
	struct settings *s = NULL;
	struct err e = { 0 };

	put("amqp_url = \"amqp://u:p@h\"\n", 0644);
	ck_assert_int_eq(settings_load(file, &s, &e), -EINVAL);
	ck_assert_ptr_nonnull(strstr(e.msg, "is open to everybody"));
	ck_assert_ptr_null(strstr(e.msg, "u:p"));
}
END_TEST

START_TEST(each_file_answers_for_its_own_secrets)
{
	auto_obj(settings) s = NULL;
	struct err e = { 0 };

	put("amqp_url = \"amqp://u:p@h\"\n", 0600);
	put_drop_in("10-pool.conf", "pool = {\"b\"}\n", 0644);
	put_drop_in("ignored.txt", "zz\n", 0644);
	ck_ok(settings_load(file, &s, &e), e);
	ck_assert_str_eq(s->amqp_url, "amqp://u:p@h");
	ck_assert_str_eq(s->pools[0], "b");
	ck_assert_ptr_null(s->pools[1]);
	put_drop_in("20-url.conf", "database_url = \"postgresql://u:p@h/d\"\n", 0644);
	settings_free(s);
	s = NULL;
	ck_fails(settings_load(file, &s, &e), EINVAL);
	ck_has(e.msg, "20-url.conf: holds 'database_url'");
}
END_TEST

static const char *origin_of(const char *key)
{
	struct settings_key *keys;
	const char *origin = "?";
	struct err e = { 0 };
	size_t n;

	ck_ok(settings_list(file, &keys, &n, &e), e);
	for (size_t i = 0; i < n; i++) {
		if (strcmp(keys[i].name, key) == 0)
			origin = keys[i].origin;
		ck_assert_msg(!strstr(keys[i].value, "secret"), "%s", keys[i].name);
	}
	settings_list_free(keys, n);
	return origin;
}

START_TEST(credentials)
{
	auto_obj(settings) s = NULL;
	struct err e = { 0 };

	put("amqp_url = \"amqp://file\"\npool = {\"a\"}\n", 0600);
	put_drop_in("amqp_url", "amqp://u:secret@credential\n", 0400);
	setenv("CREDENTIALS_DIRECTORY", drop_ins, 1);
	ck_ok(settings_load(file, &s, &e), e);
	ck_assert_str_eq(s->amqp_url, "amqp://u:secret@credential");
	ck_assert_str_eq(origin_of("amqp_url"), "credential");
	ck_assert_str_eq(origin_of("pool"), "file");
	ck_assert_str_eq(origin_of("lease"), "default");
	setenv("AMQP_URL", "amqp://u:secret@env", 1);
	ck_assert_str_eq(origin_of("amqp_url"), "environment");
}
END_TEST

START_TEST(which_file)
{
	auto_obj(settings) s = NULL;
	struct err e = { 0 };

	ck_fails(settings_load("/nonexistent/zr.conf", &s, &e), EINVAL);
	ck_assert_str_eq(e.msg, "/nonexistent/zr.conf: no such file");
	put("hostname = \"named\"\n", 0600);
	setenv("ZR_CONF", file, 1);
	ck_ok(settings_load(NULL, &s, &e), e);
	ck_assert_str_eq(s->host, "named");
	ck_assert_str_eq(s->file, file);
}
END_TEST

START_TEST(template_is_valid)
{
	auto_free char *text = NULL;
	auto_obj(settings) s = NULL;
	struct err e = { 0 };
	char *p;

	ck_assert_int_eq(settings_template(&text, &e), 0);
	put(text, 0600);
	ck_assert_msg(settings_load(file, &s, &e) == 0, "%s", e.msg);
	/* Uncommented, every key parses; an empty value may be refused afterwards. */
	for (p = text; (p = strstr(p, "\n#")); p++)
		if (p[2] != ' ')
			p[1] = ' ';
	settings_free(s);
	s = NULL;
	put(text, 0600);
	ck_fails(settings_load(file, &s, &e), EINVAL);
	ck_has(e.msg, ": bad value for '");
}
END_TEST

START_TEST(what_may_change_is_taken_over)
{
	auto_obj(settings) s = NULL;
	auto_obj(settings) fresh = NULL;
	auto_done(settings_changes) c = { 0 };
	auto_done(settings_changes) none = { 0 };
	struct err e = { 0 };

	put("hostname = h\nlog_cap = 1M\nlease = 60s\nssh_key = \"/a\"\npool = {\"a\"}\n"
	    "host \"x\" { address = \"one\" }\n",
	    0600);
	ck_ok(settings_load(file, &s, &e), e);
	put("hostname = h\nlog_cap = 2M\nlease = 61s\nssh_key = \"/b\"\npool = {\"a\", \"b\"}\n"
	    "host \"x\" { address = \"two\" }\nhost \"y\" { }\n",
	    0600);
	ck_ok(settings_load(file, &fresh, &e), e);
	ck_ok(settings_apply(s, fresh, &c, &e), e);
	ck_assert_str_eq(c.applied.data, "ssh_key, log_cap, host");
	ck_assert_str_eq(c.restart.data, "pool, lease");
	ck_assert_uint_eq(s->log_cap, 2 << 20);
	ck_assert_str_eq(s->ssh_key, "/b");
	ck_assert_str_eq(fresh->ssh_key, "/a");
	ck_assert_uint_eq(s->n_hosts, 2);
	ck_assert_str_eq(settings_find_host(s, "x")->address, "two");
	ck_assert_uint_eq(s->lease_usec, 60 * USEC_PER_SEC);
	ck_assert_ptr_null(s->pools[1]);

	settings_free(take_ptr(fresh));
	ck_ok(settings_load(file, &fresh, &e), e);
	ck_ok(settings_apply(s, fresh, &none, &e), e);
	ck_assert_ptr_null(none.applied.data);
	ck_assert_str_eq(none.restart.data, "pool, lease");
}
END_TEST

static void tests(TCase *t)
{
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, errors_name_file_and_line, 0, 8);
	tcase_add_test(t, values);
	tcase_add_test(t, environment_wins);
	tcase_add_test(t, open_secret_is_refused);
	tcase_add_test(t, each_file_answers_for_its_own_secrets);
	tcase_add_test(t, credentials);
	tcase_add_test(t, which_file);
	tcase_add_test(t, template_is_valid);
	tcase_add_test(t, what_may_change_is_taken_over);
}

int main(void)
{
	return unit_main("base/settings", tests);
}

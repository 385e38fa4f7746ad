/* SPDX-License-Identifier: MIT */
#include "base/conf.h"

#include "unit.h"

static cfg_opt_t section[] = {
	CFG_STR("address", NULL, CFGF_NONE),
	CFG_INT("port", 22, CFGF_NONE),
	CFG_STR_LIST("alias", NULL, CFGF_NODEFAULT),
	CFG_END(),
};

static cfg_t *cfg;
static struct err e;

static void setup(void)
{
	cfg_opt_t opts[] = {
		CFG_STR("name", NULL, CFGF_NODEFAULT),
		CFG_STR("other", "o", CFGF_NONE),
		CFG_STR_LIST("pool", NULL, CFGF_NODEFAULT),
		CFG_BOOL("timing", cfg_false, CFGF_NONE),
		CONF_SIZE("memory", 0, CFGF_NODEFAULT),
		CONF_SPAN("lease", 0, CFGF_NODEFAULT),
		CFG_SEC("host", section, CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES),
		CONF_END,
	};

	e = (struct err){ 0 };
	ck_ok(conf_new(opts, &cfg, &e), e);
}

static void teardown(void)
{
	conf_free(cfg);
}

static int text(const char *s)
{
	return conf_text(cfg, "f", s, strlen(s), &e);
}

START_TEST(values_of_every_kind)
{
	cfg_t *host;

	ck_ok(text("name = 'x' # rest\n  # comment\ntiming = yes\nmemory = 64K\nlease = 1m30s\n"
		   "host \"a\" {\n  port = 7\n  alias = {\"b\"}\n}\nhost \"c\" { alias = {\"d\"} "
		   "}"),
	      e);
	ck_assert_str_eq(cfg_getstr(cfg, "name"), "x");
	ck_assert_int_eq(cfg_getbool(cfg, "timing"), cfg_true);
	ck_assert_int_eq(cfg_getint(cfg, "memory"), 65536);
	ck_assert_int_eq(cfg_getint(cfg, "lease"), 90000000);
	ck_assert_uint_eq(cfg_size(cfg, "host"), 2);
	host = cfg_getnsec(cfg, "host", 0);
	ck_assert_str_eq(cfg_title(host), "a");
	ck_assert_int_eq(cfg_getint(host, "port"), 7);
	ck_assert_str_eq(cfg_getstr(host, "alias"), "b");
	ck_assert_int_eq(cfg_getint(cfg_getnsec(cfg, "host", 1), "port"), 22);
}
END_TEST

START_TEST(lists_of_any_length)
{
	static const struct {
		const char *text;
		unsigned n;
	} t[] = {
		{ "pool = {}", 0 },
		{ "pool = {\"a\"}", 1 },
		{ "pool = {\n\"a\"\n}\n", 1 },
		{ "pool = {\"a\", \"b\"}", 2 },
		{ "pool = {\"a\",\n\"a\",\n\"a\"}", 3 },
		{ "pool = \"a\"", 1 },
	};

	ck_ok(text(t[_i].text), e);
	ck_assert_uint_eq(cfg_size(cfg, "pool"), t[_i].n);
}
END_TEST

START_TEST(errors_have_words_and_a_line)
{
	static const struct {
		const char *text, *error;
	} t[] = {
		{ "# a\n # b\n\nzz = 1", "f:4: no such option 'zz'" },
		{ "name = a\nname = b", "f:2: 'name' is given twice" },
		{ "pool = {\"a\"}\npool = {\"b\"}", "f:2: 'pool' is given twice" },
		{ "pool = {\"a\"} pool = {\"a\"}", "f:1: 'pool' is given twice" },
		{ "pool = {\"a\", \"b\"}\npool = {\"b\"}", "f:2: 'pool' is given twice" },
		{ "pool = a\npool = b", "f:2: 'pool' is given twice" },
		{ "pool = {\"a\"}\npool += {\"b\"}\npool = {\"c\"}", "f:3: 'pool' is given twice" },
		{ "pool = {\"a\"\n", "f:2: missing '}' before the end of the file" },
		{ "host \"a\" {\nport = 1\nport = 1\n}", "f:3: 'port' is given twice" },
		{ "host \"a\" {\nport = 1\n", "f:3: missing '}' before the end of the file" },
		{ "host \"a\" {\nport = 1", "f:3: missing '}' before the end of the file" },
		{ "memory = 64Q", "f:1: bad value for 'memory': '64Q' (want e.g. 512M)" },
		{ "memory = 9999999T", "f:1: bad value for 'memory': '9999999T' (want e.g. 512M)" },
		{ "lease = -1", "f:1: bad value for 'lease': '-1' (want e.g. 90s, 5m, 2h)" },
		{ "timing = 1", "f:1: invalid boolean value for option 'timing'" },
		{ "host \"a\" {}\nhost \"a\" {}", "f:2: found duplicate title 'a'" },
		{ "}", "f:1: unexpected closing brace" },
		{ "name = \"a", "f:3: missing '\"' before the end of the file" },
		{ "host \"a\" { port = x }", "f:1: invalid integer value for option 'port'" },
		{ "name = \"a\x1b[1m\" zz\x1b = 2", "f:1: no such option 'zz\\x1b'" },
	};

	ck_fails(text(t[_i].text), EINVAL);
	ck_assert_str_eq(e.msg, t[_i].error);
	ck_assert_int_eq(e.kind, ERR_INPUT);
}
END_TEST

START_TEST(nul_is_not_text)
{
	ck_fails(conf_text(cfg, "f", "name\0= 1", 8, &e), EINVAL);
	ck_assert_str_eq(e.msg, "f: a NUL byte is not text");
}
END_TEST

START_TEST(a_later_file_replaces_key_by_key)
{
	ck_ok(text("name = a\nother = b\npool = {\"a\", \"b\"}\n"), e);
	ck_ok(text("name = c\npool = {\"z\"}\n"), e);
	ck_assert_str_eq(cfg_getstr(cfg, "name"), "c");
	ck_assert_str_eq(cfg_getstr(cfg, "other"), "b");
	ck_assert_uint_eq(cfg_size(cfg, "pool"), 1);
	ck_assert_str_eq(cfg_getstr(cfg, "pool"), "z");
	ck_ok(text("pool += {\"y\"}\n"), e);
	ck_assert_uint_eq(cfg_size(cfg, "pool"), 2);
	ck_ok(text("pool = {}\n"), e);
	ck_assert_uint_eq(cfg_size(cfg, "pool"), 0);
}
END_TEST

START_TEST(usable_after_an_error)
{
	ck_fails(text("name = "), EINVAL);
	ck_fails(text("zz = 1"), EINVAL);
	ck_ok(text("name = a"), e);
	ck_ok(text(""), e);
	ck_assert_str_eq(cfg_getstr(cfg, "name"), "a");
}
END_TEST

START_TEST(files)
{
	char dir[32], name[64];

	snprintf(name, sizeof(name), "%s/a.conf", unit_mkdir(dir));
	ck_fails(conf_file(cfg, AT_FDCWD, name, &e), ENOENT);
	ck_ok(fd_write_file(AT_FDCWD, name, "name = a", 8, 0600, false, &e), e);
	ck_ok(conf_file(cfg, AT_FDCWD, name, &e), e);
	ck_ok(fd_write_file(AT_FDCWD, name, "zz = a", 6, 0600, false, &e), e);
	ck_fails(conf_file(cfg, AT_FDCWD, name, &e), EINVAL);
	ck_assert_int_eq(strncmp(e.msg, name, strlen(name)), 0);
	unit_rmdir(dir);
}
END_TEST

START_TEST(bad_values_found_later)
{
	ck_fails(conf_bad(&e, "f", "pool", "a\nb", "letters"), EINVAL);
	ck_assert_str_eq(e.msg, "f: bad value for 'pool': 'a\\x0ab' (want letters)");
}
END_TEST

static void tests(TCase *t)
{
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, values_of_every_kind);
	tcase_add_loop_test(t, lists_of_any_length, 0, 6);
	tcase_add_loop_test(t, errors_have_words_and_a_line, 0, 20);
	tcase_add_test(t, nul_is_not_text);
	tcase_add_test(t, a_later_file_replaces_key_by_key);
	tcase_add_test(t, usable_after_an_error);
	tcase_add_test(t, files);
	tcase_add_test(t, bad_values_found_later);
}

int main(void)
{
	return unit_main("base/conf", tests);
}

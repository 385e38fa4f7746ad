/* SPDX-License-Identifier: MIT */
#include <check.h>
#include <string.h>

#include "base/str.h"
#include "messaging/url.h"

static const struct {
	const char *text;
	bool tls, login;
	const char *user, *password, *host;
	unsigned port;
	const char *vhost, *where;
} good[] = {
	{ "amqp://", false, false, "guest", "guest", "localhost", 5672, "/",
	  "amqp://guest@localhost:5672/" },
	{ "amqp://h", false, false, "guest", "guest", "h", 5672, "/", "amqp://guest@h:5672/" },
	{ "amqp://h/", false, false, "guest", "guest", "h", 5672, "/", "amqp://guest@h:5672/" },
	{ "amqps://u:p@h:99/v", true, true, "u", "p", "h", 99, "v", "amqps://u@h:99/v" },
	{ "amqps://h", true, false, "guest", "guest", "h", 5671, "/", "amqps://guest@h:5671/" },
	{ "amqp://u:p%40%2f%3A@h/%2f", false, true, "u", "p@/:", "h", 5672, "/",
	  "amqp://u@h:5672/" },
	{ "amqp://u:a@b:c@h", false, true, "u", "a@b:c", "h", 5672, "/", "amqp://u@h:5672/" },
	{ "amqp://u@h", false, true, "u", "", "h", 5672, "/", "amqp://u@h:5672/" },
	{ "amqp://u:p@[::1]:5673/zr%2Ftest", false, true, "u", "p", "::1", 5673, "zr/test",
	  "amqp://u@[::1]:5673/zr/test" },
	{ "amqp://%C3%A9:p@h", false, true, "\xc3\xa9", "p", "h", 5672, "/",
	  "amqp://\xc3\xa9@h:5672/" },
};

START_TEST(parsed)
{
	auto_done(url) u = { 0 };
	auto_free char *where = NULL;
	struct err e = { 0 };

	ck_assert_msg(url_parse(good[_i].text, &u, &e) == 0, "%s: %s", good[_i].text, e.msg);
	ck_assert_int_eq(u.tls, good[_i].tls);
	ck_assert_int_eq(u.login, good[_i].login);
	ck_assert_str_eq(u.user, good[_i].user);
	ck_assert_str_eq(u.password, good[_i].password);
	ck_assert_str_eq(u.host, good[_i].host);
	ck_assert_uint_eq(u.port, good[_i].port);
	ck_assert_str_eq(u.vhost, good[_i].vhost);
	ck_assert_int_eq(url_where(&u, &where, &e), 0);
	ck_assert_str_eq(where, good[_i].where);
}
END_TEST

static const char *const bad[] = {
	"",
	"http://h",
	"amqp:/h",
	"amqp://u:S3CRET%@h",
	"amqp://u:S3CRET%4@h",
	"amqp://u:S3CRET%zz@h",
	"amqp://u:S3CRET%00@h",
	"amqp://u:S3CRET%0a@h",
	"amqp://u:S3CRET%ff@h",
	"amqp://u:S3CRET@h:0",
	"amqp://u:S3CRET@h:65536",
	"amqp://u:S3CRET@h:12x",
	"amqp://u:S3CRET@[::1",
	"amqp://u:S3CRET@[::1]x",
	"amqp://u:S3CRET@h/a/b",
	"amqp://u:S3CRET@h/?heartbeat=5",
};

START_TEST(refused)
{
	struct url u = { 0 };
	struct err e = { 0 };

	ck_assert_int_eq(url_parse(bad[_i], &u, &e), -EINVAL);
	ck_assert_int_eq(e.kind, ERR_INPUT);
	ck_assert_ptr_null(strstr(e.msg, "S3CRET"));
	ck_assert_ptr_nonnull(strstr(e.msg, "AMQP URL: "));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("messaging/url");
	TCase *t = tcase_create("url");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_loop_test(t, parsed, 0, (int)ARRAY_LEN(good));
	tcase_add_loop_test(t, refused, 0, (int)ARRAY_LEN(bad));
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}

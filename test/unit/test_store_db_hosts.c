/* SPDX-License-Identifier: MIT */
#include "store/db_hosts.h"

#include "unit.h"

static struct loop *loop;
static bool answered;
static struct err e;
static struct db_hosts *hosts;
static char line[3][512];
static size_t n;
static bool failed;

static void setup(void)
{
	ck_ok(loop_new(&loop, &e), e);
}

static void teardown(void)
{
	loop_free(loop);
}

static void on_hosts(unused_arg void *user, const struct db_addresses *a, const struct err *why)
{
	failed = !a;
	if (a) {
		n = a->n;
		snprintf(line[0], sizeof(line[0]), "%s", a->host.data);
		snprintf(line[1], sizeof(line[1]), "%s", a->hostaddr.data);
		snprintf(line[2], sizeof(line[2]), "%s", a->port.data);
	} else {
		snprintf(line[0], sizeof(line[0]), "%s", why->msg);
	}
	hosts = db_hosts_free(hosts);
	answered = true;
}

static void look_up(const char *names, const char *ports)
{
	answered = false;
	ck_ok(db_hosts_start(loop, names, ports, on_hosts, NULL, &hosts, &e), e);
	while (!answered)
		ck_ok(loop_turn(loop, USEC_INFINITY, &e), e);
}

static size_t words(const char *list)
{
	size_t k = 1;

	for (; *list; list++)
		k += *list == ',';
	return k;
}

START_TEST(what_is_a_name)
{
	ck_assert(!db_hosts_named(NULL));
	ck_assert(!db_hosts_named(""));
	ck_assert(!db_hosts_named("/run/postgresql,192.0.2.1,,2001:db8::1,@abstract"));
	ck_assert(db_hosts_named("/run/postgresql,db.example"));
}
END_TEST

/* As many entries in each list, whatever number of addresses a name has. */
START_TEST(lists)
{
	look_up("192.0.2.1,localhost,/run/postgresql", "5432,5433,5434");
	ck_assert(!failed);
	ck_assert_uint_ge(n, 3);
	for (size_t i = 0; i < 3; i++)
		ck_assert_uint_eq(words(line[i]), n);
	ck_assert(str_starts(line[0], "192.0.2.1,localhost"));
	ck_assert(str_ends(line[0], "localhost,/run/postgresql"));
	ck_assert(str_starts(line[1], ","));
	ck_assert(str_ends(line[1], ","));
	ck_assert(strstr(line[1], "127.0.0.1") || strstr(line[1], "::1"));
	ck_assert(str_starts(line[2], "5432,5433"));
	ck_assert(str_ends(line[2], "5433,5434"));
}
END_TEST

START_TEST(one_port_for_all)
{
	look_up("localhost,192.0.2.1", "5444");
	ck_assert(str_starts(line[2], "5444,5444"));
	look_up("localhost,192.0.2.1", NULL);
	ck_assert_uint_eq(words(line[2]), n);
	ck_assert_uint_eq(strspn(line[2], ","), n - 1);
}
END_TEST

START_TEST(unknown_names)
{
	look_up("no such host,localhost", "1,2");
	ck_assert(!failed);
	ck_assert(str_starts(line[0], "localhost"));
	ck_assert(str_starts(line[2], "2"));
	look_up("no such host,-x", NULL);
	ck_assert(failed);
	ck_has(line[0], "look up host '-x'");
}
END_TEST

static void tests(TCase *t)
{
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, what_is_a_name);
	tcase_add_test(t, lists);
	tcase_add_test(t, one_port_for_all);
	tcase_add_test(t, unknown_names);
}

int main(void)
{
	return unit_main("store/db_hosts", tests);
}

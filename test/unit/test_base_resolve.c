/* SPDX-License-Identifier: MIT */
#include "base/resolve.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/wait.h>

#include "unit.h"

static struct loop *loop;
static bool answered;
static struct err e, why;
static struct resolve_addrs found;
static struct resolve *lookup;

static void setup(void)
{
	ck_ok(loop_new(&loop, &e), e);
}

static void teardown(void)
{
	lookup = resolve_free(lookup);
	loop_free(loop);
}

static void on_answer(unused_arg void *user, const struct resolve_addrs *a, const struct err *w)
{
	if (a)
		found = *a;
	else
		why = *w;
	lookup = resolve_free(lookup);
	answered = true;
}

static void look_up(const char *host)
{
	answered = false;
	ck_ok(resolve_start(loop, host, 80, on_answer, NULL, &lookup, &e), e);
	while (!answered)
		ck_ok(loop_turn(loop, USEC_INFINITY, &e), e);
}

START_TEST(numbers)
{
	const struct sockaddr_in *v4 = (const void *)&found.addr[0].sa;
	const struct sockaddr_in6 *v6 = (const void *)&found.addr[0].sa;
	char text[64];

	ck_assert(resolve_numeric("192.0.2.7", 5672, &found));
	ck_assert_uint_eq(found.n, 1);
	ck_assert_int_eq(v4->sin_family, AF_INET);
	ck_assert_int_eq(ntohs(v4->sin_port), 5672);
	ck_assert_str_eq(inet_ntop(AF_INET, &v4->sin_addr, text, sizeof(text)), "192.0.2.7");
	ck_assert(resolve_numeric("2001:db8::1", 5432, &found));
	ck_assert_int_eq(v6->sin6_family, AF_INET6);
	ck_assert_int_eq(ntohs(v6->sin6_port), 5432);
	ck_assert_uint_eq(found.addr[0].len, sizeof(*v6));
}
END_TEST

START_TEST(no_numbers)
{
	static const char *const names[] = { "localhost", "", "1.2.3.4.5", "-x", "a b", "[::1]" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		ck_assert_msg(!resolve_numeric(names[i], 1, &found), "%s", names[i]);
}
END_TEST

START_TEST(the_hosts_file)
{
	look_up("localhost");
	ck_assert_uint_ge(found.n, 1);
	for (size_t i = 0; i < found.n; i++) {
		const struct sockaddr_in *v4 = (const void *)&found.addr[i].sa;
		const struct sockaddr_in6 *v6 = (const void *)&found.addr[i].sa;

		if (v4->sin_family == AF_INET)
			ck_assert_uint_eq(ntohl(v4->sin_addr.s_addr) >> 24, 127);
		else
			ck_assert(IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr));
		ck_assert_int_eq(ntohs(v4->sin_port), 80);
	}
}
END_TEST

/* Names that no resolver asks anybody about, and words that getent(1) could take for options. */
START_TEST(nobody)
{
	static const char *const names[] = { "a b", "-s", "--help", "--version", "" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		why = (struct err){ 0 };
		look_up(names[i]);
		ck_assert_uint_eq(found.n, 0);
		ck_has(why.msg, "look up host '");
		ck_assert_int_eq(why.kind, ERR_TRANSIENT);
	}
}
END_TEST

START_TEST(given_up)
{
	ck_ok(resolve_start(loop, "localhost", 80, on_answer, NULL, &lookup, &e), e);
	lookup = resolve_free(lookup);
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
	ck_assert_int_eq(errno, ECHILD);
}
END_TEST

static void tests(TCase *t)
{
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, numbers);
	tcase_add_test(t, no_numbers);
	tcase_add_test(t, the_hosts_file);
	tcase_add_test(t, nobody);
	tcase_add_test(t, given_up);
}

int main(void)
{
	return unit_main("base/resolve", tests);
}

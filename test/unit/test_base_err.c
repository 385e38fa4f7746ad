/* SPDX-License-Identifier: MIT */
#include "base/err.h"

#include "unit.h"

START_TEST(set_returns_minus_code)
{
	struct err e = { 0 };

	ck_assert_int_eq(err_set(&e, ENOENT, ERR_INPUT, "no %s", "x"), -ENOENT);
	ck_assert_int_eq(e.code, ENOENT);
	ck_assert_int_eq(e.kind, ERR_INPUT);
	ck_assert_str_eq(e.msg, "no x");
	ck_assert_int_eq(err_input(&e, "bad"), -EINVAL);
	ck_assert_int_eq(err_nomem(&e), -ENOMEM);
	ck_assert_int_eq(e.kind, ERR_TRANSIENT);
}
END_TEST

START_TEST(words_may_be_dropped)
{
	ck_assert_int_eq(err_set(NULL, ENOENT, ERR_HOST, "x"), -ENOENT);
	errno = EACCES;
	ck_assert_int_eq(err_sys(NULL, "x"), -EACCES);
	ck_assert_int_eq(err_errno(NULL, -EPIPE, "x"), -EPIPE);
	ck_assert_int_eq(err_nomem(NULL), -ENOMEM);
	ck_assert_int_lt(err_wrap(NULL, "x"), 0);
}
END_TEST

START_TEST(errno_becomes_text_and_kind)
{
	static const struct {
		int code;
		enum err_kind kind;
	} t[] = {
		{ EACCES, ERR_HOST },          { ENOENT, ERR_HOST },
		{ EAGAIN, ERR_TRANSIENT },     { ENOSPC, ERR_TRANSIENT },
		{ EDQUOT, ERR_TRANSIENT },     { EMFILE, ERR_TRANSIENT },
		{ ENFILE, ERR_TRANSIENT },     { ENOMEM, ERR_TRANSIENT },
		{ ECONNRESET, ERR_TRANSIENT }, { EHOSTUNREACH, ERR_TRANSIENT },
		{ EHOSTDOWN, ERR_TRANSIENT },  { ENETDOWN, ERR_TRANSIENT },
		{ ETIMEDOUT, ERR_TRANSIENT },
	};
	struct err e = { 0 };

	errno = t[_i].code;
	ck_fails(err_sys(&e, "open %s", "x"), t[_i].code);
	ck_assert_msg(e.kind == t[_i].kind, "%s", e.msg);
	ck_assert_int_eq(strncmp(e.msg, "open x: ", 8), 0);
	ck_has(e.msg, strerrordesc_np(t[_i].code));
}
END_TEST

START_TEST(an_error_without_a_number_is_still_one)
{
	struct err e = { 0 };

	errno = 0;
	ck_fails(err_sys(&e, "x"), EIO);
	ck_fails(err_errno(&e, 0, "x"), EIO);
	ck_fails(err_errno(&e, 99999, "x"), 99999);
	ck_assert_str_eq(e.msg, "x: unknown error");
}
END_TEST

START_TEST(wrap_puts_context_first)
{
	struct err e = { 0 };

	(void)err_set(&e, ENOENT, ERR_INPUT, "no file");
	ck_fails(err_wrap(&e, "job %d", 7), ENOENT);
	ck_assert_str_eq(e.msg, "job 7: no file");
	ck_assert_int_eq(e.kind, ERR_INPUT);
	e = (struct err){ 0 };
	ck_fails(err_wrap(&e, "nothing before"), EIO);
}
END_TEST

START_TEST(long_words_lose_their_end)
{
	char big[2000];
	struct err e = { 0 };

	memset(big, 'a', sizeof(big));
	big[sizeof(big) - 1] = '\0';
	(void)err_set(&e, EIO, ERR_HOST, "%s", big);
	ck_assert_uint_eq(strlen(e.msg), sizeof(e.msg) - 1);
	ck_fails(err_wrap(&e, "front"), EIO);
	ck_assert_uint_eq(strlen(e.msg), sizeof(e.msg) - 1);
	ck_assert_int_eq(strncmp(e.msg, "front: aaa", 10), 0);
	ck_fails(err_wrap(&e, "%s", big), EIO);
	ck_fails(err_errno(&e, EIO, "%s", big), EIO);
	ck_assert_uint_eq(strlen(e.msg), sizeof(e.msg) - 1);
}
END_TEST

static void tests(TCase *t)
{
	tcase_add_test(t, set_returns_minus_code);
	tcase_add_test(t, words_may_be_dropped);
	tcase_add_loop_test(t, errno_becomes_text_and_kind, 0, 13);
	tcase_add_test(t, an_error_without_a_number_is_still_one);
	tcase_add_test(t, wrap_puts_context_first);
	tcase_add_test(t, long_words_lose_their_end);
}

int main(void)
{
	return unit_main("base/err", tests);
}

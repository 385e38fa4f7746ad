/* SPDX-License-Identifier: MIT */
#include "messaging/dirpace.h"
#include "unit.h"

START_TEST(never_read_is_due)
{
	struct dirpace p = { 0 };

	ck_assert_uint_eq(dirpace_due(&p, 1000000, false, 0), 0);
	ck_assert_uint_eq(dirpace_due(&p, 1000000, false, 100000), 0);
}
END_TEST

START_TEST(reading_is_a_part_of_the_time)
{
	struct dirpace p = { 0 };

	dirpace_note(&p, 1000000, 1100000);
	for (int scan = 0; scan < 2; scan++) {
		ck_assert_uint_eq(dirpace_due(&p, 1100000, scan, 0), 400000);
		ck_assert_uint_eq(dirpace_due(&p, 1499999, scan, 1000), 1);
		ck_assert_uint_eq(dirpace_due(&p, 1500000, scan, 1000), 0);
	}
}
END_TEST

START_TEST(news_wait_while_much_waits)
{
	struct dirpace p = { 0 };

	dirpace_note(&p, 1000000, 1000010);
	ck_assert_uint_eq(dirpace_due(&p, 1000040, false, 199), 10);
	ck_assert_uint_eq(dirpace_due(&p, 1000040, true, 200), 10);
	ck_assert_uint_eq(dirpace_due(&p, 1000040, false, 200), 50000 - 30);
	ck_assert_uint_eq(dirpace_due(&p, 1050010, false, 200), 0);
}
END_TEST

static void tests(TCase *t)
{
	tcase_add_test(t, never_read_is_due);
	tcase_add_test(t, reading_is_a_part_of_the_time);
	tcase_add_test(t, news_wait_while_much_waits);
}

int main(void)
{
	return unit_main("messaging/dirpace", tests);
}

/* SPDX-License-Identifier: MIT */
#include "base/hash.h"

#include "unit.h"

static const char of_abc[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

static char *hex_of(char out[65], const char *const *pieces, size_t n)
{
	uint8_t sum[HASH_SIZE];
	struct hash h;

	hash_init(&h);
	for (size_t i = 0; i < n; i++)
		hash_add(&h, pieces[i], strlen(pieces[i]));
	hash_end(&h, sum);
	return hash_hex(out, sum);
}

/* FIPS 180-2, appendix B. */
START_TEST(known_sums)
{
	char out[65];

	ck_assert_str_eq(hex_of(out, (const char *const[]){ "abc" }, 1), of_abc);
	ck_assert_str_eq(hex_of(out, (const char *const[]){ "a", "", "bc" }, 3), of_abc);
	ck_assert_str_eq(hex_of(out, NULL, 0),
			 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}
END_TEST

START_TEST(ends_and_starts_anew)
{
	uint8_t a[HASH_SIZE], b[HASH_SIZE];
	struct hash h;

	hash_init(&h);
	hash_add(&h, "abc", 3);
	hash_end(&h, a);
	hash_add(&h, "abc", 3);
	hash_end(&h, b);
	ck_assert_mem_eq(a, b, HASH_SIZE);
}
END_TEST

START_TEST(text_both_ways)
{
	char hex[65], text[HASH_TEXT_MAX];
	uint8_t sum[HASH_SIZE];

	ck_assert_int_eq(hash_parse_hex(of_abc, sum), 0);
	ck_assert_int_eq(sum[0], 0xba);
	ck_assert_int_eq(sum[31], 0xad);
	ck_assert_str_eq(hash_hex(hex, sum), of_abc);
	ck_assert_int_eq(strncmp(hash_text(text, sum), "sha256:ba78", 11), 0);
	ck_assert_uint_eq(strlen(text), 71);
}
END_TEST

START_TEST(bad_text)
{
	static const char *const bad[] = {
		"",
		"ba78",
		"BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD",
		"ga7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
		"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad0",
		" a7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
	};
	uint8_t sum[HASH_SIZE];

	ck_fails(hash_parse_hex(bad[_i], sum), EINVAL);
}
END_TEST

static void tests(TCase *t)
{
	tcase_add_test(t, known_sums);
	tcase_add_test(t, ends_and_starts_anew);
	tcase_add_test(t, text_both_ways);
	tcase_add_loop_test(t, bad_text, 0, 6);
}

int main(void)
{
	return unit_main("base/hash", tests);
}

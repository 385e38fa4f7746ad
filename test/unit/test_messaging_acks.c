/* SPDX-License-Identifier: MIT */
#include <check.h>
#include <stdlib.h>

#include "messaging/acks.h"
#include "unit.h"

#define TAGS 300

enum fate {
	UNSETTLED,
	WANTED,
	ACKED,
	REJECTED,
};

static void settle_next(struct acks *a, enum fate *fate, uint64_t delivered)
{
	uint64_t tag, first;
	bool multiple;

	while (acks_next(a, &tag, &multiple)) {
		if (tag < 1 || tag > delivered || fate[tag] != WANTED)
			ck_abort_msg("tag %u cannot be acknowledged", (unsigned)tag);
		first = multiple ? 1 : tag;
		for (uint64_t t = first; t <= tag; t++) {
			if (fate[t] == UNSETTLED)
				ck_abort_msg("tag %u was not to be settled", (unsigned)t);
			if (fate[t] == WANTED)
				fate[t] = ACKED;
		}
	}
	for (uint64_t t = 1; t <= delivered; t++)
		if (fate[t] == WANTED)
			ck_abort_msg("tag %u was forgotten", (unsigned)t);
}

/* What a broker would make of it. */
static void walk(unsigned seed)
{
	enum fate fate[TAGS + 1] = { UNSETTLED };
	uint64_t delivered = 0;
	struct acks a = { 0 };

	srand(seed);
	for (int step = 0; step < 3000; step++) {
		uint64_t back = (uint64_t)(rand() % (seed % 2 ? 8 : 90)), tag;

		if (delivered < TAGS && rand() % 3 == 0)
			delivered++;
		tag = delivered > back ? delivered - back : 0;
		if (rand() % 5 == 0)
			settle_next(&a, fate, delivered);
		if (!tag || fate[tag] != UNSETTLED)
			continue;
		if (rand() % 6 == 0) {
			acks_settled(&a, tag, false);
			fate[tag] = REJECTED;
		} else if (acks_want(&a, tag)) {
			fate[tag] = WANTED;
		} else {
			acks_settled(&a, tag, false);
			fate[tag] = ACKED;
		}
	}
	settle_next(&a, fate, delivered);
}

START_TEST(nothing_else_is_acknowledged)
{
	for (unsigned seed = 0; seed < 200; seed++)
		walk(seed);
}
END_TEST

START_TEST(a_batch_is_one)
{
	struct acks a = { 0 };
	uint64_t tag;
	bool multiple;

	for (uint64_t t = 8; t >= 1; t--)
		ck_assert(acks_want(&a, t));
	ck_assert(acks_next(&a, &tag, &multiple));
	ck_assert(multiple);
	ck_assert_uint_eq(tag, 8);
	ck_assert(!acks_next(&a, &tag, &multiple));
	ck_assert(!acks_want(&a, 8));
	acks_settled(&a, 40, true);
	ck_assert_uint_eq(a.upto, 40);
	ck_assert(acks_want(&a, 104));
	ck_assert(!acks_want(&a, 105));
}
END_TEST

static void tests(TCase *t)
{
	tcase_add_test(t, nothing_else_is_acknowledged);
	tcase_add_test(t, a_batch_is_one);
}

int main(void)
{
	return unit_main("messaging/acks", tests);
}

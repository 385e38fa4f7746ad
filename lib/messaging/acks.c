/* SPDX-License-Identifier: MIT */
#include "messaging/acks.h"

#define WINDOW 64

static bool is_near(const struct acks *a, uint64_t tag)
{
	return tag > a->upto && tag - a->upto <= WINDOW;
}

static uint64_t bit_of(const struct acks *a, uint64_t tag)
{
	return UINT64_C(1) << (tag - a->upto - 1);
}

static void shift(struct acks *a, uint64_t n)
{
	a->upto += n;
	a->wanted = n < WINDOW ? a->wanted >> n : 0;
	a->settled = n < WINDOW ? a->settled >> n : 0;
}

bool acks_want(struct acks *a, uint64_t tag)
{
	if (!is_near(a, tag))
		return false;
	a->wanted |= bit_of(a, tag);
	return true;
}

void acks_settled(struct acks *a, uint64_t tag, bool and_all_before)
{
	if (and_all_before && tag > a->upto) {
		shift(a, tag - a->upto);
	} else if (is_near(a, tag)) {
		a->settled |= bit_of(a, tag);
		a->wanted &= ~bit_of(a, tag);
	}
	while (a->settled & 1)
		shift(a, 1);
}

bool acks_next(struct acks *a, uint64_t *ret_tag, bool *ret_multiple)
{
	unsigned n = 0, last = 0;

	for (; n < WINDOW && (a->wanted | a->settled) >> n & 1; n++)
		if (a->wanted >> n & 1)
			last = n + 1;
	*ret_multiple = last > 0;
	if (last > 0) {
		*ret_tag = a->upto + last;
		shift(a, n);
		return true;
	}
	if (!a->wanted)
		return false;
	*ret_tag = a->upto + 1 + (uint64_t)__builtin_ctzll(a->wanted);
	acks_settled(a, *ret_tag, false);
	return true;
}

/* SPDX-License-Identifier: MIT */
/*
 * The lease of the job: how long it may go on before its worker is heard of. When nothing renews it,
 * others take the worker for lost and start the evaluation again elsewhere, so nothing of it may be
 * alive by then. A margin before that time the job is told to end, in the middle of the margin it is
 * killed; the rest is for dying.
 *
 * It counts CLOCK_BOOTTIME, because to the others the time goes on while this host is suspended. The
 * timeout of ppoll() stands still then, and for a process that is stopped; hence the timer.
 */
#include <stdio.h>
#include <sys/timerfd.h>

#include "base/str.h"
#include "base/time.h"
#include "keeper.h"

#define MARGIN_MAX (10 * USEC_PER_SEC)

int lease_init(struct keeper *k, struct err *e)
{
	k->lease_armed_usec = 0;
	k->lease_timer = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	return k->lease_timer < 0 ? err_sys(e, "make a timer") : 0;
}

/* `at` 0: never. What has fired before is forgotten. */
static void arm(struct keeper *k, uint64_t at)
{
	const struct itimerspec t = { .it_value = { .tv_sec = (time_t)(at / USEC_PER_SEC),
						    .tv_nsec = (long)(at % USEC_PER_SEC) * 1000 } };

	if (at == k->lease_armed_usec)
		return;
	(void)timerfd_settime(k->lease_timer, TFD_TIMER_ABSTIME, &t, NULL);
	k->lease_armed_usec = at;
}

static void set_term(struct keeper *k, uint64_t since, uint64_t usec)
{
	uint64_t margin = usec / 4 < MARGIN_MAX ? usec / 4 : MARGIN_MAX;

	k->lease_due_usec = since + usec - margin;
	k->lease_kill_usec = since + usec - margin / 2;
	arm(k, k->lease_due_usec);
}

/* On the same clock, unless somebody sends us nonsense: nothing begins later than now. */
static uint64_t begin_of_term(uint64_t said, uint64_t now)
{
	return said && said < now ? said : now;
}

void lease_begin(struct keeper *k, const struct term *t)
{
	uint64_t usec = t->usec ? t->usec : k->spec->lease_usec;

	k->lease_usec = k->spec->lease_usec ? k->spec->lease_usec : t->usec;
	if (usec)
		set_term(k, begin_of_term(t->since_usec, time_boot_usec()), usec);
	else
		arm(k, 0); /* of the job before this one */
}

void lease_renew(struct keeper *k, uint64_t since, uint64_t usec)
{
	since = begin_of_term(since, time_boot_usec());
	/* What is over stays over: others may have begun. A message that waited here for us was
	 * sent in time, or was not. */
	if (k->lease_due_usec && since >= k->lease_due_usec)
		return;
	if (!k->lease_usec)
		k->lease_usec = usec < USEC_PER_SEC ? usec : usec - usec % USEC_PER_SEC;
	set_term(k, since, usec);
}

void lease_fired(struct keeper *k)
{
	uint64_t now = time_boot_usec();

	k->lease_armed_usec = UINT64_MAX;
	arm(k, now < k->lease_due_usec    ? k->lease_due_usec
	       : now < k->lease_kill_usec ? k->lease_kill_usec
					  : 0);
}

/* Whose end is decided keeps the reason for it; only the killing cannot wait. */
static bool is_missed(const struct keeper *k)
{
	return k->lease_due_usec && !k->decided && time_boot_usec() >= k->lease_due_usec;
}

void lease_check(struct keeper *k)
{
	char span[32];

	if (!is_missed(k))
		return;
	/* If we were stopped, the renewal may have been there in time. */
	control_hear(k);
	if (!is_missed(k))
		return;
	verdict(k, BOX_LOST,
		"the lease of %s was not renewed: stopped, so that it does not run twice",
		str_span_text(span, sizeof(span), k->lease_usec));
}

bool lease_is_over(const struct keeper *k)
{
	return k->lease_kill_usec && time_boot_usec() >= k->lease_kill_usec;
}

/* SPDX-License-Identifier: MIT */
#include "base/time.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static uint64_t now(clockid_t clock)
{
	struct timespec ts = { 0 };

	(void)clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / 1000;
}

uint64_t time_mono_usec(void)
{
	return now(CLOCK_MONOTONIC);
}

uint64_t time_boot_usec(void)
{
	return now(CLOCK_BOOTTIME);
}

uint64_t time_wall_usec(void)
{
	return now(CLOCK_REALTIME);
}

char *time_text(char *out, uint64_t wall_usec)
{
	time_t sec = (time_t)(wall_usec / USEC_PER_SEC);
	char date[24];
	struct tm tm;

	out[0] = '\0';
	if (gmtime_r(&sec, &tm) && strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm))
		snprintf(out, TIME_TEXT_MAX, "%s.%06uZ", date,
			 (unsigned)(wall_usec % USEC_PER_SEC));
	return out;
}

/* `n` digits at s, or -1. */
static int digits(const char *s, size_t n)
{
	int v = 0;

	for (size_t i = 0; i < n; i++) {
		if (!isdigit((unsigned char)s[i]))
			return -1;
		v = v * 10 + (s[i] - '0');
	}
	return v;
}

static int parse_fraction(const char **s, uint64_t *ret_usec)
{
	uint64_t usec = 0, unit = 100000;
	size_t n;

	*ret_usec = 0;
	if (**s != '.')
		return 0;
	n = strspn(*s + 1, "0123456789");
	if (n < 1 || n > 9)
		return -EINVAL;
	for (size_t i = 1; i <= n; i++, unit /= 10)
		usec += (uint64_t)((*s)[i] - '0') * unit;
	*s += n + 1;
	*ret_usec = usec;
	return 0;
}

static int parse_offset(const char *s, int64_t *ret_sec)
{
	int h, m;

	*ret_sec = 0;
	if (strcmp(s, "Z") == 0)
		return 0;
	if ((*s != '+' && *s != '-') || strlen(s) != 6 || s[3] != ':')
		return -EINVAL;
	h = digits(s + 1, 2);
	m = digits(s + 4, 2);
	if (h < 0 || h > 23 || m < 0 || m > 59)
		return -EINVAL;
	*ret_sec = (*s == '-' ? -1 : 1) * (h * 3600 + m * 60);
	return 0;
}

static int days_in_month(int year, int month)
{
	static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return days[month] + (month == 1 && leap);
}

int time_parse(const char *s, uint64_t *ret_wall_usec)
{
	struct tm tm = { 0 };
	uint64_t usec;
	int64_t offset, sec;

	if (strlen(s) < 20 || s[4] != '-' || s[7] != '-' || s[10] != 'T' || s[13] != ':' ||
	    s[16] != ':')
		return -EINVAL;
	tm.tm_year = digits(s, 4) - 1900;
	tm.tm_mon = digits(s + 5, 2) - 1;
	tm.tm_mday = digits(s + 8, 2);
	tm.tm_hour = digits(s + 11, 2);
	tm.tm_min = digits(s + 14, 2);
	tm.tm_sec = digits(s + 17, 2);
	if (tm.tm_year < 70 || tm.tm_mon < 0 || tm.tm_mon > 11 || tm.tm_mday < 1 ||
	    tm.tm_mday > days_in_month(tm.tm_year + 1900, tm.tm_mon) || tm.tm_hour < 0 ||
	    tm.tm_hour > 23 || tm.tm_min < 0 || tm.tm_min > 59 || tm.tm_sec < 0 || tm.tm_sec > 60)
		return -EINVAL;
	s += 19;
	if (parse_fraction(&s, &usec) < 0 || parse_offset(s, &offset) < 0)
		return -EINVAL;
	sec = (int64_t)timegm(&tm) - offset;
	if (sec < 0)
		return -EINVAL;
	*ret_wall_usec = (uint64_t)sec * USEC_PER_SEC + usec;
	return 0;
}

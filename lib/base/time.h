/* SPDX-License-Identifier: MIT */
/*
 * Clocks, in microseconds, and RFC 3339 text. Intervals are measured on CLOCK_MONOTONIC, leases on
 * CLOCK_BOOTTIME (it counts suspend); the wall clock is for people only.
 */
#ifndef ZR_BASE_TIME_H
#define ZR_BASE_TIME_H

#include <stdint.h>
#include <time.h>

#include "base/attr.h"
#include "base/err.h"

#define USEC_PER_SEC  ((uint64_t)1000000)
#define USEC_PER_MSEC ((uint64_t)1000)
#define USEC_INFINITY UINT64_MAX

uint64_t time_mono_usec(void);
uint64_t time_boot_usec(void);
uint64_t time_wall_usec(void);

#define TIME_TEXT_MAX 32
/* "2026-11-21T23:00:00.123456Z" into out[TIME_TEXT_MAX]; returns out. */
char *time_text(char *out, uint64_t wall_usec);
/* Accepts that form, with 0 to 9 digits of a second and Z or +hh:mm. -EINVAL otherwise. */
int time_parse(const char *s, uint64_t *ret_wall_usec) must_check;

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Places at which tests make a program fail: FAILPOINT("area.step") at each step that leaves something durable
 * behind or lets go of it. Nothing is compiled in unless the build is V=fail. There
 *	ZR_FAILPOINT=[program/]name:kill|term|stop|delay|eio|enospc[@N]
 * says what happens when the point is passed for the Nth time (the first): the process is killed, its daemon is told
 * to end, it is stopped, or waits a second; eio and enospc work where the point is FAILPOINT_FAILS.
 * ZR_FAILPOINT_STATE, a file of at least 16 bytes, counts for all processes together: two uint64, how often it was passed, and the pid that it hit.
 * Processes started without an environment get these two variables. `scripts/failpoints` lists the names.
 */
#ifndef ZR_BASE_FAILPOINT_H
#define ZR_BASE_FAILPOINT_H

#include <stdbool.h>

#ifdef ZR_FAILPOINTS
/* True, with errno: what follows shall fail so. */
bool failpoint_passed(const char *name);
/* For processes that get no environment of ours. */
char *const *failpoint_env(void);
#define FAILPOINT(name)       ((void)failpoint_passed(name))
#define FAILPOINT_FAILS(name) failpoint_passed(name)
#else
#define FAILPOINT(name)       ((void)0)
#define FAILPOINT_FAILS(name) false
#endif

#endif

/* SPDX-License-Identifier: MIT */
#ifndef ZR_CMD_ZR_ECHO_ECHO_H
#define ZR_CMD_ZR_ECHO_ECHO_H

#include <stdbool.h>
#include <stdint.h>

#include "base/settings.h"
#include "messaging/broker.h"

enum {
	ECHO_DONE = 0,
	ECHO_FAILED = 1,
	ECHO_USAGE = 2,
};

struct echo_conf {
	const struct settings *settings;
	char *const *patterns; /* NULL-terminated; for a queue of our own */
	const char *queue;     /* or this one */
	const char *from;      /* it is a stream, read from there */
	bool consume;          /* take the messages out of it */
	bool json;
	uint64_t count; /* end after so many; 0: never */
	unsigned prefetch;
};

/* Both return the exit status. */
int echo_listen(const struct echo_conf *conf);
int echo_look(const struct echo_conf *conf);

/* One line on standard output. False: it cannot be written any more. */
bool echo_print(const struct delivery *d, bool json) must_check;

#endif

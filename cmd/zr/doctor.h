/* SPDX-License-Identifier: MIT */
/* doctor: each check adds lines; a cure is what a person can do. */
#ifndef ZR_CMD_ZR_DOCTOR_H
#define ZR_CMD_ZR_DOCTOR_H

#include <jansson.h>

#include "base/attr.h"
#include "base/settings.h"
#include "exec/cgroup.h"

enum health {
	HEALTH_OK,
	HEALTH_WARN, /* works, and somebody should look */
	HEALTH_FAIL,
};

struct doctor {
	const struct settings *settings;
	json_t *lines; /* {check, status, text, cure} */
	bool failed;
};

/* `cure` may be NULL. */
void doctor_line(struct doctor *d, enum health h, const char *check, const char *cure,
		 const char *fmt, ...) printf_like(5, 6);

/* In doctor_net.c: what is reached over the network. */
void doctor_broker(struct doctor *d);
void doctor_database(struct doctor *d);
void doctor_ssh(struct doctor *d);

/* In doctor_channel.c. False: the channel is the broker. */
bool doctor_channel(struct doctor *d);

/* In doctor_box.c: what isolation this host can give to jobs. */
void doctor_levels(struct doctor *d, const struct cgroup_host *groups);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Requests that have disappeared: their evaluations wait, no worker has told of them, and their queue was
 * empty at every look for longer than a lease. It was purged, or deleted and made again. They are sent
 * again; a claim makes one that was not gone after all harmless.
 */
#ifndef ZR_CMD_ZR_UPDATE_RESEND_H
#define ZR_CMD_ZR_UPDATE_RESEND_H

#include "update.h"

struct resend;
int resend_new(struct update *u, struct resend **ret, struct err *e) must_check;
void resend_free(struct resend *r);
DEFINE_AUTO(resend);

/* The leader calls it every few seconds. */
void resend_poke(struct resend *r);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Who is lost. The leader sends itself a tick through the broker every two seconds, with the time of the
 * database: once it is back and applied, all that was published before it has been taken from the queue.
 * Every process tells the database up to when what was delivered to it is applied. So a silence that
 * counts is one of the worker, not of the broker, not of zr-update, and the clocks of hosts do not
 * matter. The rules are in the migration 0106.
 */
#ifndef ZR_CMD_ZR_UPDATE_AUDIT_H
#define ZR_CMD_ZR_UPDATE_AUDIT_H

#include "update.h"

struct audit;
int audit_new(struct update *u, struct audit **ret, struct err *e) must_check;
void audit_free(struct audit *a);
DEFINE_AUTO(audit);

/* What was ended as lost in the database, rows of workers_lost(): told, and what follows is begun. */
void audit_ended(struct update *u, const struct db_outcome *o);

#endif

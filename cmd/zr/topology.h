/* SPDX-License-Identifier: MIT */
/* What the broker has of zr's exchanges and queues, as rows of a listing. */
#ifndef ZR_CMD_ZR_TOPOLOGY_H
#define ZR_CMD_ZR_TOPOLOGY_H

#include "cli.h"

/* Rows "name", "kind", "state" (ready, missing, differs), "messages", "consumers", "reason". *ret_bad
 * counts what is not ready. Returns 1 when the settings could not be read: c->status says it. */
int topology_rows(struct cli *c, bool apply, bool queues_only, json_t **ret, int *ret_bad,
		  struct err *e) must_check;

#endif

/* SPDX-License-Identifier: MIT */
/* The database, as the verbs open it. */
#ifndef ZR_CMD_ZR_DB_H
#define ZR_CMD_ZR_DB_H

#include "cli.h"
#include "store/db.h"

/* Settings, connection, schema: all that a verb on the database needs. False: c->status is the exit
 * status (2: password, name, schema; 75: not reachable now), the reason has been printed. */
bool cli_db(struct cli *c, struct settings **ret_settings, struct db **ret) must_check;

#endif

/* SPDX-License-Identifier: MIT */
/* Attempts whose events no queue and no worker has any more; migrations/0109 has the rules. */
#ifndef ZR_STORE_SOUGHT_H
#define ZR_STORE_SOUGHT_H

#include <stdbool.h>

#include "store/db_pipe.h"

/* What is to be looked for: evaluation, attempt, since how many seconds, the time of the database. */
extern const struct db_stmt sought_due_stmt;
void sought_due_args(struct db_args *a, uint64_t lease_usec, int rows_max);
/* Arrays as the database writes them, '{1,2}', which are borrowed. read: to the end of the stream. */
extern const struct db_stmt sought_note_stmt;
void sought_note_args(struct db_args *a, const char *evaluations, const char *attempts, bool read);
/* Ends what was not found for too long. Rows: see workers_lost(). */
extern const struct db_stmt sought_end_stmt;
void sought_end_args(struct db_args *a, int infrastructure_retries);

#endif

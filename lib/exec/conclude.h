/* SPDX-License-Identifier: MIT */
/*
 * Results that no keeper gave: of a box that was never started, and of one whose keeper was killed. They
 * end its journal as a keeper's own would, durably. The caller has the box, and no keeper does.
 */
#ifndef ZR_EXEC_CONCLUDE_H
#define ZR_EXEC_CONCLUDE_H

#include <stdbool.h>

#include "base/attr.h"
#include "base/err.h"
#include "exec/result.h"
#include "exec/spec.h"

/* `detail` may be NULL. */
int conclude_unstarted(int box_dirfd, const struct box_spec *spec, enum box_reason reason,
		       const char *detail, struct err *e) must_check;

/* `lost`. What the keeper may have sealed without saying so is removed. `all_killed`: nothing of the job is
 * alive any more. */
int conclude_lost(int box_dirfd, const struct box_spec *spec, bool all_killed,
		  struct err *e) must_check;

#endif

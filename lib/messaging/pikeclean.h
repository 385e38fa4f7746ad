/* SPDX-License-Identifier: MIT */
/* What a worker of the dialect pike finds of the one before it and removes when it starts. */
#ifndef ZR_MESSAGING_PIKECLEAN_H
#define ZR_MESSAGING_PIKECLEAN_H

#include <stdbool.h>

#include "base/attr.h"
#include "base/err.h"
#include "messaging/piketask.h"

/* The output folder is emptied. With `keep` answers to evaluations stay: somebody may still come for
 * them. Those of `tasks` stay in any case. */
int pikeclean_output(int out_dirfd, const struct piketask_list *tasks, bool keep,
		     struct err *e) must_check;
/* Files of tasks that are not among `tasks`; with `keep` only their caches. */
void pikeclean_scratch(const struct pikedirs *d, const struct piketask_list *tasks, bool keep);
/* Above those of all tasks whose files were kept. */
uint64_t pikeclean_next_number(const struct pikedirs *d);

#endif

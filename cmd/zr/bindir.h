/* SPDX-License-Identifier: MIT */
/* Where the evaluators are when nothing has been configured. */
#ifndef ZR_CMD_ZR_BINDIR_H
#define ZR_CMD_ZR_BINDIR_H

#include "base/attr.h"
#include "base/err.h"
#include "base/settings.h"

/* bin_dir if a file or the environment sets it; else the one that was installed with this program, or
 * that it was built beside; else the default of bin_dir. Allocated. `conf` as for settings_load(). */
int bindir_find(const struct settings *s, const char *conf, char **ret, struct err *e) must_check;

#endif

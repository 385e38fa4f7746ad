/* SPDX-License-Identifier: MIT */
/* What a job wrote, on a terminal. */
#ifndef ZR_CMD_ZR_LOGTEXT_H
#define ZR_CMD_ZR_LOGTEXT_H

#include <stddef.h>
#include <stdio.h>

/* A log may hold anything; a terminal gets lines and tabs, and the rest escaped. */
void logtext_print(FILE *to, const char *data, size_t n);

#endif

/* SPDX-License-Identifier: MIT */
/* Identifiers: UUIDv7 (RFC 9562) and the rule that every name from outside must satisfy. */
#ifndef ZR_BASE_ID_H
#define ZR_BASE_ID_H

#include <stdbool.h>

#include "base/attr.h"
#include "base/err.h"

#define ID_MAX   64 /* bytes without the NUL */
#define UUID_LEN 36

/* A fresh UUIDv7 as 36 lower-case characters and a NUL. Within a process a later one sorts
 * after an earlier one, also when the wall clock is set in between. */
char *id_uuid7(char out[UUID_LEN + 1]);
bool id_is_uuid(const char *s);
/* The kernel's id of this boot. */
int id_boot(char out[UUID_LEN + 1], struct err *e) must_check;

/* [A-Za-z0-9][A-Za-z0-9._-]{0,63}: safe as a file name, a routing-key word less its dots, a title. */
bool id_valid(const char *s);

/* "sha256:" and 64 lower-case hexadecimal digits. */
bool id_is_digest(const char *s);

#endif

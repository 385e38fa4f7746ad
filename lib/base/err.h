/* SPDX-License-Identifier: MIT */
/*
 * Errors in words. A function that can fail returns 0 or a count, or -errno, and fills the
 * `struct err` of its caller; on success the object is untouched. Every function here takes a
 * NULL `e` (the words are dropped) and returns -code, so that `return err_set(...)` is the idiom;
 * err_wrap() without an `e` knows no code and returns -EIO.
 */
#ifndef ZR_BASE_ERR_H
#define ZR_BASE_ERR_H

#include <errno.h>
#include <stdarg.h>

#include "base/attr.h"

/* What the caller should do: HOST = this host or its set-up is at fault; INPUT = what was given is
 * at fault, trying again cannot help; TRANSIENT = try again later. */
enum err_kind {
	ERR_HOST,
	ERR_INPUT,
	ERR_TRANSIENT,
};

struct err {
	int code; /* positive errno */
	enum err_kind kind;
	char msg[480];
};

int err_set(struct err *e, int code, enum err_kind kind, const char *fmt, ...) printf_like(4, 5);

/* From the current errno, whose text is appended. Kind is HOST, or TRANSIENT for EAGAIN, ENOMEM,
 * ENOSPC, EDQUOT, EMFILE, ENFILE and the errors of a lost connection. */
int err_sys(struct err *e, const char *fmt, ...) printf_like(2, 3);

/* The same for an error number already at hand (positive or negative). */
int err_errno(struct err *e, int code, const char *fmt, ...) printf_like(3, 4);

/* Prepends "context: ". A text that grows too long loses its end. */
int err_wrap(struct err *e, const char *fmt, ...) printf_like(2, 3);

/* Input error: -EINVAL, ERR_INPUT. */
#define err_input(e, ...) err_set((e), EINVAL, ERR_INPUT, __VA_ARGS__)
/* Out of memory; allocates nothing. */
int err_nomem(struct err *e);

#if defined(__clang_analyzer__) && !defined(ZR_BASE_ERR_C)
/* The static analyzer looks at one file at a time and would follow these into success. */
#define err_set(...)   ((void)err_set(__VA_ARGS__), -1)
#define err_sys(...)   ((void)err_sys(__VA_ARGS__), -1)
#define err_errno(...) ((void)err_errno(__VA_ARGS__), -1)
#define err_wrap(...)  ((void)err_wrap(__VA_ARGS__), -1)
#define err_nomem(e)   ((void)err_nomem(e), -1)
#endif

#endif

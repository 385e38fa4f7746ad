/* SPDX-License-Identifier: MIT */
#define ZR_BASE_ERR_C
#include "base/err.h"

#include <stdbool.h>
#include <string.h>

static bool code_is_transient(int code)
{
	switch (code) {
	case EAGAIN:
	case ENOMEM:
	case ENOSPC:
	case EDQUOT:
	case EMFILE:
	case ENFILE:
	case ECONNREFUSED:
	case ECONNRESET:
	case ECONNABORTED:
	case EPIPE:
	case ETIMEDOUT:
	case EHOSTUNREACH:
	case EHOSTDOWN:
	case ENETUNREACH:
	case ENETDOWN:
	case EINTR:
		return true;
	default:
		return false;
	}
}

printf_like(4, 0) static void set_v(struct err *e, int code, enum err_kind kind, const char *fmt,
				    va_list ap)
{
	e->code = code;
	e->kind = kind;
	vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
}

int err_set(struct err *e, int code, enum err_kind kind, const char *fmt, ...)
{
	va_list ap;

	if (e) {
		va_start(ap, fmt);
		set_v(e, code, kind, fmt, ap);
		va_end(ap);
	}
	return -code;
}

static void append(struct err *e, const char *text)
{
	size_t n = strlen(e->msg);

	snprintf(e->msg + n, sizeof(e->msg) - n, ": %s", text);
}

printf_like(3, 0) static int errno_v(struct err *e, int code, const char *fmt, va_list ap)
{
	set_v(e, code, code_is_transient(code) ? ERR_TRANSIENT : ERR_HOST, fmt, ap);
	append(e, strerrordesc_np(code) ? strerrordesc_np(code) : "unknown error");
	return -code;
}

int err_sys(struct err *e, const char *fmt, ...)
{
	int code = errno ? errno : EIO;
	va_list ap;

	if (e) {
		va_start(ap, fmt);
		errno_v(e, code, fmt, ap);
		va_end(ap);
	}
	return -code;
}

int err_errno(struct err *e, int code, const char *fmt, ...)
{
	va_list ap;

	code = code < 0 ? -code : code ? code : EIO;
	if (e) {
		va_start(ap, fmt);
		errno_v(e, code, fmt, ap);
		va_end(ap);
	}
	return -code;
}

int err_wrap(struct err *e, const char *fmt, ...)
{
	char old[sizeof(e->msg)];
	va_list ap;

	if (!e)
		return -EIO;
	memcpy(old, e->msg, sizeof(old));
	va_start(ap, fmt);
	vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
	va_end(ap);
	append(e, old);
	return -(e->code ? e->code : EIO);
}

int err_nomem(struct err *e)
{
	return err_set(e, ENOMEM, ERR_TRANSIENT, "out of memory");
}

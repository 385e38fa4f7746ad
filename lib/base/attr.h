/* SPDX-License-Identifier: MIT */
/*
 * Attributes and automatic release. One variable has one owner; take_ptr() and take_fd() give the
 * value away. A cleanup does not run on longjmp() or _exit().
 */
#ifndef ZR_BASE_ATTR_H
#define ZR_BASE_ATTR_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define must_check        __attribute__((warn_unused_result))
#define printf_like(f, a) __attribute__((format(printf, f, a)))
#define unused_arg        __attribute__((unused))

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* Built with the address sanitizer, which some system calls and tricks do not go with. */
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* Declares auto_obj(name): a `struct name *` that name_free() releases at the end of its scope. */
#define DEFINE_AUTO(name)                                                                          \
	static inline void name##_auto_(struct name **p)                                           \
	{                                                                                          \
		name##_free(*p);                                                                   \
	}                                                                                          \
	struct name
#define auto_obj(name) __attribute__((cleanup(name##_auto_))) struct name *

/* Declares auto_done(name): a `struct name` whose content name_done() releases. */
#define DEFINE_AUTO_DONE(name)                                                                     \
	static inline void name##_auto_done_(struct name *p)                                       \
	{                                                                                          \
		name##_done(p);                                                                    \
	}                                                                                          \
	struct name
#define auto_done(name) __attribute__((cleanup(name##_auto_done_))) struct name

static inline void auto_free_(void *p)
{
	free(*(void **)p);
}

static inline void auto_close_(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void auto_fclose_(FILE **f)
{
	if (*f)
		fclose(*f);
}

#define auto_free   __attribute__((cleanup(auto_free_)))
#define auto_close  __attribute__((cleanup(auto_close_)))
#define auto_fclose __attribute__((cleanup(auto_fclose_)))

#define take_ptr(p)                                                                                \
	({                                                                                         \
		__typeof__(p) *p_ = &(p);                                                          \
		__typeof__(p) v_ = *p_;                                                            \
		*p_ = NULL;                                                                        \
		v_;                                                                                \
	})

static inline int take_fd_(int *fd)
{
	int v = *fd;

	*fd = -1;
	return v;
}
#define take_fd(fd) take_fd_(&(fd))

#endif

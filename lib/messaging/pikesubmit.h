/* SPDX-License-Identifier: MIT */
/* What an HTTP client of the dialect pike submits, as the message to the worker. Pure. */
#ifndef ZR_MESSAGING_PIKESUBMIT_H
#define ZR_MESSAGING_PIKESUBMIT_H

#include <stddef.h>

#include "base/attr.h"
#include "base/str.h"

/* -EINVAL: bad input. -EBADMSG: 'code' is not a text, to which these clients know no reply. */
int pikesubmit_message(const void *data, size_t n, const char *id, struct buf *ret) must_check;

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Reading the members of a JSON object from outside: the first fault is kept with its code, and
 * every later call does nothing, so that a message is a list of calls and one check at the end.
 */
#ifndef ZR_MESSAGING_RD_H
#define ZR_MESSAGING_RD_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"

/* Why a message is refused. The names are the reason codes of the dead queue. */
enum message_bad {
	MESSAGE_GOOD,
	MESSAGE_MALFORMED,       /* "malformed": not one JSON object */
	MESSAGE_TOO_LARGE,       /* "too-large" */
	MESSAGE_TOO_DEEP,        /* "too-deep" */
	MESSAGE_BAD_UTF8,        /* "bad-utf8" */
	MESSAGE_DUPLICATE_KEY,   /* "duplicate-key" */
	MESSAGE_MISSING_FIELD,   /* "missing-field" */
	MESSAGE_BAD_VALUE,       /* "bad-value": wrong type, out of range, not in its list */
	MESSAGE_UNKNOWN_TYPE,    /* "unknown-type" */
	MESSAGE_UNKNOWN_VERSION, /* "unknown-version": another major version */
	MESSAGE_NO_MEMORY,       /* not the message's fault: leave it in its queue */
	MESSAGE_BAD_N,
};

const char *message_bad_name(enum message_bad b);

struct message_reader {
	const json_t *o; /* the object at hand */
	enum message_bad bad;
	struct err *e;
};

/* Keeps the fault unless there is one already. */
void rd_fail(struct message_reader *rd, enum message_bad bad, const char *fmt, ...)
	printf_like(3, 4);

/* What a text must satisfy; `want` is said if it does not. */
struct rd_rule {
	size_t max; /* bytes */
	bool (*valid)(const char *s);
	const char *want;
};
/* rd_text: 1 KiB; rd_arg: 4 KiB; rd_long_text: 64 KiB; rd_any_text: the message is the limit. */
extern const struct rd_rule rd_id, rd_uuid, rd_digest, rd_text, rd_long_text, rd_any_text, rd_arg;

/* *ret is NULL if an optional member is absent or null. */
void rd_str(struct message_reader *rd, const char *key, const struct rd_rule *rule, bool optional,
	    const char **ret);
/* Optional integers leave *ret as it is. */
void rd_int(struct message_reader *rd, const char *key, int64_t min, int64_t max, bool optional,
	    int64_t *ret);
void rd_time(struct message_reader *rd, const char *key, uint64_t *ret_wall_usec);
/* The index in a NULL-terminated list of words. */
void rd_word(struct message_reader *rd, const char *key, const char *const *words, int *ret);
void rd_object(struct message_reader *rd, const char *key, bool optional, json_t **ret);
/* A list of texts. */
void rd_texts(struct message_reader *rd, const char *key, size_t count_max,
	      const struct rd_rule *rule, bool optional, json_t **ret);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The bodies of events, one form per kind. message_decode() has checked them: the functions here
 * only fetch. Texts and values are borrowed from the body.
 */
#ifndef ZR_MESSAGING_MESSAGE_BODY_H
#define ZR_MESSAGING_MESSAGE_BODY_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "messaging/rd.h"

enum message_kind {
	MESSAGE_STARTED,
	MESSAGE_PROGRESS,
	MESSAGE_LOG,
	MESSAGE_VIOLATION,
	MESSAGE_COMPLETED,
	MESSAGE_FAILED,
	MESSAGE_CANCELED,
	MESSAGE_KIND_N,
};

const char *message_kind_name(enum message_kind k);
extern const char *const message_kinds[]; /* NULL at its end */

struct message_started {
	const char *evaluator;
	json_t *isolation; /* object, or NULL */
};
void message_started(const json_t *body, struct message_started *ret);

struct message_progress {
	double fraction;     /* 0 to 1; negative: not known */
	int64_t done, total; /* negative: not known */
	const char *text;    /* or NULL */
	const char *phase;   /* or NULL */
};
void message_progress(const json_t *body, struct message_progress *ret);

struct message_log {
	bool err;       /* the stream: standard error, else standard output */
	int64_t offset; /* of the text's first byte in the stream */
	const char *text;
};
void message_log(const json_t *body, struct message_log *ret);

/* What the job was refused by now, and which limits are near. */
struct message_violation {
	const char *phase; /* or NULL */
	json_t *violations;
};
void message_violation(const json_t *body, struct message_violation *ret);

/* The outcome: body of completed (reason "ok"), canceled (reason "canceled") and failed. */
struct message_end {
	const char *reason;       /* one of message_reasons */
	const char *detail;       /* sentence, or NULL */
	int exit_code;            /* -1: none */
	int signal;               /* 0: none */
	const char *phase;        /* or NULL */
	json_t *scores;           /* object, or NULL */
	const char *scores_error; /* or NULL */
	const char *root_hash;    /* "sha256:…", or NULL: nothing was sealed */
	int64_t result_bytes;     /* -1: none */
	const char *started_at;   /* RFC 3339, or NULL: never started */
	const char *finished_at;  /* or NULL */
	json_t *usage;            /* object, or NULL */
	json_t *log;              /* object, or NULL */
	json_t *isolation;        /* object, or NULL */
	int retries;      /* further attempts that the evaluator allows after such a failure */
	bool keeper_died; /* lost: the keeper was killed, and not with its host */
};
void message_end(const json_t *body, struct message_end *ret);

/* ok exit signal cpu-limit …: the closed list, NULL at its end. */
extern const char *const message_reasons[];

/* The check of message_decode(): rd->o is the body. */
void message_body_check(struct message_reader *rd, enum message_kind kind);

#endif

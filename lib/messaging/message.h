/* SPDX-License-Identifier: MIT */
/*
 * The messages of zr, as zr-message(7) describes them: JSON objects with "zr": "1.x". Decoding is a
 * pure function of the bytes and refuses what is malformed with a reason of a closed list; unknown
 * members are kept, unknown major versions refused. Encoding writes the same structures back.
 */
#ifndef ZR_MESSAGING_MESSAGE_H
#define ZR_MESSAGING_MESSAGE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"
#include "messaging/message_body.h"
#include "messaging/rd.h"

#define MESSAGE_MAX     (1u << 20) /* bytes, when the settings say nothing else */
#define MESSAGE_DEPTH   32
#define MESSAGE_KEY_MAX 256 /* a routing key and its NUL */

#define MESSAGE_LEASE_MAX_USEC (INT64_C(7) * 24 * 3600 * 1000000)
#define MESSAGE_ROLE_UPDATE    "update"

enum message_type {
	MESSAGE_REQUEST,
	MESSAGE_EVENT,
	MESSAGE_WORKER,
	MESSAGE_CONTROL,
	MESSAGE_ECHO,
	MESSAGE_TYPE_N,
};

enum message_control_kind {
	MESSAGE_CANCEL,  /* end the evaluation's runs */
	MESSAGE_RELEASE, /* the result was collected: the eval host may delete it */
	MESSAGE_CONTROL_N,
};

enum message_worker_state {
	MESSAGE_IDLE,
	MESSAGE_BUSY,
	MESSAGE_DRAINING,
	MESSAGE_GONE,
	MESSAGE_WORKER_STATE_N,
};

/*
 * Texts and JSON values are borrowed: from `json` after decoding, from the caller when encoding.
 * Optional members are NULL, or the value named. Identifiers satisfy id_valid().
 */
struct message_request {
	const char *id; /* a UUID; NULL when encoding: a fresh one */
	const char *evaluation;
	const char *submission;
	const char *digest;    /* "sha256:…": root hash of the packed submission */
	const char *source;    /* "file:///path", "ssh://host/path", "incoming:" */
	const char *evaluator; /* the name of an evaluator, never a path */
	json_t *args;          /* list of texts, or NULL */
	json_t *limits;        /* object of positive integers, or NULL */
	int attempt;           /* first ordinal to use, from 1 */
	bool high;             /* priority */
	uint64_t created_wall_usec;
};

struct message_event {
	const char *id; /* a UUID; NULL when encoding: a fresh one */
	enum message_kind kind;
	const char *evaluation;
	int attempt;
	const char *attempt_id; /* a UUID */
	int64_t seq;            /* from 0, per attempt */
	uint64_t at_wall_usec;
	const char *host, *worker;
	json_t *body; /* object; message_end() and friends read it */
};

struct message_job {
	const char *evaluation;
	int attempt;
	const char *attempt_id; /* a UUID, or NULL */
	const char *phase;
	uint64_t since_wall_usec;
};

struct message_worker {
	const char *host, *worker;
	int64_t pid;
	const char *boot_id;
	uint64_t since_wall_usec, at_wall_usec;
	enum message_worker_state state;
	const struct message_job *jobs;
	size_t n_jobs;
	json_t *evaluators; /* list of texts, or NULL */
	int64_t lease_usec; /* how long after this its jobs are its own; 0: for ever */
	const char *role;   /* NULL: it evaluates; "update", or a word of a later version */
};

struct message_control {
	const char *id; /* a UUID; NULL when encoding: a fresh one */
	enum message_control_kind kind;
	const char *evaluation;
	const char *attempt_id; /* NULL: every attempt */
	const char *by;         /* who asked, or NULL */
	uint64_t at_wall_usec;
};

struct message_echo {
	const char *message;
	uint64_t at_wall_usec;
};

struct message {
	enum message_type type;
	json_t *json; /* the whole object after decoding; its unknown members are encoded again */
	struct message_job *jobs; /* owned storage of worker.jobs after decoding */
	union {
		struct message_request request;
		struct message_event event;
		struct message_worker worker;
		struct message_control control;
		struct message_echo echo;
	};
};

/* On MESSAGE_GOOD *ret is the caller's, to be released with message_free(); otherwise `e` has the
 * sentence for the operator. `max` is the size limit in bytes. */
enum message_bad message_decode(const void *data, size_t n, size_t max, struct message **ret,
				struct err *e) must_check;
void message_free(struct message *m);
DEFINE_AUTO(message);

/* One line of JSON, to be freed. INPUT: a member is missing or out of range; what is encoded is what
 * message_decode() takes. Times of 0 become now. */
int message_encode(const struct message *m, char **ret, size_t *ret_n, struct err *e) must_check;
int message_encode_event(const struct message_event *ev, char **ret, size_t *ret_n,
			 struct err *e) must_check;

/* event.<kind>.<evaluation>, event.worker.<host>, control.<kind>, echo.message; a request's goes by
 * message_request_key(). Returns out[MESSAGE_KEY_MAX]. */
char *message_key(char *out, const struct message *m);
/* Is this the key of an event that ends an attempt? */
bool message_key_is_end(const char *key);
/* eval.host.<host> if host is given, else eval.pool.<pool> or eval.pool.<pool>.high. */
char *message_request_key(char *out, const char *pool, const char *host, bool high);

const char *message_type_name(enum message_type t);
const char *message_worker_state_name(enum message_worker_state s);

#endif

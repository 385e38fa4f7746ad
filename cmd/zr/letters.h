/* SPDX-License-Identifier: MIT */
/*
 * What zr sends: requests and cancels. A letter is first recorded in the database in the transaction
 * of the change that owes it, then published and confirmed, then the debt is deleted. A letter whose
 * publication fails is not lost: zr-update publishes what stays.
 */
#ifndef ZR_CMD_ZR_LETTERS_H
#define ZR_CMD_ZR_LETTERS_H

#include "base/id.h"
#include "base/settings.h"
#include "base/time.h"
#include "messaging/message.h"
#include "messaging/session.h"
#include "store/db.h"
#include "store/outbox.h"

/* One attempt of an evaluation, to a pool or to a host. Texts are borrowed. */
struct order {
	int64_t evaluation, submission;
	int attempt;
	const char *digest, *source, *evaluator;
	const char *pool, *host; /* one of them; the other is NULL */
	bool high;
	json_t *args, *limits; /* may be NULL */
};

struct letter {
	struct outbox_msg msg; /* points into the rest */
	char id[UUID_LEN + 1];
	char key[MESSAGE_KEY_MAX];
	char *body;
};
void letter_done(struct letter *l);
DEFINE_AUTO_DONE(letter);

int letter_request(const struct order *o, struct letter *ret, struct err *e) must_check;
int letter_cancel(int64_t evaluation, const char *by, struct letter *ret, struct err *e) must_check;

/* How the eval host gets the packed submission. To a host other than ours it is pushed here and now;
 * a pool's workers are told where to fetch it. ERR_HOST: the settings lack something. */
int letters_source(const struct settings *s, const char *host, int64_t submission, char **ret,
		   struct err *e) must_check;

/* Whether the queue of this pool or host is there. -ENOENT, ERR_INPUT: it is not; TRANSIENT: the
 * broker cannot be asked now. */
int letters_check_queue(struct session *b, const char *pool, const char *host, bool high,
			struct err *e) must_check;

/* Publishes and deletes the debt; nothing is done twice if it fails. */
int letter_send(struct session *b, struct db *d, const struct letter *l, int64_t outbox_id,
		struct err *e) must_check;

#define LETTERS_USEC (10 * USEC_PER_SEC)
/* A session with the broker, `name` as its tools show it; it connects with its first call. ERR_HOST:
 * no URL, or one that cannot work. */
int letters_open(const struct settings *s, const char *name, uint64_t timeout_usec,
		 struct session **ret, struct err *e) must_check;

#endif

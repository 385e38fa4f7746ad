/* SPDX-License-Identifier: MIT */
/*
 * Challenges. A definition is a JSON object: label, evaluator (both required), pool, host, args
 * (list of text), description, url, active (true), start, end (RFC 3339 or a date).
 */
#ifndef ZR_STORE_CHALLENGES_H
#define ZR_STORE_CHALLENGES_H

#include "store/db.h"

/* -EEXIST, ERR_INPUT: the label is taken. */
int challenges_add(struct db *d, const json_t *def, int64_t *ret_id, struct err *e) must_check;
/* Changes the members present in `change`; null clears one. -ENOENT: no such challenge. */
int challenges_set(struct db *d, const char *label_or_id, const json_t *change,
		   struct err *e) must_check;
/* {id, label, evaluator, pool, host, args, description, url, active, start, end, created_at,
 * submissions, evaluations}; -ENOENT, ERR_INPUT. */
int challenges_show(struct db *d, const char *label_or_id, json_t **ret, struct err *e) must_check;
/* `only_open`: those that take submissions now. */
int challenges_list(struct db *d, bool only_open, json_t **ret, struct err *e) must_check;

#endif

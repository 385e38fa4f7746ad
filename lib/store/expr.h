/* SPDX-License-Identifier: MIT */
/*
 * Expressions over the scores of an entry:
 *   speedup            a key;  abx.within.clean  a key inside objects;  "f1 (macro)"  any name
 *   0.5 * (acc + f1)   numbers, + - * / and parentheses, unary -
 *   min(a, b)  max(a, b, c)  abs(a)
 * true and false count as 1 and 0. The result is finite or an error with words.
 */
#ifndef ZR_STORE_EXPR_H
#define ZR_STORE_EXPR_H

#include <jansson.h>

#include "base/attr.h"
#include "base/err.h"

#define EXPR_TEXT_MAX 1000 /* bytes */

struct expr;

/* ERR_INPUT names the place. */
int expr_parse(const char *text, struct expr **ret, struct err *e) must_check;
void expr_free(struct expr *x);
DEFINE_AUTO(expr);
const char *expr_text(const struct expr *x);

/* ERR_INPUT: a key is missing or not a number, a division by zero, out of range. */
int expr_eval(const struct expr *x, const json_t *scores, double *ret, struct err *e) must_check;

#endif

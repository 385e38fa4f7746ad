/* SPDX-License-Identifier: MIT */
/*
 * The parser is recursive descent and writes operations in the order of a stack machine: operands
 * first. Depth and number of operations are bounded, so that neither parsing nor evaluating can run
 * out of stack whatever the text is.
 */
#include "store/expr.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

#define DEPTH_MAX 32
#define OPS_MAX   256
#define STACK_MAX 64

enum op_code {
	OP_NUM,
	OP_KEY,
	OP_NEG,
	OP_ADD,
	OP_SUB,
	OP_MUL,
	OP_DIV,
	OP_MIN,
	OP_MAX,
	OP_ABS
};

struct op {
	enum op_code code;
	unsigned args; /* operands on the stack */
	double num;
	char **path; /* of KEY: names from the outside inwards */
};

struct expr {
	char *text;
	struct op ops[OPS_MAX];
	size_t n;
};

void expr_free(struct expr *x)
{
	if (!x)
		return;
	for (size_t i = 0; i < x->n; i++)
		strv_free(x->ops[i].path);
	free(x->text);
	free(x);
}

const char *expr_text(const struct expr *x)
{
	return x->text;
}

/* --- parsing --------------------------------------------------------------------------------- */

struct parser {
	struct expr *x;
	const char *at;
	unsigned depth;
	unsigned stack; /* how many values the machine will hold */
	struct err *e;
};

static int parse_sum(struct parser *p);

static int bad(struct parser *p, const char *want)
{
	return err_input(p->e, "in '%s': want %s at position %zu", p->x->text, want,
			 (size_t)(p->at - p->x->text) + 1);
}

static char peek(struct parser *p)
{
	while (*p->at == ' ' || *p->at == '\t')
		p->at++;
	return *p->at;
}

static bool eat(struct parser *p, char c)
{
	if (peek(p) != c)
		return false;
	p->at++;
	return true;
}

/* `args` operands become one value. */
static int emit(struct parser *p, struct op op, unsigned args)
{
	if (p->x->n == OPS_MAX) {
		strv_free(op.path);
		return err_input(p->e, "an expression may have at most %d parts", OPS_MAX);
	}
	op.args = args;
	p->x->ops[p->x->n++] = op;
	p->stack = p->stack - args + 1;
	if (p->stack > STACK_MAX)
		return err_input(p->e, "an expression holds too many values at once");
	return 0;
}

static int parse_number(struct parser *p)
{
	char text[64], *end;
	size_t n = strspn(p->at, "0123456789.eE");
	double v;

	/* The sign of an exponent is a part of the number, any other sign is not. */
	if (n && (p->at[n - 1] == 'e' || p->at[n - 1] == 'E') &&
	    (p->at[n] == '-' || p->at[n] == '+'))
		n += 1 + strspn(p->at + n + 1, "0123456789");
	if (n == 0 || n >= sizeof(text))
		return bad(p, "a number");
	memcpy(text, p->at, n);
	text[n] = '\0';
	v = strtod(text, &end);
	if (*end || !isfinite(v))
		return bad(p, "a number");
	p->at += n;
	return emit(p, (struct op){ .code = OP_NUM, .num = v }, 0);
}

static bool is_word(char c)
{
	return isalnum((unsigned char)c) || c == '_';
}

static int add_name(struct parser *p, char ***path, const char *from, size_t n)
{
	auto_free char *name = strndup(from, n);

	if (!name || strv_add(path, name) < 0)
		return err_nomem(p->e);
	return 0;
}

/* One name of a path, quoted or plain. */
static int parse_name(struct parser *p, char ***path)
{
	const char *from = p->at;
	size_t n = 0;
	int r;

	if (*from == '"') {
		n = strcspn(from + 1, "\"");
		if (from[n + 1] != '"' || n == 0)
			return bad(p, "a closing quote and a name before it");
		r = add_name(p, path, from + 1, n);
		n += 2;
	} else {
		while (is_word(from[n]))
			n++;
		r = n ? add_name(p, path, from, n) : bad(p, "a name");
	}
	p->at += n;
	return r;
}

static int parse_key(struct parser *p)
{
	auto_strv char **path = NULL;
	int r = parse_name(p, &path);

	while (r == 0 && *p->at == '.') {
		p->at++;
		r = parse_name(p, &path);
	}
	return r < 0 ? r : emit(p, (struct op){ .code = OP_KEY, .path = take_ptr(path) }, 0);
}

static const struct {
	const char *name;
	enum op_code code;
	unsigned max;
} functions[] = {
	{ "min", OP_MIN, STACK_MAX },
	{ "max", OP_MAX, STACK_MAX },
	{ "abs", OP_ABS, 1 },
};

/* Arguments and the closing parenthesis. */
static int parse_call(struct parser *p, size_t fn)
{
	unsigned args = 0;
	int r;

	do {
		r = parse_sum(p);
		if (r < 0)
			return r;
		args++;
	} while (eat(p, ','));
	if (!eat(p, ')'))
		return bad(p, "')'");
	if (args > functions[fn].max)
		return err_input(p->e, "%s() takes one value", functions[fn].name);
	return emit(p, (struct op){ .code = functions[fn].code }, args);
}

static int parse_word(struct parser *p)
{
	size_t n = 0;

	while (is_word(p->at[n]))
		n++;
	for (size_t i = 0; i < ARRAY_LEN(functions); i++) {
		const char *after = p->at + n + strspn(p->at + n, " \t");

		if (n == strlen(functions[i].name) && *after == '(' &&
		    strncmp(p->at, functions[i].name, n) == 0) {
			p->at = after + 1;
			return parse_call(p, i);
		}
	}
	return parse_key(p);
}

static int parse_primary(struct parser *p)
{
	char c = peek(p);
	int r;

	if (eat(p, '(')) {
		r = parse_sum(p);
		return r < 0 ? r : eat(p, ')') ? 0 : bad(p, "')'");
	}
	if (isdigit((unsigned char)c) || c == '.')
		return parse_number(p);
	if (is_word(c) || c == '"')
		return parse_word(p);
	return bad(p, "a key, a number or '('");
}

static int parse_unary(struct parser *p)
{
	int r, minus = 0;

	while (eat(p, '-'))
		minus ^= 1;
	r = parse_primary(p);
	return r < 0 || !minus ? r : emit(p, (struct op){ .code = OP_NEG }, 1);
}

static int parse_product(struct parser *p)
{
	int r = parse_unary(p);

	while (r == 0) {
		enum op_code code = eat(p, '*') ? OP_MUL : eat(p, '/') ? OP_DIV : OP_NUM;

		if (code == OP_NUM)
			break;
		r = parse_unary(p);
		if (r == 0)
			r = emit(p, (struct op){ .code = code }, 2);
	}
	return r;
}

static int parse_sum(struct parser *p)
{
	int r;

	if (++p->depth > DEPTH_MAX)
		return err_input(p->e, "an expression may be nested %d deep", DEPTH_MAX);
	r = parse_product(p);
	while (r == 0) {
		enum op_code code = eat(p, '+') ? OP_ADD : eat(p, '-') ? OP_SUB : OP_NUM;

		if (code == OP_NUM)
			break;
		r = parse_product(p);
		if (r == 0)
			r = emit(p, (struct op){ .code = code }, 2);
	}
	p->depth--;
	return r;
}

int expr_parse(const char *text, struct expr **ret, struct err *e)
{
	auto_obj(expr) x = calloc(1, sizeof(*x));
	struct parser p = { .x = x, .e = e };
	int r;

	if (!x)
		return err_nomem(e);
	if (strlen(text) > EXPR_TEXT_MAX || !str_utf8_valid(text, strlen(text)))
		return err_input(e, "an expression is text of at most %d bytes", EXPR_TEXT_MAX);
	x->text = strdup(text);
	if (!x->text)
		return err_nomem(e);
	p.at = x->text;
	r = parse_sum(&p);
	if (r == 0 && peek(&p))
		r = bad(&p, "the end");
	if (r == 0)
		*ret = take_ptr(x);
	return r;
}

/* --- evaluating ------------------------------------------------------------------------------ */

static int look_up(const struct op *op, const json_t *scores, double *ret, struct err *e)
{
	const json_t *v = scores;

	for (size_t i = 0; op->path[i]; i++) {
		v = json_object_get(v, op->path[i]);
		if (!v)
			return err_input(e, "no '%s' in the scores", op->path[i]);
	}
	if (json_is_boolean(v))
		*ret = json_is_true(v);
	else if (json_is_number(v))
		*ret = json_number_value(v);
	else
		return err_input(e, "'%s' is not a number", op->path[strv_len(op->path) - 1]);
	return 0;
}

/* The operands are v[0], v[1], …; the result goes to v[0]. */
static void apply(const struct op *op, double *v)
{
	switch (op->code) {
	case OP_NEG:
		v[0] = -v[0];
		break;
	case OP_ABS:
		v[0] = fabs(v[0]);
		break;
	case OP_ADD:
		v[0] += v[1];
		break;
	case OP_SUB:
		v[0] -= v[1];
		break;
	case OP_MUL:
		v[0] *= v[1];
		break;
	case OP_DIV:
		v[0] /= v[1];
		break;
	case OP_MIN:
	case OP_MAX:
		for (unsigned i = 1; i < op->args; i++)
			if ((op->code == OP_MIN) == (v[i] < v[0]))
				v[0] = v[i];
		break;
	case OP_NUM:
	case OP_KEY:
		break;
	}
}

int expr_eval(const struct expr *x, const json_t *scores, double *ret, struct err *e)
{
	double stack[STACK_MAX + 1] = { 0 };
	unsigned n = 0;

	for (size_t i = 0; i < x->n; i++) {
		const struct op *op = &x->ops[i];
		double *v = &stack[n - op->args];
		int r = 0;

		if (op->code == OP_KEY)
			r = look_up(op, scores, v, e);
		else if (op->code == OP_NUM)
			*v = op->num;
		else
			apply(op, v);
		if (r < 0)
			return r;
		if (!isfinite(*v))
			return err_input(e, "'%s' has no finite value", x->text);
		n = n - op->args + 1;
	}
	*ret = stack[0];
	return 0;
}

/* SPDX-License-Identifier: MIT */
#include "messaging/pikesides.h"

#include <stdio.h>
#include <string.h>
#include <syslog.h>

#include "base/fd.h"

#define MARK_MAX (1u << 20)

void pikesides_done(struct pikesides *p)
{
	for (size_t i = 0; i < p->n; i++)
		pikeside_free(p->side[i]);
	free(p->side);
	p->side = NULL;
	p->n = 0;
}

static int add(struct pikesides *p, const char *input, const char *output, struct pikeside **ret,
	       struct err *e)
{
	struct pikeside **more = realloc(p->side, (p->n + 1) * sizeof(struct pikeside *));
	struct pikeside *s = NULL;
	int r;

	if (!more)
		return err_nomem(e);
	p->side = more;
	r = pikeside_new(input, output, p->ops, p->user, p->lines, &s, e);
	if (r < 0)
		return r;
	p->side[p->n++] = s;
	*ret = s;
	return loop_timer(p->loop, USEC_INFINITY, p->on_drain, s, &s->drain, e);
}

/* Twice the same folder would be two readers of it; and what is written where requests are read would
 * be one, after what waits there was deleted. */
static int check_twice(const struct pikesides *p, const struct pikeside *s, struct err *e)
{
	for (size_t i = 0; i < p->n; i++) {
		const struct pikeside *other = p->side[i];

		if (other != s && fd_same(s->in, other->in))
			return err_set(e, EEXIST, ERR_INPUT,
				       "%s is named twice: give each channel a folder of its own",
				       STR_ESC(s->input));
		if (fd_same(s->in, other->out) || fd_same(s->out, other->in))
			return err_set(e, EEXIST, ERR_INPUT,
				       "%s is for requests and for answers: they need two folders",
				       STR_ESC(fd_same(s->in, other->out) ? s->input : s->output));
	}
	return 0;
}

int pikesides_open(struct pikesides *p, const struct pike_conf *conf, struct err *e)
{
	int r = 0;

	for (size_t i = 0; i < conf->n_folders && r == 0; i++) {
		struct pikeside *s;

		r = add(p, conf->folders[i].input, conf->folders[i].output, &s, e);
		if (r == 0)
			r = pikeside_open(s, NULL, e);
		if (r == 0)
			r = check_twice(p, s, e);
		if (r == 0)
			s->up = true;
	}
	return r;
}

int pikesides_of(struct pikesides *p, const char *output, struct pikeside **ret, struct err *e)
{
	struct err why = { 0 };
	int r;

	*ret = p->side[0];
	if (!output)
		return 0;
	for (size_t i = 0; i < p->n; i++) {
		*ret = p->side[i];
		if (str_eq(output, (*ret)->output))
			return 0;
	}
	r = add(p, NULL, output, ret, e);
	if (r < 0)
		return r;
	(*ret)->up = pikeside_open(*ret, NULL, &why) == 0;
	if (!(*ret)->up)
		p->ops->on_report(p->user, LOG_WARNING, why.msg);
	return 0;
}

struct pikeside *pikesides_next(struct pikesides *p)
{
	for (size_t i = 0; i < p->n; i++) {
		size_t at = (p->turn + i) % p->n;
		struct pikeside *s = p->side[at];

		if (!s->up || s->stalled || TAILQ_EMPTY(&s->pairs.queue))
			continue;
		p->turn = at + 1;
		return s;
	}
	return NULL;
}

int pikesides_write_mark(const struct pikesides *p, int dirfd, const char *name, struct err *e)
{
	auto_buf struct buf b = { 0 };

	for (size_t i = 0; i < p->n; i++) {
		p->side[i]->marked = p->side[i]->closed;
		if (p->side[i]->closed && buf_fmt(&b, "%s\n", p->side[i]->output) < 0)
			return err_nomem(e);
	}
	if (b.len)
		return fd_write_file(dirfd, name, b.data, b.len, 0600, false, e);
	(void)unlinkat(dirfd, name, 0);
	return 0;
}

void pikesides_take_mark(int dirfd, const char *name, struct buf *ret)
{
	if (fd_read_file(dirfd, name, MARK_MAX, ret, NULL) == 0)
		(void)!buf_str(ret, "");
	(void)unlinkat(dirfd, name, 0);
}

/* An empty one, of before there could be several folders, is about all. */
bool pikesides_is_marked(const struct buf *mark, const struct pikeside *s)
{
	auto_free char *line = NULL;

	if (!mark->data)
		return false;
	if (!mark->len)
		return true;
	if (str_fmt(&line, "\n%s\n", s->output) < 0)
		return false;
	return str_starts(mark->data, line + 1) || strstr(mark->data, line);
}

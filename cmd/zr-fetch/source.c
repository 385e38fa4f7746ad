/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "base/str.h"
#include "fetcher.h"

void source_done(struct source *s)
{
	free(s->user);
	free(s->address);
	free(s->dir);
	*s = (struct source){ .remote = false };
}

static int parse_port(const char *text, uint16_t *ret)
{
	uint64_t v;

	if (str_u64(text, &v) < 0 || v == 0 || v > 65535)
		return -EINVAL;
	*ret = (uint16_t)v;
	return 0;
}

/* "host", "host:port", "[number]:port", "[number]"; taken apart in place. */
static int parse_address(char *text, struct source *ret)
{
	char *end = text, *port = NULL;

	if (*text == '[') {
		text++;
		end = strchr(text, ']');
		if (!end || (end[1] && end[1] != ':'))
			return -EINVAL;
		port = end[1] ? end + 2 : NULL;
	} else {
		end = strchrnul(text, ':');
		port = *end ? end + 1 : NULL;
	}
	*end = '\0';
	ret->port = 22;
	if (!*text || (port && parse_port(port, &ret->port) < 0))
		return -EINVAL;
	ret->address = strdup(text);
	return ret->address ? 0 : -ENOMEM;
}

static int parse_url(char *rest, struct source *ret)
{
	char *slash = strchr(rest, '/'), *at;
	int r;

	if (!slash)
		return -EINVAL;
	ret->dir = strdup(slash);
	*slash = '\0';
	at = strrchr(rest, '@');
	if (!at || at == rest)
		return -EINVAL;
	*at = '\0';
	r = parse_address(at + 1, ret);
	if (r < 0)
		return r;
	ret->user = strdup(rest);
	return ret->dir && ret->user ? 0 : -ENOMEM;
}

int source_parse(const char *text, struct source *ret, struct err *e)
{
	auto_done(source) s = { .remote = str_starts(text, "ssh://") };
	auto_free char *copy = strdup(text);
	int r = 0;

	if (!copy)
		return err_nomem(e);
	if (s.remote)
		r = parse_url(copy + strlen("ssh://"), &s);
	else
		s.dir = take_ptr(copy);
	if (r == -ENOMEM)
		return err_nomem(e);
	if (r < 0)
		return err_input(e, "'%s' is not ssh://USER@HOST[:PORT]/FOLDER", STR_ESC(text));
	*ret = s;
	s = (struct source){ .remote = false };
	return 0;
}

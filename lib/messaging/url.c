/* SPDX-License-Identifier: MIT */
#include "messaging/url.h"

#include <ctype.h>
#include <string.h>

#include "base/str.h"

#define PART_MAX 512 /* bytes of any part, as AMQP's short texts are at most 255 */

void url_done(struct url *u)
{
	if (u->password)
		explicit_bzero(u->password, strlen(u->password));
	free(u->user);
	free(u->password);
	free(u->host);
	free(u->vhost);
	*u = (struct url){ 0 };
}

static int hex(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *p = c ? strchr(digits, tolower((unsigned char)c)) : NULL;

	return p ? (int)(p - digits) : -1;
}

/* One percent-encoded part; `what` names it in errors. */
static int decode(const char *s, size_t n, const char *what, char **ret, struct err *e)
{
	auto_free char *out = malloc(n + 1);
	size_t len = 0;

	if (!out)
		return err_nomem(e);
	if (n > PART_MAX)
		return err_input(e, "AMQP URL: the %s is too long", what);
	for (size_t i = 0; i < n; i++) {
		int c = (unsigned char)s[i];

		if (c == '%') {
			if (n - i < 3 || hex(s[i + 1]) < 0 || hex(s[i + 2]) < 0)
				return err_input(e, "AMQP URL: bad %%XX in the %s", what);
			c = hex(s[i + 1]) * 16 + hex(s[i + 2]);
			i += 2;
		}
		if (c < 0x20 || c == 0x7f)
			return err_input(e, "AMQP URL: control character in the %s", what);
		out[len++] = (char)c;
	}
	out[len] = '\0';
	if (!str_utf8_valid(out, len))
		return err_input(e, "AMQP URL: the %s is not UTF-8", what);
	*ret = take_ptr(out);
	return 0;
}

/* "user:password" */
static int parse_login(const char *s, size_t n, struct url *u, struct err *e)
{
	const char *colon = memchr(s, ':', n);
	size_t user = colon ? (size_t)(colon - s) : n;
	int r = decode(s, user, "user", &u->user, e);

	if (r < 0)
		return r;
	return colon ? decode(colon + 1, n - user - 1, "password", &u->password, e)
		     : decode("", 0, "password", &u->password, e);
}

static int parse_port(const char *s, size_t n, struct url *u, struct err *e)
{
	char text[8] = "";
	uint64_t port;

	if (n == 0)
		return 0;
	if (n < sizeof(text))
		memcpy(text, s, n);
	if (n >= sizeof(text) || str_u64(text, &port) < 0 || port < 1 || port > 65535)
		return err_input(e, "AMQP URL: the port is not a number from 1 to 65535");
	u->port = (unsigned)port;
	return 0;
}

/* "host", "host:port", "[::1]:port" */
static int parse_host(const char *s, size_t n, struct url *u, struct err *e)
{
	const char *end = s + n, *host = s, *host_end, *rest;
	int r;

	if (n && *s == '[') {
		host++;
		host_end = memchr(s, ']', n);
		if (!host_end)
			return err_input(e, "AMQP URL: ']' is missing after the address");
		rest = host_end + 1;
	} else {
		host_end = memchr(s, ':', n);
		rest = host_end = host_end ? host_end : end;
	}
	if (rest < end && *rest != ':')
		return err_input(e, "AMQP URL: odd text after the host");
	if (host_end > host) {
		r = decode(host, (size_t)(host_end - host), "host", &u->host, e);
		if (r < 0)
			return r;
	}
	return rest < end ? parse_port(rest + 1, (size_t)(end - rest - 1), u, e) : 0;
}

static int parse_authority(const char *s, size_t n, struct url *u, struct err *e)
{
	const char *at = memrchr(s, '@', n);
	int r = 0;

	if (at) {
		u->login = true;
		r = parse_login(s, (size_t)(at - s), u, e);
		n -= (size_t)(at + 1 - s);
		s = at + 1;
	}
	return r < 0 ? r : parse_host(s, n, u, e);
}

static int parse_vhost(const char *s, struct url *u, struct err *e)
{
	if (strchr(s, '/'))
		return err_input(e, "AMQP URL: write '/' in a virtual host's name as %%2F");
	return *s ? decode(s, strlen(s), "virtual host", &u->vhost, e) : 0;
}

static int set_default(char **text, const char *value)
{
	if (!*text)
		*text = strdup(value);
	return *text ? 0 : -ENOMEM;
}

static int set_defaults(struct url *u, struct err *e)
{
	if (u->port == 0)
		u->port = u->tls ? 5671 : 5672;
	if (set_default(&u->user, "guest") < 0 || set_default(&u->password, "guest") < 0 ||
	    set_default(&u->host, "localhost") < 0 || set_default(&u->vhost, "/") < 0)
		return err_nomem(e);
	return 0;
}

int url_parse(const char *text, struct url *ret, struct err *e)
{
	auto_done(url) u = { 0 };
	const char *s = text;
	size_t n;
	int r;

	if (str_starts(s, "amqps://"))
		u.tls = true;
	else if (!str_starts(s, "amqp://"))
		return err_input(e, "AMQP URL: it starts with neither amqp:// nor amqps://");
	s += u.tls ? 8 : 7;
	if (strpbrk(s, "?#"))
		return err_input(e, "AMQP URL: options after '?' are not taken; zr.conf has keys "
				    "for them");
	n = strcspn(s, "/");
	r = parse_authority(s, n, &u, e);
	if (r == 0 && s[n] == '/')
		r = parse_vhost(s + n + 1, &u, e);
	if (r == 0)
		r = set_defaults(&u, e);
	if (r < 0)
		return r;
	*ret = u;
	u = (struct url){ 0 };
	return 0;
}

int url_where(const struct url *u, char **ret, struct err *e)
{
	bool v6 = strchr(u->host, ':');

	if (str_fmt(ret, "amqp%s://%s@%s%s%s:%u/%s", u->tls ? "s" : "", u->user, v6 ? "[" : "",
		    u->host, v6 ? "]" : "", u->port, str_eq(u->vhost, "/") ? "" : u->vhost) < 0)
		return err_nomem(e);
	return 0;
}

/* SPDX-License-Identifier: MIT */
#include "store/db_hosts.h"

#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#include "base/resolve.h"

struct db_hosts {
	struct loop *loop;
	db_hosts_fn fn;
	void *user;
	char *names, *ports;           /* the lists, cut into words */
	char *more_names, *more_ports; /* what is left of them */
	const char *name, *port;       /* being looked up */
	struct resolve *lookup;
	struct db_addresses found;
	struct err why;
};

/* A folder with sockets, libpq's default, or an address. */
static bool is_name(const char *host)
{
	struct resolve_addrs a;

	return *host && *host != '/' && *host != '@' && !resolve_numeric(host, 0, &a);
}

bool db_hosts_named(const char *hosts)
{
	auto_free char *list = hosts ? strdup(hosts) : NULL;
	char *rest = list, *host;

	while (rest && (host = strsep(&rest, ",")))
		if (is_name(host))
			return true;
	return false;
}

static int add_word(struct buf *b, const char *word, bool first)
{
	return !first && buf_str(b, ",") < 0 ? -ENOMEM : buf_str(b, word);
}

/* `address` "": libpq is to use the name as it is. */
static int add(struct db_hosts *h, const char *address)
{
	struct db_addresses *f = &h->found;
	bool first = f->n == 0;

	if (add_word(&f->host, h->name, first) < 0 || add_word(&f->hostaddr, address, first) < 0 ||
	    add_word(&f->port, h->port, first) < 0)
		return err_nomem(&h->why);
	f->n++;
	return 0;
}

static int add_all(struct db_hosts *h, const struct resolve_addrs *a)
{
	char text[NI_MAXHOST];
	int r = 0;

	for (size_t i = 0; i < a->n && r == 0; i++)
		if (getnameinfo((const struct sockaddr *)&a->addr[i].sa, a->addr[i].len, text,
				sizeof(text), NULL, 0, NI_NUMERICHOST) == 0)
			r = add(h, text);
	return r;
}

static bool next_host(struct db_hosts *h)
{
	h->name = strsep(&h->more_names, ",");
	/* The last port serves all that follow. */
	if (h->more_ports)
		h->port = strsep(&h->more_ports, ",");
	return h->name;
}

static void step(struct db_hosts *h);

static void on_addresses(void *user, const struct resolve_addrs *a, const struct err *why)
{
	struct db_hosts *h = user;

	h->lookup = resolve_free(h->lookup);
	if (!a)
		h->why = *why;
	if (!a || add_all(h, a) == 0)
		step(h);
	else
		h->fn(h->user, NULL, &h->why);
}

static void step(struct db_hosts *h)
{
	int r = 0;

	while (r == 0 && next_host(h)) {
		if (is_name(h->name)) {
			if (resolve_start(h->loop, h->name, 0, on_addresses, h, &h->lookup,
					  &h->why) == 0)
				return;
			continue;
		}
		r = add(h, "");
	}
	h->fn(h->user, r == 0 && h->found.n ? &h->found : NULL, &h->why);
}

int db_hosts_start(struct loop *l, const char *hosts, const char *ports, db_hosts_fn fn, void *user,
		   struct db_hosts **ret, struct err *e)
{
	struct db_hosts *h = calloc(1, sizeof(*h));

	if (!h)
		return err_nomem(e);
	*h = (struct db_hosts){ .loop = l, .fn = fn, .user = user, .port = "" };
	h->names = strdup(hosts);
	h->ports = strdup(ports ? ports : "");
	if (!h->names || !h->ports) {
		db_hosts_free(h);
		return err_nomem(e);
	}
	h->more_names = h->names;
	h->more_ports = h->ports;
	*ret = h;
	step(h);
	return 0;
}

struct db_hosts *db_hosts_free(struct db_hosts *h)
{
	if (!h)
		return NULL;
	resolve_free(h->lookup);
	buf_done(&h->found.host);
	buf_done(&h->found.hostaddr);
	buf_done(&h->found.port);
	free(h->names);
	free(h->ports);
	free(h);
	return NULL;
}

/* SPDX-License-Identifier: MIT */
#include "transfer/hostkey.h"

#include <nettle/base64.h>
#include <string.h>

#include "base/hash.h"

static const char *const types[] = {
	"ssh-ed25519",
	"ecdsa-sha2-nistp256",
	"ecdsa-sha2-nistp384",
	"ecdsa-sha2-nistp521",
};

static bool type_known(const char *s)
{
	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		if (str_eq(types[i], s))
			return true;
	return false;
}

/* No host key that we take is longer than this. */
#define BLOB_MAX 1024

static void fingerprint(const void *blob, size_t n, char out[64])
{
	uint8_t sum[HASH_SIZE];
	struct hash h;

	hash_init(&h);
	hash_add(&h, blob, n);
	hash_end(&h, sum);
	memcpy(out, "SHA256:", 7);
	base64_encode_raw(out + 7, HASH_SIZE, sum);
	/* 32 bytes make 43 characters and one '=', which ssh-keygen leaves out. */
	out[7 + 43] = '\0';
}

int hostkey_read(const void *blob, size_t n, struct hostkey *ret, struct err *e)
{
	const unsigned char *p = blob;
	struct hostkey k = { .base64 = NULL };
	size_t len;

	if (n < 4 || n > BLOB_MAX)
		return err_set(e, EPROTO, ERR_TRANSIENT, "the host's key is not a key");
	len = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
	if (len > n - 4 || len >= sizeof(k.type))
		return err_set(e, EPROTO, ERR_TRANSIENT, "the host's key is not a key");
	memcpy(k.type, p + 4, len);
	if (!type_known(k.type))
		return err_set(e, EPROTONOSUPPORT, ERR_HOST, "the host's key is of type '%s'",
			       STR_ESC(k.type));
	fingerprint(blob, n, k.fingerprint);
	k.base64 = calloc(1, BASE64_ENCODE_RAW_LENGTH(n) + 1);
	if (!k.base64)
		return err_nomem(e);
	base64_encode_raw(k.base64, n, blob);
	*ret = k;
	return 0;
}

void hostkey_done(struct hostkey *k)
{
	free(k->base64);
	*k = (struct hostkey){ .base64 = NULL };
}

int hostkey_host(const char *address, uint16_t port, char **ret)
{
	if (port == 0 || port == 22)
		return str_fmt(ret, "%s", address);
	return str_fmt(ret, "[%s]:%u", address, port);
}

/* --- the file ------------------------------------------------------------------------------- */

struct pin {
	bool revoked;
	char *hosts, *type, *key;
};

/* Takes one line apart in place; false: a comment, an empty or an incomplete one. */
static bool pin_parse(char *line, struct pin *ret)
{
	char *word[4], *rest = line, *w;
	size_t n = 0, first;

	while (n < 4 && (w = strsep(&rest, " \t\r")))
		if (*w)
			word[n++] = w;
	if (n == 0 || word[0][0] == '#')
		return false;
	first = word[0][0] == '@';
	if (n < first + 3 || (first && !str_eq(word[0], "@revoked")))
		return false;
	*ret = (struct pin){
		.revoked = first,
		.hosts = word[first],
		.type = word[first + 1],
		.key = word[first + 2],
	};
	return true;
}

static bool pin_names(char *hosts, const char *host)
{
	char *name;

	while ((name = strsep(&hosts, ",")))
		if (strcasecmp(name, host) == 0)
			return true;
	return false;
}

typedef void (*pin_fn)(const struct pin *p, void *user);

static int each_pin(const struct buf *known_hosts, const char *host, pin_fn fn, void *user)
{
	auto_free char *copy =
		strndup(known_hosts->data ? known_hosts->data : "", known_hosts->len);
	char *rest = copy, *line;
	struct pin p;

	if (!copy)
		return -ENOMEM;
	while ((line = strsep(&rest, "\n")))
		if (pin_parse(line, &p) && pin_names(p.hosts, host))
			fn(&p, user);
	return 0;
}

struct check {
	const struct hostkey *key;
	bool any, match, revoked;
	char *pinned;
};

static void note_pinned(const char *base64, char out[64])
{
	uint8_t blob[BLOB_MAX];
	struct base64_decode_ctx ctx;
	size_t n = sizeof(blob), len = strlen(base64);

	base64_decode_init(&ctx);
	if (len < BASE64_ENCODE_LENGTH(sizeof(blob)) &&
	    base64_decode_update(&ctx, &n, blob, len, base64) && base64_decode_final(&ctx))
		fingerprint(blob, n, out);
	else
		snprintf(out, 64, "(not base64)");
}

static void check_pin(const struct pin *p, void *user)
{
	struct check *c = user;
	bool same = str_eq(p->type, c->key->type) && str_eq(p->key, c->key->base64);

	if (p->revoked) {
		c->revoked |= same;
		return;
	}
	c->any = true;
	c->match |= same;
	if (c->pinned)
		note_pinned(p->key, c->pinned);
}

int hostkey_check(const struct buf *known_hosts, const char *host, const struct hostkey *k,
		  char ret_pinned[64])
{
	struct check c = { .key = k, .pinned = ret_pinned };
	int r = each_pin(known_hosts, host, check_pin, &c);

	if (r < 0)
		return r;
	if (c.revoked)
		return -EKEYREVOKED;
	if (c.match)
		return 0;
	return c.any ? -EKEYREJECTED : -ENOKEY;
}

struct wanted {
	bool pinned[ARRAY_LEN(types)];
};

static void note_type(const struct pin *p, void *user)
{
	struct wanted *w = user;

	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		w->pinned[i] |= !p->revoked && str_eq(types[i], p->type);
}

int hostkey_types(const struct buf *known_hosts, const char *host, struct buf *ret)
{
	struct wanted w = { .pinned = { false } };
	int r = known_hosts ? each_pin(known_hosts, host, note_type, &w) : 0;

	for (int pass = 1; pass >= 0; pass--)
		for (size_t i = 0; i < ARRAY_LEN(types) && r >= 0; i++)
			if (w.pinned[i] == (pass == 1))
				r = buf_fmt(ret, ret->len ? ",%s" : "%s", types[i]);
	return r;
}

/* SPDX-License-Identifier: MIT */
#include "messaging/transport.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <sys/socket.h>

#include "base/resolve.h"

#define READ_PIECE ((size_t)32 << 10)
/* After this much the loop's other sources have their turn. */
#define READ_TURN    ((size_t)512 << 10)
#define LOOKUP_USEC  (20 * USEC_PER_SEC)
#define CONNECT_USEC (5 * USEC_PER_SEC) /* for each address */
/* Unacknowledged bytes break the connection after this long, as heartbeats would. */
#define USER_TIMEOUT_MSEC 20000

struct transport_tls {
	SSL_CTX *ctx;
};

struct transport {
	struct loop *loop;
	const struct transport_ops *ops;
	void *user;
	char *host;
	unsigned port;
	struct resolve *lookup;
	struct resolve_addrs addrs;
	size_t next; /* of them, to try */
	int fd;
	struct loop_src *io, *timer;
	struct loop_src *turn; /* for what was kicked */
	SSL *ssl;
	enum {
		TRANSPORT_LOOKUP,
		TRANSPORT_CONNECTING,
		TRANSPORT_GREETING, /* TLS handshake */
		TRANSPORT_OPEN,
		TRANSPORT_BROKEN,
	} state;
	uint32_t events;  /* what the loop watches now */
	bool kicked;      /* a turn for writing was asked for */
	bool read_blocks; /* TLS: reading waits for writability */
	bool write_blocks;
	struct buf in, out;
	uint64_t received;
	unsigned busy; /* callbacks on the stack */
	bool freed;
};

/* --- TLS --- */

static const char *ssl_text(void)
{
	unsigned long code = ERR_get_error();
	const char *s = code ? ERR_reason_error_string(code) : NULL;

	ERR_clear_error();
	return s ? s : "unknown error";
}

static int load_files(SSL_CTX *ctx, const char *ca, const char *cert, const char *key,
		      struct err *e)
{
	if (ca ? SSL_CTX_load_verify_locations(ctx, ca, NULL) != 1
	       : SSL_CTX_set_default_verify_paths(ctx) != 1)
		return err_input(e, "cannot read the authorities' certificates %s: %s",
				 ca ? ca : "of the system", ssl_text());
	if (cert && SSL_CTX_use_certificate_chain_file(ctx, cert) != 1)
		return err_input(e, "cannot use the client certificate %s: %s", cert, ssl_text());
	if (cert && SSL_CTX_use_PrivateKey_file(ctx, key ? key : cert, SSL_FILETYPE_PEM) != 1)
		return err_input(e, "cannot use the client key %s: %s", key ? key : cert,
				 ssl_text());
	if (!cert && key)
		return err_input(e, "there is a client key (%s) but no client certificate", key);
	return 0;
}

int transport_tls_new(const char *ca_file, const char *cert_file, const char *key_file,
		      struct transport_tls **ret, struct err *e)
{
	struct transport_tls *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return err_nomem(e);
	t->ctx = SSL_CTX_new(TLS_client_method());
	if (!t->ctx) {
		free(t);
		return err_nomem(e);
	}
	SSL_CTX_set_min_proto_version(t->ctx, TLS1_2_VERSION);
	SSL_CTX_set_verify(t->ctx, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_mode(t->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE |
					 SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
					 SSL_MODE_RELEASE_BUFFERS);
	r = load_files(t->ctx, ca_file, cert_file, key_file, e);
	if (r < 0) {
		transport_tls_free(t);
		return r;
	}
	*ret = t;
	return 0;
}

void transport_tls_free(struct transport_tls *t)
{
	if (!t)
		return;
	SSL_CTX_free(t->ctx);
	free(t);
}

/* The certificate must be for the name or address that was asked for. */
static int expect_peer(SSL *ssl, const char *host)
{
	/* OpenSSL's macro takes the const away, which clang minds. */
	auto_free char *name = strdup(host);

	if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1)
		return 0;
	ERR_clear_error();
	if (!name || SSL_set1_host(ssl, host) != 1 || SSL_set_tlsext_host_name(ssl, name) != 1)
		return -ENOMEM;
	return 0;
}

/* --- ends --- */

static void let_go(struct transport *t)
{
	t->lookup = resolve_free(t->lookup);
	t->io = loop_src_free(t->io);
	if (t->fd >= 0)
		close(t->fd);
	t->fd = -1;
}

static void release(struct transport *t)
{
	let_go(t);
	loop_src_free(t->timer);
	loop_src_free(t->turn);
	SSL_free(t->ssl);
	buf_done(&t->in);
	buf_done(&t->out);
	free(t->host);
	free(t);
}

void transport_free(struct transport *t)
{
	if (!t)
		return;
	t->freed = true;
	t->state = TRANSPORT_BROKEN;
	let_go(t);
	if (t->busy == 0)
		release(t);
}

/* Around everything that may call back: the owner may let go in there. */
static void enter(struct transport *t)
{
	t->busy++;
}

static void leave(struct transport *t)
{
	if (--t->busy == 0 && t->freed)
		release(t);
}

#define CALL(t, fn, ...)                                                                           \
	do {                                                                                       \
		if (!(t)->freed && (t)->ops->fn)                                                   \
			(t)->ops->fn((t)->user, ##__VA_ARGS__);                                    \
	} while (0)

static void broken(struct transport *t, const struct err *why)
{
	if (t->state == TRANSPORT_BROKEN)
		return;
	t->state = TRANSPORT_BROKEN;
	let_go(t);
	loop_timer_set(t->timer, USEC_INFINITY);
	loop_timer_set(t->turn, USEC_INFINITY);
	CALL(t, on_broken, why);
}

static void broken_errno(struct transport *t, int code, const char *what)
{
	struct err e = { 0 };

	err_errno(&e, code, "%s", what);
	e.kind = ERR_TRANSIENT;
	broken(t, &e);
}

static void broken_tls(struct transport *t, const char *what)
{
	long v = SSL_get_verify_result(t->ssl);
	struct err e = { 0 };

	if (v != X509_V_OK)
		err_set(&e, EACCES, ERR_INPUT,
			"TLS: the certificate of %s is refused: %s; set amqp_ca_file to the "
			"authority that signed it",
			t->host, X509_verify_cert_error_string(v));
	else
		err_set(&e, EPROTO, ERR_TRANSIENT, "TLS: %s: %s", what, ssl_text());
	broken(t, &e);
}

/* --- reading and writing --- */

static void watch(struct transport *t)
{
	uint32_t want = EPOLLIN;

	if (t->state == TRANSPORT_CONNECTING || t->write_blocks || t->read_blocks)
		want |= EPOLLOUT;
	if (t->io && want != t->events && loop_fd_events(t->io, want) >= 0)
		t->events = want;
}

/* Bytes read or written, 0: must wait, negative: broken (said already). */
static ssize_t tls_result(struct transport *t, int n, bool *blocks, const char *what)
{
	int code;

	if (n > 0)
		return n;
	code = SSL_get_error(t->ssl, n);
	if (code == SSL_ERROR_WANT_WRITE)
		*blocks = true;
	if (code == SSL_ERROR_WANT_WRITE || code == SSL_ERROR_WANT_READ)
		return 0;
	if (code == SSL_ERROR_ZERO_RETURN)
		broken_errno(t, ECONNRESET, "the broker closed the connection");
	else if (code == SSL_ERROR_SYSCALL && errno)
		broken_errno(t, errno, what);
	else
		broken_tls(t, what);
	return -EPIPE;
}

static ssize_t receive(struct transport *t, void *p, size_t n)
{
	ssize_t k;

	if (t->ssl) {
		t->read_blocks = false;
		errno = 0;
		return tls_result(t, SSL_read(t->ssl, p, (int)n), &t->read_blocks, "receive");
	}
	k = recv(t->fd, p, n, 0);
	if (k > 0)
		return k;
	if (k < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	broken_errno(t, k == 0 ? ECONNRESET : errno, "the broker closed the connection");
	return -EPIPE;
}

static ssize_t transmit(struct transport *t, const void *p, size_t n)
{
	ssize_t k;

	if (t->ssl) {
		errno = 0;
		return tls_result(t, SSL_write(t->ssl, p, (int)(n < INT32_MAX ? n : INT32_MAX)),
				  &t->write_blocks, "send");
	}
	k = send(t->fd, p, n, MSG_NOSIGNAL);
	if (k >= 0)
		return k;
	if (errno == EAGAIN || errno == EINTR) {
		t->write_blocks = true;
		return 0;
	}
	broken_errno(t, errno, "send to the broker");
	return -EPIPE;
}

void transport_flush(struct transport *t)
{
	size_t sent = 0;

	if (t->state != TRANSPORT_OPEN)
		return;
	enter(t);
	t->kicked = t->write_blocks = false;
	while (sent < t->out.len && !t->write_blocks) {
		ssize_t k = transmit(t, t->out.data + sent, t->out.len - sent);

		if (k <= 0)
			break;
		sent += (size_t)k;
	}
	buf_drop_front(&t->out, sent);
	watch(t);
	leave(t);
}

void transport_kick(struct transport *t)
{
	if (t->kicked)
		return;
	t->kicked = true;
	if (t->state == TRANSPORT_OPEN)
		loop_timer_set(t->turn, 0);
}

struct buf *transport_out(struct transport *t)
{
	return &t->out;
}

uint64_t transport_received(const struct transport *t)
{
	return t->received;
}

static void read_all(struct transport *t)
{
	size_t turn = 0;

	while (t->state == TRANSPORT_OPEN && turn < READ_TURN) {
		ssize_t k;

		if (buf_reserve(&t->in, READ_PIECE) < 0) {
			broken_errno(t, ENOMEM, "receive");
			return;
		}
		k = receive(t, t->in.data + t->in.len, READ_PIECE);
		if (k <= 0)
			break;
		t->in.len += (size_t)k;
		t->received += (uint64_t)k;
		turn += (size_t)k;
		CALL(t, on_data, &t->in);
		/* A short read empties a plain socket; TLS may hold more. */
		if (!t->ssl && (size_t)k < READ_PIECE)
			return;
	}
	/* What TLS has decrypted already does not wake the loop. */
	if (t->state == TRANSPORT_OPEN && t->ssl && turn >= READ_TURN)
		transport_kick(t);
	watch(t);
}

/* --- opening --- */

static void on_io(void *user, int fd, uint32_t events);

static int try_address(struct transport *t, const struct sockaddr *a, socklen_t len)
{
	int fd = socket(a->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
	unsigned msec = USER_TIMEOUT_MSEC;
	struct err e = { 0 };

	if (fd < 0)
		return -errno;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &msec, sizeof(msec));
	if (connect(fd, a, len) < 0 && errno != EINPROGRESS) {
		int r = -errno;

		close(fd);
		return r;
	}
	t->events = EPOLLIN | EPOLLOUT;
	if (loop_fd(t->loop, fd, t->events, on_io, t, &t->io, &e) < 0) {
		close(fd);
		return -e.code;
	}
	t->fd = fd;
	loop_timer_set(t->timer, CONNECT_USEC);
	return 0;
}

/* The next address that can at least be tried; else `r`, or the error of the last one. */
static int try_next(struct transport *t, int r)
{
	let_go(t);
	t->state = TRANSPORT_CONNECTING;
	while (t->next < t->addrs.n) {
		size_t i = t->next++;

		r = try_address(t, (const struct sockaddr *)&t->addrs.addr[i].sa,
				t->addrs.addr[i].len);
		if (r == 0)
			return 0;
	}
	return r;
}

/* `r` is the error of the address before. */
static void connect_next(struct transport *t, int r)
{
	r = try_next(t, r);
	if (r < 0)
		broken_errno(t, r, "connect");
}

static void on_timeout(void *user)
{
	struct transport *t = user;

	enter(t);
	if (t->state == TRANSPORT_LOOKUP)
		broken_errno(t, ETIMEDOUT, "look up the host's name");
	else if (t->state == TRANSPORT_CONNECTING)
		connect_next(t, -ETIMEDOUT);
	else if (t->state == TRANSPORT_GREETING)
		broken_errno(t, ETIMEDOUT, "TLS handshake");
	leave(t);
}

static void opened(struct transport *t)
{
	t->state = TRANSPORT_OPEN;
	loop_timer_set(t->timer, USEC_INFINITY);
	if (t->kicked)
		loop_timer_set(t->turn, 0);
	watch(t);
	CALL(t, on_open);
}

static void greet(struct transport *t)
{
	bool blocks = false;
	ssize_t r;

	errno = 0;
	r = tls_result(t, SSL_connect(t->ssl), &blocks, "handshake");
	if (r < 0)
		return;
	t->write_blocks = blocks;
	watch(t);
	if (r > 0) {
		t->write_blocks = false;
		opened(t);
	}
}

static void connected(struct transport *t)
{
	socklen_t size = sizeof(int);
	int code = 0;

	(void)getsockopt(t->fd, SOL_SOCKET, SO_ERROR, &code, &size);
	if (code) {
		connect_next(t, -code);
		return;
	}
	if (!t->ssl) {
		opened(t);
		return;
	}
	t->state = TRANSPORT_GREETING;
	SSL_set_fd(t->ssl, t->fd);
	greet(t);
}

static void on_io(void *user, unused_arg int fd, uint32_t events)
{
	struct transport *t = user;

	enter(t);
	if (t->state == TRANSPORT_CONNECTING) {
		if (events & ~(uint32_t)EPOLLIN)
			connected(t);
	} else if (t->state == TRANSPORT_GREETING) {
		greet(t);
	} else {
		if (events & EPOLLOUT)
			transport_flush(t);
		if (t->state == TRANSPORT_OPEN)
			read_all(t);
	}
	leave(t);
}

/* What several callbacks have written goes out in one piece. */
static void on_turn(void *user)
{
	struct transport *t = user;

	enter(t);
	transport_flush(t);
	if (t->state == TRANSPORT_OPEN && t->ssl)
		read_all(t);
	leave(t);
}

static void on_addresses(void *user, const struct resolve_addrs *addrs, const struct err *why)
{
	struct transport *t = user;

	enter(t);
	t->lookup = resolve_free(t->lookup);
	if (addrs) {
		t->addrs = *addrs;
		connect_next(t, -ECONNREFUSED);
	} else {
		broken(t, why);
	}
	leave(t);
}

static int find_host(struct transport *t, struct err *e)
{
	int r;

	if (!resolve_numeric(t->host, t->port, &t->addrs)) {
		loop_timer_set(t->timer, LOOKUP_USEC);
		return resolve_start(t->loop, t->host, t->port, on_addresses, t, &t->lookup, e);
	}
	r = try_next(t, -ECONNREFUSED);
	if (r < 0) {
		err_errno(e, r, "connect");
		if (e)
			e->kind = ERR_TRANSIENT;
	}
	return r;
}

static int prepare(struct transport *t, struct transport_tls *tls, struct err *e)
{
	int r;

	if (tls) {
		t->ssl = SSL_new(tls->ctx);
		if (!t->ssl || expect_peer(t->ssl, t->host) < 0)
			return err_nomem(e);
	}
	r = loop_timer(t->loop, USEC_INFINITY, on_timeout, t, &t->timer, e);
	if (r == 0)
		r = loop_timer(t->loop, USEC_INFINITY, on_turn, t, &t->turn, e);
	return r < 0 ? r : find_host(t, e);
}

int transport_new(struct loop *l, const char *host, unsigned port, struct transport_tls *tls,
		  const struct transport_ops *ops, void *user, struct transport **ret,
		  struct err *e)
{
	struct transport *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return err_nomem(e);
	*t = (struct transport){
		.loop = l, .ops = ops, .user = user, .port = port, .fd = -1, .host = strdup(host)
	};
	r = t->host ? prepare(t, tls, e) : err_nomem(e);
	if (r < 0) {
		release(t);
		return r;
	}
	*ret = t;
	return 0;
}

/* SPDX-License-Identifier: MIT */
#include "transfer/ssh.h"

#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/time.h"
#include "transfer/ssh_impl.h"

#if SANITIZED
/* Known leaks of libssh2 1.10: at each change of keys, and at logins with an ECDSA key. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:libssh2.so\nleak:libcrypto.so\n";
}
#endif

#define KEY_MAX         ((size_t)64 << 10)
#define KNOWN_HOSTS_MAX ((size_t)4 << 20)

#define DEF_HANDSHAKE  (20 * USEC_PER_SEC)
#define DEF_STALL      (30 * USEC_PER_SEC)
#define DEF_FLOOR      1024
#define DEF_FLOOR_USEC (300 * USEC_PER_SEC)

/* --- keys ----------------------------------------------------------------------------------- */

int ssh_keys_read(const char *key_file, const char *known_hosts_file, struct ssh_keys *ret,
		  struct err *e)
{
	auto_done(ssh_keys) k = { .known_hosts_file = strdup(known_hosts_file) };
	int r;

	if (!k.known_hosts_file)
		return err_nomem(e);
	r = key_file ? fd_read_file(AT_FDCWD, key_file, KEY_MAX, &k.private_key, e) : 0;
	if (r < 0)
		return err_wrap(e, "private key");
	if (key_file && (!k.private_key.data || !strstr(k.private_key.data, "PRIVATE KEY-----")))
		return err_set(e, EINVAL, ERR_HOST, "private key: %s is not a private key file",
			       STR_ESC(key_file));
	r = fd_read_file(AT_FDCWD, known_hosts_file, KNOWN_HOSTS_MAX, &k.known_hosts, e);
	if (r < 0 && r != -ENOENT)
		return err_wrap(e, "known hosts");
	*ret = k;
	k = (struct ssh_keys){ .known_hosts_file = NULL };
	return 0;
}

void ssh_keys_done(struct ssh_keys *k)
{
	if (k->private_key.data)
		explicit_bzero(k->private_key.data, k->private_key.cap);
	buf_done(&k->private_key);
	buf_done(&k->known_hosts);
	free(k->known_hosts_file);
	*k = (struct ssh_keys){ .known_hosts_file = NULL };
}

/* --- the connection ------------------------------------------------------------------------- */

static int connect_one(const struct addrinfo *ai, uint64_t deadline, int *ret_fd)
{
	auto_close int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	socklen_t n = sizeof(int);
	int code = 0, r;

	if (fd < 0)
		return -errno;
	if (connect(fd, ai->ai_addr, ai->ai_addrlen) < 0 && errno != EINPROGRESS)
		return -errno;
	do {
		uint64_t now = time_mono_usec();

		if (now >= deadline)
			return -ETIMEDOUT;
		r = poll(&p, 1, (int)((deadline - now) / 1000) + 1);
	} while (r == 0 || (r < 0 && errno == EINTR));
	if (r < 0 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &n) < 0)
		return -errno;
	if (code)
		return -code;
	*ret_fd = take_fd(fd);
	return 0;
}

int ssh_tcp_connect(const struct ssh_host *h, uint64_t timeout_usec, int *ret_fd, struct err *e)
{
	uint64_t deadline = time_mono_usec() + (timeout_usec ? timeout_usec : DEF_HANDSHAKE);
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG };
	struct addrinfo *list = NULL;
	char port[8];
	int r;

	snprintf(port, sizeof(port), "%u", h->port ? h->port : 22);
	r = getaddrinfo(h->address, port, &hints, &list);
	if (r)
		return err_set(e, EHOSTUNREACH, ERR_TRANSIENT, "find host '%s': %s",
			       STR_ESC(h->address), gai_strerror(r));
	r = -EHOSTUNREACH;
	for (struct addrinfo *ai = list; ai && r < 0; ai = ai->ai_next)
		r = connect_one(ai, deadline, ret_fd);
	freeaddrinfo(list);
	if (r < 0)
		return err_errno(e, r, "connect to '%s' port %s", STR_ESC(h->address), port);
	return 0;
}

/* A peer that is gone without a word is noticed by the kernel: 15 s idle, three probes. */
static void set_socket_options(int fd)
{
	static const struct {
		int level, name, value;
	} opts[] = {
		{ IPPROTO_TCP, TCP_NODELAY, 1 },   { SOL_SOCKET, SO_KEEPALIVE, 1 },
		{ IPPROTO_TCP, TCP_KEEPIDLE, 15 }, { IPPROTO_TCP, TCP_KEEPINTVL, 15 },
		{ IPPROTO_TCP, TCP_KEEPCNT, 3 },
	};

	for (size_t i = 0; i < ARRAY_LEN(opts); i++)
		(void)setsockopt(fd, opts[i].level, opts[i].name, &opts[i].value, sizeof(int));
}

/* libssh2 calls these; they return -errno. Every byte that moves resets the stall clock. */
static void count_bytes(struct ssh *s, ssize_t n)
{
	if (n <= 0)
		return;
	s->last_byte = time_mono_usec();
	s->window_bytes += (uint64_t)n;
}

static ssize_t on_recv(libssh2_socket_t fd, void *data, size_t n, int flags, void **abstract)
{
	ssize_t k = recv(fd, data, n, flags | MSG_NOSIGNAL);

	k = k < 0 ? -errno : k;
	count_bytes(*abstract, k);
	return k;
}

static ssize_t on_send(libssh2_socket_t fd, const void *data, size_t n, int flags, void **abstract)
{
	ssize_t k = send(fd, data, n, flags | MSG_NOSIGNAL);

	k = k < 0 ? -errno : k;
	count_bytes(*abstract, k);
	return k;
}

/* --- waiting -------------------------------------------------------------------------------- */

void ssh_begin(struct ssh *s)
{
	s->last_byte = time_mono_usec();
}

static int timed_out(struct ssh *s, struct err *e, const char *what)
{
	s->broken = true;
	return err_set(e, ETIMEDOUT, ERR_TRANSIENT, "%s: %s", s->label, what);
}

static int check_floor(struct ssh *s, uint64_t waited, struct err *e)
{
	s->window_usec += waited;
	if (s->window_usec < s->o.floor_usec)
		return 0;
	if (s->window_bytes < s->o.floor_bytes * (s->window_usec / USEC_PER_SEC))
		return timed_out(s, e, "slower than the floor rate");
	s->window_usec = s->window_bytes = 0;
	return 0;
}

static int wait_ready(struct ssh *s, struct err *e)
{
	int dir = libssh2_session_block_directions(s->raw);
	struct pollfd p[2] = {
		{ .fd = s->fd,
		  .events = (short)((dir & LIBSSH2_SESSION_BLOCK_OUTBOUND ? POLLOUT : 0) |
				    (dir & LIBSSH2_SESSION_BLOCK_INBOUND ? POLLIN : 0)) },
		{ .fd = s->o.abort_fd },
	};

	if (!p[0].events)
		p[0].events = POLLIN;
	for (;;) {
		uint64_t now = time_mono_usec(), until = s->last_byte + s->o.stall_usec;
		int r;

		until = until < s->deadline ? until : s->deadline;
		if (now >= until)
			return timed_out(s, e,
					 s->deadline == until ? "no session within the time limit"
							      : "no byte within the time limit");
		r = poll(p, 2, (int)((until - now) / 1000) + 1);
		if (r < 0 && errno != EINTR)
			return err_sys(e, "wait for %s", s->label);
		if (r > 0 && p[1].revents) {
			s->broken = true;
			return err_set(e, ECANCELED, ERR_TRANSIENT, "given up by the caller");
		}
		if (r > 0)
			return check_floor(s, time_mono_usec() - now, e);
	}
}

bool ssh_again(struct ssh *s, int64_t rc, int *r, struct err *e)
{
	if (rc != LIBSSH2_ERROR_EAGAIN)
		return false;
	*r = wait_ready(s, e);
	return *r == 0;
}

/* --- errors --------------------------------------------------------------------------------- */

static int sftp_code(unsigned long status)
{
	switch (status) {
	case LIBSSH2_FX_NO_SUCH_FILE:
	case LIBSSH2_FX_NO_SUCH_PATH:
		return ENOENT;
	case LIBSSH2_FX_PERMISSION_DENIED:
	case LIBSSH2_FX_WRITE_PROTECT:
		return EPERM;
	case LIBSSH2_FX_FILE_ALREADY_EXISTS:
		return EEXIST;
	case LIBSSH2_FX_NO_SPACE_ON_FILESYSTEM:
	case LIBSSH2_FX_QUOTA_EXCEEDED:
		return ENOSPC;
	default:
		return EIO;
	}
}

int ssh_fail(struct ssh *s, struct err *e, const char *fmt, ...)
{
	int rc = libssh2_session_last_errno(s->raw);
	char *text = NULL, what[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	if (rc == LIBSSH2_ERROR_SFTP_PROTOCOL && s->sftp && libssh2_sftp_last_error(s->sftp)) {
		int code = sftp_code(libssh2_sftp_last_error(s->sftp));

		return err_set(e, code, ERR_INPUT, "%s: %s: %s", s->label, what,
			       code == EIO ? "the host says it failed" : strerrordesc_np(code));
	}
	s->broken = true;
	libssh2_session_last_error(s->raw, &text, NULL, 0);
	if (rc == LIBSSH2_ERROR_ALLOC)
		return err_nomem(e);
	return err_set(e, ECONNRESET, ERR_TRANSIENT, "%s: %s: %s", s->label, what,
		       STR_ESC(text && *text ? text : "no reason given"));
}

/* --- the session ---------------------------------------------------------------------------- */

static int fix_methods(struct ssh *s, const char *host, struct err *e)
{
	auto_buf struct buf types = { 0 };
	static const struct {
		int method;
		const char *list;
	} fixed[] = {
		{ LIBSSH2_METHOD_KEX, "curve25519-sha256,curve25519-sha256@libssh.org,"
				      "ecdh-sha2-nistp256,ecdh-sha2-nistp384" },
		{ LIBSSH2_METHOD_CRYPT_CS, "aes128-ctr,aes256-ctr" },
		{ LIBSSH2_METHOD_CRYPT_SC, "aes128-ctr,aes256-ctr" },
		{ LIBSSH2_METHOD_MAC_CS, "hmac-sha2-256,hmac-sha2-512" },
		{ LIBSSH2_METHOD_MAC_SC, "hmac-sha2-256,hmac-sha2-512" },
		{ LIBSSH2_METHOD_COMP_CS, "none" },
		{ LIBSSH2_METHOD_COMP_SC, "none" },
	};

	if (hostkey_types(s->o.keys ? &s->o.keys->known_hosts : NULL, host, &types) < 0)
		return err_nomem(e);
	if (libssh2_session_method_pref(s->raw, LIBSSH2_METHOD_HOSTKEY, types.data) < 0)
		return ssh_fail(s, e, "choose host key types");
	for (size_t i = 0; i < ARRAY_LEN(fixed); i++)
		if (libssh2_session_method_pref(s->raw, fixed[i].method, fixed[i].list) < 0)
			return ssh_fail(s, e, "choose algorithms");
	return 0;
}

static int handshake(struct ssh *s, struct err *e)
{
	int rc, r = 0;

	do
		rc = libssh2_session_handshake(s->raw, s->fd);
	while (ssh_again(s, rc, &r, e));
	if (r < 0)
		return r;
	if (rc == LIBSSH2_ERROR_KEX_FAILURE || rc == LIBSSH2_ERROR_METHOD_NONE)
		return err_set(
			e, EPROTONOSUPPORT, ERR_HOST,
			"%s: no common algorithm: the host must have an ed25519 or ECDSA host "
			"key (ssh-rsa alone is refused; 'ssh-keygen -A' there makes one), "
			"curve25519 or ECDH, aes-ctr and hmac-sha2",
			s->label);
	return rc < 0 ? ssh_fail(s, e, "agree on keys") : 0;
}

static int read_hostkey(struct ssh *s, struct hostkey *ret, struct err *e)
{
	size_t n = 0;
	int type;
	const char *blob = libssh2_session_hostkey(s->raw, &n, &type);

	if (!blob)
		return ssh_fail(s, e, "read the host's key");
	if (hostkey_read(blob, n, ret, e) < 0)
		return err_wrap(e, "%s", s->label);
	return 0;
}

static int check_hostkey(struct ssh *s, const char *host, struct err *e)
{
	auto_done(hostkey) k = { .base64 = NULL };
	char pinned[64] = "";
	int r = read_hostkey(s, &k, e);

	if (r < 0)
		return r;
	r = hostkey_check(&s->o.keys->known_hosts, host, &k, pinned);
	if (r == -ENOKEY)
		return err_set(
			e, ENOKEY, ERR_HOST,
			"host key of %s is not known. It shows %s. Compare with 'ssh-keygen "
			"-lf /etc/ssh/ssh_host_*_key.pub' there, then pin it: echo '%s %s %s' "
			">>%s",
			host, k.fingerprint, host, k.type, k.base64, s->o.keys->known_hosts_file);
	if (r == -EKEYREJECTED)
		return err_set(
			e, EKEYREJECTED, ERR_HOST,
			"host key of %s does not match: it shows %s %s, pinned is %s in %s. If "
			"the host was set up anew, replace that line by '%s %s %s'",
			host, k.type, k.fingerprint, pinned, s->o.keys->known_hosts_file, host,
			k.type, k.base64);
	if (r == -EKEYREVOKED)
		return err_set(e, EKEYREVOKED, ERR_HOST, "host key %s of %s is revoked in %s",
			       k.fingerprint, host, s->o.keys->known_hosts_file);
	return r < 0 ? err_nomem(e) : 0;
}

/* libssh2 reports the end of a connection as whatever it had been waiting for: a refusal, too. */
static bool hung_up(const struct ssh *s)
{
	char c;
	ssize_t n = recv(s->fd, &c, 1, MSG_PEEK | MSG_DONTWAIT);

	return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

static int login(struct ssh *s, struct err *e)
{
	const struct buf *key = &s->o.keys->private_key;
	const char *user = s->o.host.user;
	int rc, r = 0;

	do
		rc = libssh2_userauth_publickey_frommemory(s->raw, user, strlen(user), NULL, 0,
							   key->data, key->len, NULL);
	while (ssh_again(s, rc, &r, e));
	if (r < 0 || rc == 0)
		return r;
	if (rc == LIBSSH2_ERROR_AUTHENTICATION_FAILED ||
	    (rc == LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED && !hung_up(s)))
		return err_set(
			e, EKEYEXPIRED, ERR_HOST,
			"%s: login refused: the host does not take our key for this user (it "
			"must be ed25519 or ECDSA, and in the user's authorized_keys)",
			s->label);
	if (rc == LIBSSH2_ERROR_FILE || rc == LIBSSH2_ERROR_KEYFILE_AUTH_FAILED ||
	    rc == LIBSSH2_ERROR_METHOD_NONE || rc == LIBSSH2_ERROR_METHOD_NOT_SUPPORTED)
		return err_set(e, EKEYEXPIRED, ERR_HOST,
			       "%s: our private key cannot be used: it must be ed25519 or ECDSA, "
			       "without a passphrase",
			       s->label);
	return ssh_fail(s, e, "log in");
}

static int start_sftp(struct ssh *s, struct err *e)
{
	int rc, r = 0;

	do {
		s->sftp = libssh2_sftp_init(s->raw);
		rc = s->sftp ? 0 : libssh2_session_last_errno(s->raw);
	} while (ssh_again(s, rc, &r, e));
	if (r == -ETIMEDOUT)
		return err_wrap(e, "start SFTP (is internal-sftp the account's command?)");
	if (r < 0)
		return r;
	if ((rc == LIBSSH2_ERROR_CHANNEL_FAILURE || rc == LIBSSH2_ERROR_CHANNEL_REQUEST_DENIED) &&
	    !hung_up(s))
		return err_set(e, EKEYEXPIRED, ERR_HOST, "%s: the account has no SFTP", s->label);
	return rc < 0 ? ssh_fail(s, e, "start SFTP") : 0;
}

static int new_session(const struct ssh_opts *o, struct ssh **ret, struct err *e)
{
	auto_obj(ssh) s = calloc(1, sizeof(*s));

	if (!s)
		return err_nomem(e);
	s->o = *o;
	s->fd = -1;
	s->o.handshake_usec = o->handshake_usec ? o->handshake_usec : DEF_HANDSHAKE;
	s->o.stall_usec = o->stall_usec ? o->stall_usec : DEF_STALL;
	s->o.floor_bytes = o->floor_bytes ? o->floor_bytes : DEF_FLOOR;
	s->o.floor_usec = o->floor_usec ? o->floor_usec : DEF_FLOOR_USEC;
	s->deadline = time_mono_usec() + s->o.handshake_usec;
	snprintf(s->label, sizeof(s->label), "%s@%s:%u", o->host.user ? o->host.user : "",
		 o->host.address, o->host.port ? o->host.port : 22);
	if (libssh2_init(0) != 0)
		return err_nomem(e);
	s->raw = libssh2_session_init_ex(NULL, NULL, NULL, s);
	if (!s->raw)
		return err_nomem(e);
	libssh2_session_set_blocking(s->raw, 0);
	libssh2_session_callback_set(s->raw, LIBSSH2_CALLBACK_RECV, (void *)on_recv);
	libssh2_session_callback_set(s->raw, LIBSSH2_CALLBACK_SEND, (void *)on_send);
	*ret = take_ptr(s);
	return 0;
}

static int connect_host(struct ssh *s, struct err *e)
{
	if (s->o.connect)
		return s->o.connect(s->o.connect_user, &s->o.host, &s->fd, e);
	return ssh_tcp_connect(&s->o.host, s->o.handshake_usec, &s->fd, e);
}

static int start(struct ssh *s, const char *host, struct err *e)
{
	int r = connect_host(s, e);

	if (r < 0)
		return r;
	r = fd_set_nonblock(s->fd, true);
	if (r < 0)
		return err_errno(e, r, "%s", s->label);
	set_socket_options(s->fd);
	ssh_begin(s);
	r = fix_methods(s, host, e);
	return r < 0 ? r : handshake(s, e);
}

/* Up to the handshake; *ret_host is its name among the known hosts. */
static int begin(const struct ssh_opts *o, struct ssh **ret, char **ret_host, struct err *e)
{
	int r;

	if (hostkey_host(o->host.address, o->host.port, ret_host) < 0)
		return err_nomem(e);
	r = new_session(o, ret, e);
	return r < 0 ? r : start(*ret, *ret_host, e);
}

int ssh_open(const struct ssh_opts *o, struct ssh **ret, struct err *e)
{
	auto_obj(ssh) s = NULL;
	auto_free char *host = NULL;
	int r = begin(o, &s, &host, e);

	r = r < 0 ? r : check_hostkey(s, host, e);
	r = r < 0 ? r : login(s, e);
	r = r < 0 ? r : start_sftp(s, e);
	if (r < 0)
		return r;
	s->deadline = USEC_INFINITY;
	*ret = take_ptr(s);
	return 0;
}

void ssh_free(struct ssh *s)
{
	if (!s)
		return;
	if (s->raw) {
		/* The farewell is not waited for; without a socket nothing below can block. */
		if (s->fd >= 0 && !s->broken)
			(void)libssh2_session_disconnect(s->raw, "done");
		if (s->fd >= 0)
			(void)shutdown(s->fd, SHUT_RDWR);
		for (int i = 0; s->stray && i < 8; i++)
			if (libssh2_sftp_close_handle(s->stray) != LIBSSH2_ERROR_EAGAIN)
				break;
		for (int i = 0; s->sftp && i < 8; i++)
			if (libssh2_sftp_shutdown(s->sftp) != LIBSSH2_ERROR_EAGAIN)
				break;
		for (int i = 0; i < 8; i++)
			if (libssh2_session_free(s->raw) != LIBSSH2_ERROR_EAGAIN)
				break;
		libssh2_exit();
	}
	if (s->fd >= 0)
		close(s->fd);
	free(s);
}

bool ssh_alive(const struct ssh *s)
{
	struct pollfd p = { .fd = s->fd, .events = POLLIN };
	char c;

	if (s->broken)
		return false;
	if (poll(&p, 1, 0) == 0)
		return true;
	return recv(s->fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

int ssh_scan(const struct ssh_opts *o, struct hostkey *ret, int *ret_state, struct err *e)
{
	static const struct buf none;
	auto_obj(ssh) s = NULL;
	auto_free char *host = NULL;
	int r = begin(o, &s, &host, e);

	r = r < 0 ? r : read_hostkey(s, ret, e);
	if (r < 0)
		return r;
	*ret_state = hostkey_check(o->keys ? &o->keys->known_hosts : &none, host, ret, NULL);
	return *ret_state == -ENOMEM ? err_nomem(e) : 0;
}

/* SPDX-License-Identifier: MIT */
#include "http.h"

#include <arpa/inet.h>
#include <microhttpd.h>
#include <string.h>

#define CONNECTIONS_MAX 256
#define IDLE_SEC        60

struct http {
	struct MHD_Daemon *daemon;
	http_fn fn;
	void *user;
	struct loop_src *io, *timer;
};

/* One request while it comes in. */
struct call {
	struct buf body;
};

static enum MHD_Result send_reply(struct MHD_Connection *c, const struct http_reply *reply)
{
	struct MHD_Response *r = MHD_create_response_from_buffer(reply->body.len, reply->body.data,
								 MHD_RESPMEM_MUST_COPY);
	enum MHD_Result sent;

	if (!r)
		return MHD_NO;
	(void)MHD_set_response_options(r, MHD_RF_HTTP_1_0_SERVER, MHD_RO_END);
	(void)MHD_add_response_header(r, "Connection", "close");
	if (reply->type)
		(void)MHD_add_response_header(r, "Content-Type", reply->type);
	sent = MHD_queue_response(c, reply->status, r);
	MHD_destroy_response(r);
	return sent;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *c, const char *url,
				  const char *method, unused_arg const char *version,
				  const char *data, size_t *data_size, void **con_cls)
{
	struct http *h = cls;
	struct call *call = *con_cls;
	struct http_request rq = { .method = method, .path = url };
	struct http_reply reply = { .status = MHD_HTTP_INTERNAL_SERVER_ERROR };
	enum MHD_Result r;

	if (!call) {
		*con_cls = calloc(1, sizeof(*call));
		return *con_cls ? MHD_YES : MHD_NO;
	}
	if (*data_size) {
		if (call->body.len + *data_size > HTTP_BODY_MAX ||
		    buf_add(&call->body, data, *data_size) < 0)
			return MHD_NO;
		*data_size = 0;
		return MHD_YES;
	}
	rq.id = MHD_lookup_connection_value(c, MHD_GET_ARGUMENT_KIND, "id");
	rq.body = call->body.data ? call->body.data : "";
	rq.n = call->body.len;
	h->fn(h->user, &rq, &reply);
	r = reply.hang_up ? MHD_NO : send_reply(c, &reply);
	buf_done(&reply.body);
	return r;
}

static void on_completed(unused_arg void *cls, unused_arg struct MHD_Connection *c, void **con_cls,
			 unused_arg enum MHD_RequestTerminationCode why)
{
	struct call *call = *con_cls;

	if (call)
		buf_done(&call->body);
	free(call);
	*con_cls = NULL;
}

static void run(struct http *h)
{
	MHD_UNSIGNED_LONG_LONG msec;

	(void)MHD_run(h->daemon);
	loop_timer_set(h->timer, MHD_get_timeout(h->daemon, &msec) == MHD_YES ? msec * USEC_PER_MSEC
									      : USEC_INFINITY);
}

static void on_ready(void *user, unused_arg int fd, unused_arg uint32_t events)
{
	run(user);
}

static void on_timer(void *user)
{
	run(user);
}

static int start(struct http *h, uint16_t port, struct err *e)
{
	const struct sockaddr_in here = { .sin_family = AF_INET,
					  .sin_port = htons(port),
					  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	errno = 0;
	h->daemon = MHD_start_daemon(MHD_USE_EPOLL, port, NULL, NULL, on_request, h,
				     MHD_OPTION_SOCK_ADDR, &here, MHD_OPTION_NOTIFY_COMPLETED,
				     on_completed, NULL, MHD_OPTION_CONNECTION_LIMIT,
				     (unsigned)CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
				     (unsigned)IDLE_SEC, MHD_OPTION_END);
	if (h->daemon)
		return 0;
	return err_errno(e, errno ? errno : EIO, "listen on 127.0.0.1:%u", port);
}

int http_new(struct loop *l, uint16_t port, http_fn fn, void *user, struct http **ret,
	     struct err *e)
{
	auto_obj(http) h = calloc(1, sizeof(*h));
	const union MHD_DaemonInfo *info;
	int r;

	if (!h)
		return err_nomem(e);
	h->fn = fn;
	h->user = user;
	r = start(h, port, e);
	if (r < 0)
		return r;
	info = MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	if (!info)
		return err_set(e, ENOTSUP, ERR_HOST, "the HTTP library has no epoll here");
	r = loop_fd(l, info->epoll_fd, EPOLLIN, on_ready, h, &h->io, e);
	if (r == 0)
		r = loop_timer(l, USEC_INFINITY, on_timer, h, &h->timer, e);
	if (r < 0)
		return r;
	*ret = take_ptr(h);
	return 0;
}

void http_free(struct http *h)
{
	if (!h)
		return;
	loop_src_free(h->io);
	loop_src_free(h->timer);
	if (h->daemon)
		MHD_stop_daemon(h->daemon);
	free(h);
}

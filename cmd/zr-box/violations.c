/* SPDX-License-Identifier: MIT */
/*
 * What a job tried and was refused, and how near it came to its limits. Nothing here is a wall: the
 * walls stand whether somebody looks or not.
 *
 * Forbidden system calls come as notifications of the job's filter, and we give the answer that the
 * filter would have given. A job that makes very many of them is not worth our time: then nobody
 * listens any more, and the kernel refuses the rest. Attempts to reach a network are counters of the
 * network namespace that the job is alone in, so the job pays nothing for them.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/str.h"
#include "filter.h"
#include "jail.h"
#include "keeper.h"

enum {
	PER_TURN = 64,
	CALLS_MAX = 10000,
	NEAR_PART = 10, /* within a tenth of the limit is near */
};

void violations_init(struct violations *v)
{
	v->listener = -1;
}

void violations_done(struct violations *v)
{
	for (size_t i = 0; i < WRITTEN_MAX; i++)
		free(v->written[i]);
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void stop(struct keeper *k, const char *what, const char *name)
{
	if (k->spec->sandbox.stop)
		verdict(k, BOX_VIOLATION, "%s %s%s, and its evaluator says on_violation = stop",
			phase_name(k->phase), what, name);
}

/* --- forbidden system calls ----------------------------------------------------------------------- */

static int count_call(struct keeper *k, int number)
{
	struct violations *v = &k->violations;
	const struct filter_call *c;

	v->calls++;
	for (size_t i = 0; (c = filter_call(i)); i++) {
		if (c->number != number)
			continue;
		v->call[i]++;
		stop(k, "made the forbidden system call ", c->name);
		return -c->error;
	}
	return -EPERM;
}

static void count_write(struct keeper *k, const struct seccomp_notif *n)
{
	struct violations *v = &k->violations;
	char path[PATH_MAX];

	if (!writes_outside((pid_t)n->pid, &n->data, path))
		return;
	v->writes++;
	stop(k, "tried to write to ", STR_ESC(path));
	for (size_t i = 0; i < WRITTEN_MAX; i++) {
		if (v->written[i] && str_eq(v->written[i], path))
			return;
		if (v->written[i])
			continue;
		v->written[i] = strdup(path);
		return;
	}
}

/* False: nothing for us there, or nobody any more. */
static bool answer(struct keeper *k)
{
	/* The kernel's may be longer than the ones that we were built with. */
	union {
		struct seccomp_notif n;
		char room[512];
	} in;
	union {
		struct seccomp_notif_resp r;
		char room[512];
	} out;
	int fd = k->violations.listener;

	memset(&in, 0, sizeof(in));
	memset(&out, 0, sizeof(out));
	if (ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, &in) < 0)
		return errno == EINTR || errno == ENOENT;
	out.r.id = in.n.id;
	if (filter_write(in.n.data.nr)) {
		count_write(k, &in.n);
		out.r.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
	} else {
		out.r.error = count_call(k, in.n.data.nr);
	}
	/* ENOENT: the caller was killed meanwhile. */
	(void)!ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, &out);
	return true;
}

void violations_listen(struct keeper *k, short revents)
{
	struct violations *v = &k->violations;
	unsigned before = v->calls + v->writes;

	for (int i = 0; i < PER_TURN && v->listener >= 0 && revents & POLLIN; i++) {
		struct pollfd p = { .fd = v->listener, .events = POLLIN };

		if (!answer(k)) {
			close_fd(&v->listener);
		} else if (v->calls >= CALLS_MAX && !k->spec->sandbox.writes) {
			v->more = true;
			close_fd(&v->listener);
		} else {
			revents = poll(&p, 1, 0) > 0 ? p.revents : 0;
		}
	}
	if (revents & (POLLHUP | POLLERR))
		close_fd(&v->listener);
	if (v->calls + v->writes != before)
		control_tell(k, TELL_VIOLATION);
}

/* --- the network ------------------------------------------------------------------------------------ */

/* "Tcp: names…\nTcp: numbers…\n" */
static uint64_t snmp_field(const char *text, const char *protocol, const char *field)
{
	const char *names = strstr(text, protocol);
	const char *numbers = names ? strstr(names + 1, protocol) : NULL;
	size_t n = strlen(field);

	while (names && numbers && *names && *names != '\n' && *numbers && *numbers != '\n') {
		if (strncmp(names, field, n) == 0 && (names[n] == ' ' || names[n] == '\n'))
			return strtoull(numbers, NULL, 10);
		names += strcspn(names, " \n");
		names += *names == ' ';
		numbers += strcspn(numbers, " \n");
		numbers += *numbers == ' ';
	}
	return 0;
}

/* A network that is handed on had nothing to count: what its counters say is of this phase. */
static void count_packets(struct keeper *k, char (*text)[JAILNET_TEXT_MAX])
{
	struct violations *v = &k->violations;
	const char *six = strstr(text[1], "Ip6OutNoRoutes");
	uint64_t away = snmp_field(text[0], "Ip:", "OutNoRoutes"),
		 refused = snmp_field(text[0], "Tcp:", "AttemptFails") +
			   snmp_field(text[0], "Udp:", "NoPorts");

	if (six)
		away += strtoull(six + strlen("Ip6OutNoRoutes"), NULL, 10);
	if (away > v->away_seen) {
		v->away += away - v->away_seen;
		v->away_seen = away;
		stop(k, "tried to reach a network", "");
		control_tell(k, TELL_VIOLATION);
	}
	if (refused > v->refused_seen) {
		v->refused += refused - v->refused_seen;
		v->refused_seen = refused;
	}
}

static bool has_own_network(const struct keeper *k)
{
	return k->jail && !k->jail->network;
}

static void look(struct keeper *k, char (*text)[JAILNET_TEXT_MAX])
{
	for (int i = 0; i < JAILNET_COUNTERS; i++)
		jailnet_read(&k->net, i, text[i]);
	count_packets(k, text);
}

void violations_look(struct keeper *k)
{
	char text[JAILNET_COUNTERS][JAILNET_TEXT_MAX];

	if (has_own_network(k))
		look(k, text);
}

/* --- limits ------------------------------------------------------------------------------------------ */

static const char *const limit_names[NEAR_N] = {
	[NEAR_WALL] = "wall_usec", [NEAR_CPU] = "cpu_usec",    [NEAR_MEMORY] = "memory_bytes",
	[NEAR_PIDS] = "pids",      [NEAR_DISK] = "disk_bytes",
};

void violations_used(struct keeper *k, enum near what, uint64_t used, uint64_t limit)
{
	struct near_limit *n = &k->violations.near[what];

	if (!limit || used < limit - limit / NEAR_PART || used <= n->used)
		return;
	/* Told when it is near and when it is hit, not at each step between. */
	if (!n->used || (used >= limit && n->used < n->limit))
		control_tell(k, TELL_VIOLATION);
	n->used = used;
	n->limit = limit;
}

/* --- a phase ------------------------------------------------------------------------------------------ */

void violations_begin(struct keeper *k)
{
	k->violations.away_seen = k->violations.refused_seen = 0;
}

void violations_end(struct keeper *k)
{
	char text[JAILNET_COUNTERS][JAILNET_TEXT_MAX];

	if (has_own_network(k)) {
		look(k, text);
		jailnet_settle(&k->net, text);
	}
	close_fd(&k->violations.listener);
}

/* --- the result --------------------------------------------------------------------------------------- */

static json_t *calls_json(const struct violations *v)
{
	json_t *o = json_object();
	const struct filter_call *c;

	for (size_t i = 0; o && (c = filter_call(i)); i++)
		if (v->call[i] && json_object_set_new(o, c->name, json_integer(v->call[i])) < 0) {
			json_decref(o);
			return NULL;
		}
	return o;
}

static json_t *limits_json(const struct violations *v)
{
	json_t *o = json_object();

	for (size_t i = 0; o && i < NEAR_N; i++) {
		const struct near_limit *n = &v->near[i];

		if (n->used &&
		    json_object_set_new(o, limit_names[i],
					json_pack("{s:I, s:I, s:b}", "used", (json_int_t)n->used,
						  "limit", (json_int_t)n->limit, "hit",
						  n->used >= n->limit)) < 0) {
			json_decref(o);
			return NULL;
		}
	}
	return o;
}

static bool is_near(const struct violations *v)
{
	for (size_t i = 0; i < NEAR_N; i++)
		if (v->near[i].used)
			return true;
	return false;
}

static json_t *writes_json(const struct violations *v)
{
	json_t *paths = json_array();

	for (size_t i = 0; paths && i < WRITTEN_MAX && v->written[i]; i++)
		if (json_array_append_new(
			    paths, js_from_bytes(v->written[i], strlen(v->written[i]))) < 0) {
			json_decref(paths);
			return NULL;
		}
	return json_pack("{s:I, s:o}", "total", (json_int_t)v->writes, "paths", paths);
}

json_t *violations_json(const struct keeper *k)
{
	const struct violations *v = &k->violations;
	json_t *o;

	/* At level `none` nothing is forbidden. */
	if (!k->jail)
		return is_near(v) ? json_pack("{s:o}", "limits", limits_json(v)) : NULL;
	o = json_pack("{s:o, s:I, s:b, s:I, s:I, s:o}", "calls", calls_json(v), "calls_total",
		      (json_int_t)v->calls, "calls_more", v->more, "network", (json_int_t)v->away,
		      "loopback_refused", (json_int_t)v->refused, "limits", limits_json(v));
	if (!o || !k->spec->sandbox.writes || json_object_set_new(o, "writes", writes_json(v)) == 0)
		return o;
	json_decref(o);
	return NULL;
}

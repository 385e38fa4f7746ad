/* SPDX-License-Identifier: MIT */
/* doctor: broker, database, SSH. Nothing here changes anything at the other side. */
#include "doctor.h"

#include <string.h>

#include "base/json.h"
#include "base/str.h"
#include "base/time.h"
#include "letters.h"
#include "messaging/topology.h"
#include "reach.h"
#include "store/events.h"
#include "store/schema.h"
#include "store/workers.h"
#include "transfer/sftp.h"

#define SSH_USEC        (10 * USEC_PER_SEC)
#define CLOCK_WARN_USEC (2 * USEC_PER_SEC)
#define CLOCK_FAIL_USEC (60 * USEC_PER_SEC)

/* --- broker ------------------------------------------------------------------------------------- */

static void one_queue(void *user, const struct topology_state *st)
{
	struct doctor *d = user;
	unsigned long long n = st->messages;

	if (!st->ready && st->problem)
		doctor_line(d, HEALTH_FAIL, "broker", NULL, "%s", st->problem);
	else if (!st->ready)
		doctor_line(d, HEALTH_FAIL, "broker", "zr topology:apply", "%s is missing",
			    st->item->name);
	else if (st->item->kind != TOPOLOGY_QUORUM)
		return;
	else if (str_eq(st->item->name, TOPOLOGY_DEAD) && n)
		doctor_line(d, HEALTH_WARN, "broker", "see 'zr queues:dead'",
			    "%llu messages lie in the dead queue", n);
	else if (n && st->consumers == 0 && !str_eq(st->item->name, TOPOLOGY_DEAD))
		doctor_line(d, HEALTH_WARN, "broker",
			    st->item->work ? "start 'zr worker:run:eval'"
					   : "start 'zr worker:run:update'",
			    "%llu messages wait in %s and nobody takes them", n, st->item->name);
}

void doctor_broker(struct doctor *d)
{
	struct topology_item *items = NULL;
	auto_obj(session) b = NULL;
	struct err e = { 0 };
	size_t n = 0;
	int r = letters_open(d->settings, "zr doctor", LETTERS_USEC, &b, &e);

	if (r == 0)
		r = topology_list(d->settings, &items, &n, &e);
	if (r == 0)
		r = topology_check(b, items, n, one_queue, d, &e);
	topology_list_free(items, n);
	if (r < 0)
		doctor_line(d, HEALTH_FAIL, "broker", NULL, "%s", e.msg);
	else if (r == 0)
		doctor_line(d, HEALTH_OK, "broker", NULL, "connected, %zu exchanges and queues", n);
}

/* --- database ----------------------------------------------------------------------------------- */

static void check_time(struct doctor *d, struct db *db)
{
	auto_obj(db_rows) rows = NULL;
	uint64_t before = time_wall_usec(), after, there, off;
	struct err e = { 0 };

	if (db_query(db, "select (extract(epoch from clock_timestamp()) * 1000000)::bigint", NULL,
		     &rows, &e) < 0) {
		doctor_line(d, HEALTH_WARN, "clock", NULL, "%s", e.msg);
		return;
	}
	after = time_wall_usec();
	there = (uint64_t)db_int(rows, 0, 0);
	off = there < before ? before - there : there > after ? there - after : 0;
	if (off >= CLOCK_WARN_USEC)
		doctor_line(d, off < CLOCK_FAIL_USEC ? HEALTH_WARN : HEALTH_FAIL, "clock",
			    "run a time service on both hosts",
			    "%llu s away from the database server's",
			    (unsigned long long)(off / USEC_PER_SEC));
}

static void check_workers(struct doctor *d, struct db *db)
{
	json_auto_t *list = NULL, *parked = NULL;
	const json_t *w;
	struct err e = { 0 };
	size_t i, alive = 0;

	if (workers_list(db, &list, &e) < 0 || events_parked(db, NULL, 1, &parked, &e) < 0) {
		doctor_line(d, HEALTH_FAIL, "database", NULL, "%s", e.msg);
		return;
	}
	json_array_foreach(list, i, w) alive += json_is_true(json_object_get(w, "alive"));
	if (alive == 0)
		doctor_line(d, HEALTH_WARN, "workers",
			    "start 'zr worker:run:eval' and 'zr worker:run:update'",
			    "no evaluation worker was heard of in the last 30 seconds");
	else
		doctor_line(d, HEALTH_OK, "workers", NULL, "%zu alive", alive);
	if (json_array_size(parked))
		doctor_line(d, HEALTH_WARN, "database", "look at them with 'zr events:parked'",
			    "there are events that could not be applied");
}

void doctor_database(struct doctor *d)
{
	auto_obj(db) db = NULL;
	struct err e = { 0 };
	int version;

	if (!d->settings->database_url) {
		doctor_line(d, HEALTH_OK, "database", NULL,
			    "none is named; an eval host needs none");
		return;
	}
	if (reach_database(d->settings, &db, &e) < 0 || schema_version(db, &version, &e) < 0) {
		doctor_line(d, HEALTH_FAIL, "database", NULL, "%s", e.msg);
		return;
	}
	doctor_line(d, HEALTH_OK, "database", NULL, "connected, schema %d.%02d", version / 100,
		    version % 100);
	check_time(d, db);
	check_workers(d, db);
}

/* --- SSH ---------------------------------------------------------------------------------------- */

static const char *cure_of(const struct err *e)
{
	switch (e->code) {
	case ENOKEY:
		return "check the fingerprint at that host, then add the line to ssh_known_hosts";
	case EKEYREJECTED:
		return "somebody else may answer there: ask that host's operator before changing "
		       "ssh_known_hosts";
	case EACCES:
		return "put the public key of ssh_key into authorized_keys of that user";
	default:
		return NULL;
	}
}

static void check_host(struct doctor *d, const struct ssh_keys *keys, const struct settings_host *h)
{
	const struct ssh_opts opts = {
		.host = { .address = h->address, .port = (uint16_t)h->port, .user = h->user },
		.keys = keys,
		.handshake_usec = SSH_USEC,
		.stall_usec = SSH_USEC,
		.abort_fd = -1,
	};
	auto_obj(ssh) session = NULL;
	struct err e = { 0 };
	char check[80];
	int r = ssh_open(&opts, &session, &e);

	snprintf(check, sizeof(check), "ssh %s", h->name);
	if (r == 0)
		r = sftp_exists(session, h->state_dir, &e);
	if (r < 0)
		doctor_line(d, HEALTH_FAIL, check, cure_of(&e), "%s", e.msg);
	else if (r == 0)
		doctor_line(d, HEALTH_FAIL, check, "correct state_dir in its host section",
			    "logged in, but there is no folder %s", h->state_dir);
	else
		doctor_line(d, HEALTH_OK, check, NULL, "%s@%s:%u, %s", h->user, h->address, h->port,
			    h->state_dir);
}

void doctor_ssh(struct doctor *d)
{
	const struct settings *s = d->settings;
	auto_done(ssh_keys) keys = { 0 };
	struct err e = { 0 };

	if (s->n_hosts == 0) {
		doctor_line(d, HEALTH_OK, "ssh", NULL, "no host sections: nothing to reach");
		return;
	}
	if (!s->ssh_key) {
		doctor_line(d, HEALTH_FAIL, "ssh", "name a key of type ed25519 or ECDSA",
			    "there are host sections, and ssh_key is not set");
		return;
	}
	if (ssh_keys_read(s->ssh_key, s->ssh_known_hosts, &keys, &e) < 0) {
		doctor_line(d, HEALTH_FAIL, "ssh", NULL, "%s", e.msg);
		return;
	}
	for (size_t i = 0; i < s->n_hosts; i++)
		check_host(d, &keys, &s->hosts[i]);
}

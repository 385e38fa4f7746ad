/* SPDX-License-Identifier: MIT */
/*
 * The settings of a zr host: zr.conf, then conf.d/<name>.conf beside it in order of name, then the
 * environment (AMQP_URL, DATABASE_URL, ZR_BIN, ZR_CGROUP_PARENT). A secret may also be a file named
 * like its key in $CREDENTIALS_DIRECTORY, which wins over zr.conf. ZR_CONF names the file; the
 * default is /etc/zr/zr.conf. zr.conf(5) explains every key. Written afterwards only by
 * settings_apply().
 */
#ifndef ZR_BASE_SETTINGS_H
#define ZR_BASE_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/str.h"

/* How another host is reached over SSH. */
struct settings_host {
	char *name;
	char *address;
	unsigned port;
	char *user;
	char *state_dir; /* the state_dir of that host */
};

struct settings {
	char *file; /* where the settings came from */
	char *host; /* this host's name */

	char *state_dir, *run_dir, *bin_dir;
	char *submissions_dir, *results_dir, *leaderboards_dir;
	char *submissions_url; /* of submissions_dir, as eval hosts see it */

	char *channel; /* "amqp", "dir:FOLDER" */
	uint64_t channel_scan_usec;
	char *channel_watch; /* "inotify", "poll" */

	char *amqp_url; /* holds a password: never to be printed */
	char *amqp_ca_file, *amqp_cert_file, *amqp_key_file;
	uint64_t amqp_heartbeat_usec;
	char **pools;         /* NULL-terminated */
	uint64_t message_max; /* bytes */

	char *database_url; /* holds a password: never to be printed */

	uint64_t event_retention_usec;
	uint64_t infrastructure_retries; /* of an evaluation, after faults that are not its own */
	uint64_t retry_delay_usec;       /* before the first automatic retry */

	char *ssh_key, *ssh_known_hosts;
	uint64_t fetch_timeout_usec; /* without a byte */

	uint64_t lease_usec;
	uint64_t term_grace_usec; /* between SIGTERM and SIGKILL of a job */
	uint64_t spool_reserve;   /* bytes that must stay free to take new work */
	uint64_t cache_max;       /* bytes of submissions kept on an eval host */
	uint64_t log_cap;         /* bytes kept of each of a job's two logs */
	char *container_engine;   /* podman or docker: a name or path */
	char *timing_cpus;        /* reserved for timed runs; or NULL */
	char *gpu_lock_dir;
	char *gpu_index_lock_dir; /* or NULL */
	uint64_t gpu_settle_usec; /* 0: nobody looks what is left on a GPU */
	char *cuda_library;       /* NULL: as the loader finds it */
	char *cgroup_parent;      /* NULL: found by the keeper */

	struct settings_host *hosts;
	size_t n_hosts;
};

/* `path` NULL: $ZR_CONF, or the default. ERR_INPUT with file and line; a missing default file means
 * defaults, a missing named file is an error. */
int settings_load(const char *path, struct settings **ret, struct err *e) must_check;
void settings_free(struct settings *s);
DEFINE_AUTO(settings);

/* ERR_INPUT: no such channel. For whoever has changed it. */
int settings_check_channel(const struct settings *s, struct err *e) must_check;
/* The FOLDER of "dir:FOLDER"; NULL: the broker. */
const char *settings_folder_of(const char *channel);
const char *settings_channel_folder(const struct settings *s);

const struct settings_host *settings_find_host(const struct settings *s, const char *name);

/*
 * What a daemon does at SIGHUP with settings that it has just loaded: those that may change while it
 * runs are exchanged, and `fresh` has the old ones, to be freed. Texts that were read from `s` before
 * are not to be used after that. The names of all that differ come back.
 */
struct settings_changes {
	struct buf applied, restart; /* "log_cap, host"; no data: none */
};
void settings_changes_done(struct settings_changes *c);
DEFINE_AUTO_DONE(settings_changes);
int settings_apply(struct settings *s, struct settings *fresh, struct settings_changes *ret,
		   struct err *e) must_check;

/* One row per key for `zr settings`: value as text (secrets as "…"), and whether a file or the
 * environment set it. */
struct settings_key {
	const char *name, *help;
	char *value;
	const char *origin; /* "default", "file", "credential", "environment" */
	bool reload;        /* a daemon takes it over at SIGHUP */
};
int settings_list(const char *path, struct settings_key **ret, size_t *ret_n,
		  struct err *e) must_check;
void settings_list_free(struct settings_key *k, size_t n);

/* The commented sample file (conf/zr.conf): every key with its default and meaning. */
int settings_template(char **ret, struct err *e) must_check;

#endif

/* SPDX-License-Identifier: MIT */
/* The parts of zr-fetch; main.c has the theory of operation. */
#ifndef ZR_FETCH_FETCHER_H
#define ZR_FETCH_FETCHER_H

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"
#include "transfer/fetch.h"

enum {
	EXIT_FAILED = 1,
	EXIT_USAGE = 2, /* wrong call or configuration: a person must change it */
	EXIT_AGAIN = 75,
	SERVE_FD = 3,
};

struct args {
	bool serve, verbose, keep_manifest;
	const char *get; /* FOLDER or ssh://USER@HOST[:PORT]/FOLDER */
	const char *root_hash, *name, *target, *staging, *root;
	const char *ssh_key, *known_hosts;
	uint64_t stall_usec, reserve_bytes, keep_after_usec;
	struct extract_limits limits;
	const char *prune; /* folder of published objects */
	char **keep;       /* objects that stay, by hash in hexadecimal */
	uint64_t used_before_usec;
};

/* What a running fetcher holds. */
struct fetcher {
	const struct args *args;
	int staging;          /* -1: not yet named */
	struct ssh_keys keys; /* read before anything of a host is seen */
	bool confined;
	/* the one host that this process talks to */
	char *address, *user;
	uint16_t port;
	int connector;   /* socket to the process that makes connections; -1: none needed */
	int abort_fd;    /* the caller's end; -1: none */
	struct ssh *ssh; /* NULL: none open */
};

/* --- source.c: "ssh://user@host:port/folder", anything else is a local folder ---------------- */

struct source {
	bool remote;
	char *user, *address, *dir;
	uint16_t port;
};
int source_parse(const char *text, struct source *ret, struct err *e) must_check;
void source_done(struct source *s);
DEFINE_AUTO_DONE(source);

/* --- connector.c: a process that only makes connections to one host -------------------------- */

/* Its life: serves SERVE_FD until the other end closes. Returns an exit status. */
int connector_main(char **argv);
int connector_start(const struct args *a, const struct ssh_host *h, int *ret_fd,
		    struct err *e) must_check;
/* An ssh_connect_fn; `user` is the struct fetcher. */
int connector_ask(void *user, const struct ssh_host *h, int *ret_fd, struct err *e);
/* A fetch_bulk_fn: an ssh(1) of the system, if there is one. */
int connector_ask_bulk(void *user, int *ret_fd, struct err *e);

/* --- confine.c ------------------------------------------------------------------------------- */

struct confine_spec {
	int staging;
	const char *source; /* a local folder that is read; NULL: none */
	const char *root;   /* targets are made beneath */
	bool verbose;       /* says on stderr what this kernel cannot do */
};
/* Gives up everything that the work does not need. What the kernel lacks is left out; what it has
 * and refuses is an error. */
int confine(const struct confine_spec *c, struct err *e) must_check;

/* --- work.c ---------------------------------------------------------------------------------- */

int fetcher_open_staging(struct fetcher *f, const char *path, struct err *e) must_check;
void fetcher_done(struct fetcher *f);

/* One object. `host` NULL: `dir` is local. */
struct job {
	const struct ssh_host *host;
	const char *dir, *name, *root_hash, *target;
	bool keep_manifest;
	struct extract_limits limits;
	void (*progress)(void *user, uint64_t bytes, uint64_t total);
	void *progress_user;
};
/* The first job of a process also starts the connector and confines it. The answer is a new object
 * with "ok" and what the manual says; NULL only without memory. *ret_class is valid if not ok. */
json_t *fetcher_run(struct fetcher *f, const struct job *j, bool *ret_ok,
		    enum fetch_class *ret_class);
/* The answer to a command that could not be started. */
json_t *fetcher_failure(const struct err *e);

/* --- prune.c --------------------------------------------------------------------------------- */

/* Makes the folder smaller than limits.bytes. Returns an exit status. */
int prune(const struct args *a);

/* --- serve.c --------------------------------------------------------------------------------- */

/* Commands on SERVE_FD until it closes. Returns an exit status. */
int serve(struct fetcher *f);

#endif

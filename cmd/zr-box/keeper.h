/* SPDX-License-Identifier: MIT */
/* What the files of the keeper share. main.c explains how they work together. */
#ifndef ZR_CMD_ZR_BOX_KEEPER_H
#define ZR_CMD_ZR_BOX_KEEPER_H

#include <jansson.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/id.h"
#include "exec/cgroup.h"
#include "exec/devices.h"
#include "exec/logfile.h"
#include "exec/progress.h"
#include "exec/result.h"
#include "exec/spec.h"
#include "filter.h"
#include "jailnet.h"
#include "jailspare.h"

/* What the keeper reads of a running phase. */
enum input {
	IN_OUT,      /* the job's standard output, */
	IN_ERR,      /* standard error */
	IN_PROGRESS, /* and progress lines */
	IN_EXEC,     /* closed by execve(), or tells why there was none */
	IN_N,
};

enum {
	CLIENTS_MAX = 4,
	DESCRIPTION_MAX = 400,
};

/* Somebody on the control socket. What it has not been told yet is a set of bits, so that a slow
 * reader costs no memory and misses nothing but intermediate values. */
struct client {
	int fd; /* -1: free */
	unsigned dirty;
	char out[8192]; /* a message that was sent in part */
	size_t out_len, out_sent;
	char in[256];
	size_t in_len;
	bool deaf; /* has hung up; what it said before that may still be to be read */
};

enum {
	TELL_STARTED = 1u << 0,
	TELL_PHASE = 1u << 1,
	TELL_LOG = 1u << 2,
	TELL_PROGRESS = 1u << 3,
	TELL_VIOLATION = 1u << 4,
	TELL_END = 1u << 5,
};

struct control {
	int listener;
	int folder;                        /* with our socket in it */
	char name[UUID_LEN + 1];           /* of the socket there */
	struct client client[CLIENTS_MAX]; /* [0]: the worker that we serve */
	unsigned known;                    /* bits that a new client gets too */
	unsigned waiting;                  /* bits held back by their rate */
	uint64_t log_usec;                 /* when they were last told */
	uint64_t progress_usec, violation_usec;
	char *started; /* the message, kept for later clients */
	struct progress progress;
};

struct jail;
struct engine;
struct gpu_hold;

/* Limits of which the largest use is kept, once it came near. */
enum near {
	NEAR_WALL,
	NEAR_CPU,
	NEAR_MEMORY,
	NEAR_PIDS,
	NEAR_DISK,
	NEAR_N,
};
struct near_limit {
	uint64_t used, limit; /* used 0: was never near */
};

enum {
	WRITTEN_MAX = 8,
};

/* violations.c; numbers are of all phases so far. */
struct violations {
	int listener; /* of the phase's system call filter; or -1 */
	unsigned calls, call[FILTER_CALLS_MAX];
	bool more;       /* than were counted */
	bool unwatched;  /* the kernel gave us no listener */
	unsigned writes; /* attempts to write outside the box, and where the first ones went */
	char *written[WRITTEN_MAX];
	uint64_t away, refused;           /* packets for elsewhere; for ports that nobody has */
	uint64_t away_seen, refused_seen; /* in this phase */
	struct near_limit near[NEAR_N];
};

/* The last one that the kernel took. */
struct device_program {
	int fd; /* or -1 */
	dev_t devices[DEVICES_MAX];
	size_t n;
};

struct keeper {
	/* What stays from one job to the next. */
	struct control control;
	bool landlock; /* signals and abstract sockets of a job stay inside it */
	char *words;   /* our command line, which may name the box: a jail's init forgets it */
	size_t words_len;
	uint64_t own_signals; /* see spawn.h */
	bool entered;         /* we have a mount namespace of our own, since the first sandbox */
	bool changed;         /* and a user namespace with it: that job was our last one */
	struct jailnet net;   /* for jobs in sandboxes */
	struct device_program device_program;
	struct jail_spare spare;
	bool swept;         /* what containers of dead keepers have left */
	json_t *host_facts; /* processor and its settings; NULL: not looked at yet */
	int lease_timer;    /* readable: lease_fired() */
	uint64_t lease_armed_usec;

	/* The box; from here on everything is new with each job. */
	struct box_spec *spec;
	int dir;            /* its folder, also the working directory */
	int tree;           /* where the job's output folder is: `dir`, or the jail's file system */
	const char *output; /* its name there: the result, and where the scores are read */
	char *path;         /* absolute */
	int journal;        /* locked as long as the job is ours */
	struct cgroup_box cg;
	json_t *conditions;        /* under which it runs, for the result */
	int timing_lock;           /* of the reserved processors; or -1 */
	uint64_t timing_wait_usec; /* for it */
	uint64_t run_wall_usec;    /* of `run` alone */
	bool placed;               /* on `cpus`, in this phase */
	cpu_set_t cpus;
	bool no_cpuset;        /* by affinity alone */
	bool no_cpu_group;     /* asked for, but this host has none */
	struct jail *jail;     /* level `sandbox`; else NULL */
	struct engine *engine; /* level `container`; else NULL */
	struct gpu_hold *gpus; /* ours, or waited for; else NULL */
	uint64_t gpu_usec;     /* since when they are held */
	json_t *isolation;
	struct logfile log[2];
	struct box_result result;
	struct violations violations;
	bool stuck;     /* something of the job will not die */
	bool untouched; /* its folders are as we made them */
	bool clean;     /* there is something in them that nobody needs */
	bool hurry;     /* asked to end without grace */

	/* Until when it may go on, by CLOCK_BOOTTIME; 0: there is no lease. */
	uint64_t lease_due_usec;  /* then it has to end, */
	uint64_t lease_kill_usec; /* and then be killed */
	uint64_t lease_usec;      /* the lease as people know it */

	/* The phase that runs. Times are monotonic, 0: not yet. */
	enum phase phase;
	pid_t leader;
	bool leader_ended;
	int leader_status; /* as wait4() gives it */
	int in[IN_N];
	struct progress_feed feed[3]; /* out, err, progress descriptor */
	uint64_t fork_usec, exec_usec;
	uint64_t stop_usec; /* the end was decided: what counts as the phase's time ends here */
	uint64_t kill_usec; /* SIGKILL is due */
	uint64_t sample_usec, disk_usec; /* next looks at the counters and the files */
	uint64_t cpu_before_usec;        /* of earlier phases */

	/* Why the job ends; the first cause stays, unless one that ranks higher is found. */
	bool decided;
	enum box_reason reason;
	char detail[DESCRIPTION_MAX];
};

/* verdict.c: a cause for the end. Does not act by itself. */
void verdict(struct keeper *k, enum box_reason reason, const char *fmt, ...) printf_like(3, 4);

/* phase.c: runs one phase to its end; afterwards nothing of it is alive (or k->stuck). */
void phase_run(struct keeper *k, enum phase p);
/* Decides the end of the running phase: now, or after SIGTERM and the grace time. */
void phase_stop(struct keeper *k, bool gently);

/* spawn.c: starts the leader. An error is ours, not the script's. */
int spawn_leader(struct keeper *k, struct err *e) must_check;
/* IN_EXEC is readable: sets exec_usec, or the verdict `setup`. */
void spawn_seen(struct keeper *k);
bool landlock_has_scope(void);

/* output.c */
int output_open(struct keeper *k, int child[IN_N], struct err *e) must_check;
void output_read(struct keeper *k, enum input in);
/* Nothing writes any more: what is left in the pipes, then they are closed. */
void output_drain(struct keeper *k);

/* watch.c: limits that somebody has to look after. */
void watch_begin(struct keeper *k);
/* Looks at what is due; returns the time of the next look, UINT64_MAX for none. */
uint64_t watch_tick(struct keeper *k, uint64_t now);
/* The phase is over and empty: the last look, from the kernel's final counters. */
void watch_end(struct keeper *k);
uint64_t watch_cpu_usec(const struct keeper *k);

/* end.c: kills all of the job and sees it dead; sets k->stuck after ten seconds. */
void end_all(struct keeper *k);
void end_signal(struct keeper *k, int signo);
/* Reaps whoever has ended. False: there is no child left at all. */
bool end_reap(struct keeper *k, unsigned *ret_reaped);
/* A stuck box: kills again and again until it is empty. */
void end_wait_forever(struct keeper *k);

/* lease.c; `since` is a time of CLOCK_BOOTTIME at which a term began, 0: now. */
struct term {
	uint64_t since_usec, usec; /* 0: as long as the box says, or without end */
};
int lease_init(struct keeper *k, struct err *e) must_check;
void lease_begin(struct keeper *k, const struct term *t);
/* `usec` from `since` on, unless the lease was over by then. */
void lease_renew(struct keeper *k, uint64_t since, uint64_t usec);
void lease_fired(struct keeper *k);
/* Sets the verdict `lost` when it is time. For whoever waits, each time. */
void lease_check(struct keeper *k);
/* What is left of the job is killed now, whatever grace it was given. */
bool lease_is_over(const struct keeper *k);

/* control.c: the control socket, and the timer of the lease. */
enum {
	POLL_LEASE = 1 + CLIENTS_MAX,
	POLL_CONTROL,
};
/* `serve`: the worker's socket, or -1. */
void control_init(struct control *c, int serve);
/* A new job: its folder gets the socket, and nothing is known of it. */
int control_enter(struct keeper *k, struct err *e) must_check;
size_t control_poll(const struct keeper *k, struct pollfd *p);
void control_events(struct keeper *k, const struct pollfd *p);
/* All that has been said until now. */
void control_hear(struct keeper *k);
/* Something is worth telling; log and progress go out at their rate. */
void control_tell(struct keeper *k, unsigned bits);
/* Sends what its rate allows now; returns when the rest is due. */
uint64_t control_tick(struct keeper *k, uint64_t now);
void control_started(struct keeper *k, char *record); /* of the journal; taken */
void control_progress(struct keeper *k, const struct progress *p);
/* The job is over: `end`, and adopters are let go. */
void control_leave(struct keeper *k);
/* To the worker: another job may come. */
void control_ready(struct keeper *k);
void control_close(struct keeper *k);

/* gpus.c: waits for the GPUs of `run`, while the control socket is served. With a verdict none is
 * held. */
void gpus_take(struct keeper *k);
/* `run` is empty. A stuck box keeps them until it is, too. */
void gpus_let_go(struct keeper *k);
/* For the environment of the phase; -ENOMEM. */
int gpus_env(const struct keeper *k, char ***env) must_check;
/* gpumemory.c: says so in the verdict on a job that failed when by its logs a GPU had no memory left. */
void gpus_judge_memory(struct keeper *k);

/* violations.c: what the job tried and was refused. */
void violations_init(struct violations *v);
void violations_done(struct violations *v);
/* The script was executed: init's network is the job's. Level `sandbox` only. */
void violations_begin(struct keeper *k);
/* The listener has something. */
void violations_listen(struct keeper *k, short revents);
/* What the kernel has counted by now. */
void violations_look(struct keeper *k);
void violations_used(struct keeper *k, enum near what, uint64_t used, uint64_t limit);
/* The phase is empty. */
void violations_end(struct keeper *k);
/* NULL: there is nothing to say (or no memory). */
json_t *violations_json(const struct keeper *k);

/* writes.c: would this call change a file outside the box? Its path then, in path[PATH_MAX]. */
struct seccomp_data;
bool writes_outside(pid_t pid, const struct seccomp_data *d, char *path);

/* timing.c: the conditions under which a job is measured. */
int timing_begin(struct keeper *k) must_check;
/* Waits for the reserved processors, as gpus_take() does for its own. */
void timing_take(struct keeper *k);
void timing_let_go(struct keeper *k);
/* Where the phase may run, before its leader is started. */
int timing_place(struct keeper *k, struct err *e) must_check;
#define TIMING_GAP_CPUSET                                                                          \
	"a job is kept off the processors of timed runs by its affinity alone, which it can "      \
	"change"
#define TIMING_GAP_CPUS "timed runs share the processors with all else: timing_cpus is not set"
/* Processors are reserved, but there is no control group to keep others off. */
static inline bool is_placed_badly(const struct keeper *k)
{
	return k->spec->other_cpus && !k->spec->cgroup.v2_cpuset && !k->spec->cgroup.v1_cpuset;
}
/* A new reference; NULL: no memory. */
json_t *timing_conditions(struct keeper *k);

/* isolation.c: this host cannot keep a promise of the job's level: no instruction of the script runs. */
void refuse(struct keeper *k, const char *fmt, ...) printf_like(2, 3);
/* So it is without limits, or groups that hold them; not for level `none`. */
void isolation_check_limits(struct keeper *k);

/* isolation.c: what the result says about this box's walls. A gap is something this host or this level
 * does not do, and what that means for the reader. */
struct gap {
	bool there;
	const char *what, *effect;
};
/* Those that are there; NULL: no memory. */
json_t *gaps_json(const struct gap *g, size_t n);
json_t *isolation_describe(const struct keeper *k);

/* finish.c: scores, sealed result, `done`; then the lock is let go, unless the box is stuck. */
void finish(struct keeper *k);
/* What is left in the job's folders, which may take a while. */
void finish_cleaning(struct keeper *k);
/* A phase has left nothing in any of them: they serve the next box as they are. */
bool folders_are_untouched(const struct keeper *k);
/* scores.c: fills result.scores or scores_error. */
enum scores_state {
	SCORES_GOOD,
	SCORES_MISSING,
	SCORES_BAD,
};
enum scores_state scores_read(struct keeper *k);

/* job.c: one job, in a folder; returns the program's status if that was the only one. */
void job_init(struct keeper *k);
int job_keep(struct keeper *k, int dir, int journal, const struct term *lease);
/* serve.c: jobs one after another, from the worker at descriptor 0. */
int serve(struct keeper *k, int sock);

/* hold.c: `zr-box --hold`, see zr-box(8). */
int hold(void);

/* Asked to end since the last look; main.c. */
bool signals_take_stop(void);
/* Waits for descriptors, a signal or `until` (monotonic). */
int signals_poll(struct pollfd *p, size_t n, uint64_t until);

#endif

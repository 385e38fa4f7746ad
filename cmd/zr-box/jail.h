/* SPDX-License-Identifier: MIT */
/*
 * Level `sandbox`: the walls around a job. A keeper makes a struct jail for a job that asks for the
 * level and uses it in each phase; at level `none` k->jail is NULL.
 *
 *	jail.c		the keeper's side: what is promised, refusals, start, notes, end
 *	jailroot.c	the file tree that a job sees
 *	jailnet.c	its network, if it has none
 *	jailspare.c	what of these a keeper keeps for its next job
 *	jailinit.c	process 1 of a phase, and what the script's process does before execve()
 *	filter.c	system calls
 *
 * A phase has two processes of ours. Init is process 1 of new pid, mount, ipc, uts, cgroup and
 * (unless the evaluator uses the host's) network namespaces; the script is its child. Whoever kills
 * init kills all of the phase, and the kernel lets init be reaped only when its namespace is empty.
 * Init tells the keeper by notes on the pipe that at level `none` is the exec pipe.
 *
 * As root a job gets a uid that no living job and no user has: UID_FIRST plus the keeper's process
 * id. Other users' keepers enter a user namespace first, in which their own uid is the only one.
 */
#ifndef ZR_CMD_ZR_BOX_JAIL_H
#define ZR_CMD_ZR_BOX_JAIL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/err.h"
#include "keeper.h"

/* The job's file system, in the box folder. */
#define JAIL_TREE "jail"

/* Where a job finds its things. */
#define JAIL_BOX        "/box"
#define JAIL_TMP        "/tmp"
#define JAIL_OUTPUT     "/output"
#define JAIL_RUN_OUTPUT "/run-output"
#define JAIL_SUBMISSION "/submission"
#define JAIL_EVALUATOR  "/evaluator"

/* One mount of the tree: `from` and `to` relative to the box folder, or absolute. */
struct jail_bind {
	char *from, *to;
	uint64_t attrs;  /* MOUNT_ATTR_*; with IDMAP the owner of the submission becomes the job */
	unsigned phases; /* 1 << phase; 0: the same in all, made once by the keeper */
	bool follow;     /* a final symbolic link, which the operator made */
	dev_t dev;       /* of what an absolute `from` was, */
	ino_t ino;       /* when it was planned */
};

struct jail {
	bool root;      /* we are root; else in a user namespace */
	uid_t uid;      /* the script's, and its gid */
	uid_t init_uid; /* init's, likewise */
	bool network;   /* the host's */
	int landlock;   /* ABI of the file rules, 0: none */
	int tree;       /* folder of the job's own file system, with `output` in it */
	int map;        /* user namespace of the owner of the submission, or -1 */
	int alone;      /* lock that says: the only job of this user; or -1 */
	bool mounted;   /* there is something to unmount */
	uint64_t bytes; /* its size */
	struct jail_bind *binds;
	size_t n_binds;
	size_t n_tree; /* the first so many belong to the tree, whatever the job; 0: it is not made */
	uint64_t files_made; /* in the tree, before the job's own */
	uint64_t made_usec;  /* monotonic, the tree */
	unsigned leftovers;  /* of all phases so far */
	int device_program;  /* bound to the box's group; or -1 */
	dev_t *devices;      /* that the job may open */
	size_t n_devices;
};

/* What init tells the keeper. */
enum jail_note_kind {
	NOTE_EXECUTED, /* the script's first instruction is next */
	NOTE_FAILED,   /* value: errno, step: enum jail_step; init exits */
	NOTE_ENDED,    /* value: as wait4() gives it; init exits */
	NOTE_LISTENER, /* of the script's filter, a descriptor; or value: why there is none */
};
struct jail_note {
	int32_t kind, step, value;
	uint32_t number; /* NOTE_ENDED: leftovers; NOTE_FAILED at the mounts: which, from 1 */
	uint64_t usec;   /* monotonic */
};

/* jail.c */
/* Nothing at level `none`. What this host cannot keep is a verdict `setup`, and no error. */
int jail_begin(struct keeper *k, struct err *e) must_check;
/* k->dir is as the worker sees it. In a keeper that has entered a mount namespace: the same folder in
 * there becomes k->dir and the working directory, and its path goes into path[PATH_MAX]. */
/* A folder of the host is mounted at `to` for a job of this uid, as if its owner were that; everything
 * that the keeper starts sees it. Enters a mount namespace. */
int jail_show_as(struct keeper *k, const char *from, const char *to, uid_t uid,
		 const struct stat *st, struct err *e) must_check;
void jail_unshow(struct keeper *k, const char *to);
/* No living job and no user has it. */
uid_t jail_slot_uid(void);
/* The host's words and lines of a phase, as the job sees them. NULL: no memory. */
char **jail_words(const struct box_spec *s, char *const *argv);
char **jail_lines(const struct keeper *k, char *const *env);
int jail_reopen(struct keeper *k, char *path, struct err *e) must_check;
/* Starts init: its pid, or -1 and errno. The words and lines are the host's; they are translated. */
pid_t jail_start(struct keeper *k, const int child[IN_N], int null, char *const *argv,
		 char *const *env);
/* Replaces the exec pipe by a socket, through which a descriptor can come. */
int jail_open_notes(struct keeper *k, int child[IN_N], struct err *e) must_check;
/* IN_EXEC is readable. */
void jail_seen(struct keeper *k);
/* Init has ended: what it has said of the script counts more than how. */
void jail_reaped(struct keeper *k, int status);
/* Used of the job's file system. */
uint64_t jail_disk_bytes(const struct keeper *k);
/* The job failed: was its file system full? */
void jail_judge_full(struct keeper *k);
void jail_end(struct keeper *k);
json_t *jail_describe(const struct keeper *k);

/* jailroot.c */
/* In the keeper, once: the job's file system and all mounts that do not depend on the phase. */
int jailroot_stage(struct keeper *k, struct err *e) must_check;
/* In init, one after another: the other mounts (`which`: at what it failed, from 1), /proc, and the
 * change of root. */
int jailroot_bind(const struct keeper *k, unsigned *which) must_check;
int jailroot_proc(void) must_check;
int jailroot_enter(void) must_check;
/* The i-th of the folders that a job with these phases may write in; false: there are no more. */
bool jail_own_folder(unsigned phases, size_t i, char *name, size_t size);
/* Its devices are those of every box, and no others. */
bool jail_has_own_nodes(const struct jail *j);
void jail_binds_free(struct jail_bind *v, size_t n);
/* All but the first n. */
void jail_binds_cut(struct jail *j, size_t n);
/* A path without its last n components, allocated; NULL: there are not so many, or no memory. */
char *jail_above(const char *path, unsigned n);
/* See jail_show_as(). */
int jailroot_bind_as(const char *from, const char *to, uid_t uid, const struct stat *st,
		     struct err *e) must_check;
/* In the keeper, before a phase: private folders of an earlier one go. */
void jailroot_renew(struct keeper *k);
void jailroot_done(struct keeper *k);
/* A device node of the host's /dev appears in the box for the phase `run`, and goes again. A node that
 * the host does not have: -ENOENT. */
int jailroot_add_node(struct keeper *k, const char *name, struct err *e) must_check;
void jailroot_remove_node(struct keeper *k, const char *name);
/* What k->jail->devices holds becomes what the kernel lets the job open, if it lets us say so. */
void jail_close_devices(struct keeper *k);
/* Would a job find this path of the host at the same place? */
bool jailroot_shows(const struct keeper *k, const char *path);

/* jailinit.c */
enum jail_step {
	STEP_JAIL_CGROUP,
	STEP_JAIL_NETWORK,
	STEP_JAIL_MOUNTS,
	STEP_JAIL_PROC,
	STEP_JAIL_ROOT,
	STEP_JAIL_SCRIPT,
	STEP_JAIL_DROP,
	STEP_JAIL_KEEPER,
	STEP_JAIL_SESSION,
	STEP_JAIL_RLIMITS,
	STEP_JAIL_DESCRIPTORS,
	STEP_JAIL_IDS,
	STEP_JAIL_FOLDER,
	STEP_JAIL_LANDLOCK,
	STEP_JAIL_FILTER,
	STEP_JAIL_EXEC,
	STEP_JAIL_N,
};
struct jail_plan {
	const struct keeper *k;
	bool in_v2;
	int null;
	const int *child; /* IN_N descriptors */
	char *const *argv, *const *env;
	bool failed; /* set by the script's process, which shares init's memory until execve() */
};
__attribute__((noreturn)) void jailinit_main(struct jail_plan *p);

#endif

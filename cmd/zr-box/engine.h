/* SPDX-License-Identifier: MIT */
/*
 * Level `container`: an engine, podman or docker, is driven by its command line. k->engine is NULL at
 * the other levels.
 *
 *	engine.c	the job's side: image, phases, end, what is left of others
 *	enginerun.c	one command of the engine, with the control socket served meanwhile
 *
 * The leader of a phase is the engine's client, attached. What it starts outlives it (conmon, or a
 * daemon's children), so its end proves nothing: the container's group, which is below the box's, has
 * to be empty, and the keeper, as their subreaper, to have no child. As another user than root nobody
 * makes groups for containers on version 1: there the client itself is started in the box's, and all
 * that it starts is in them too.
 */
#ifndef ZR_CMD_ZR_BOX_ENGINE_H
#define ZR_CMD_ZR_BOX_ENGINE_H

#include "keeper.h"

enum {
	/* Of the limits, where the engine is inside the box's groups: its client, monitor and runtime. */
	ENGINE_MEMORY = 128 << 20,
	ENGINE_PIDS = 64,
};

struct engine {
	bool docker; /* else podman */
	bool root;
	uid_t uid;           /* of the job */
	char *program;       /* absolute */
	char *image;         /* ID of the one that prepare and run have, */
	char *judge;         /* and of score's; or NULL: the same */
	char *tag;           /* what we made for a submission's image; or NULL */
	char *submission;    /* where the job's is shown from */
	char name[64];       /* of the phase's container */
	bool seen;           /* something in the phase's groups, now or before */
	uint64_t cpu_usec;   /* what these had used before it */
	uint64_t empty_usec; /* since when nothing is there any more; 0: there is */
};

/* `zr-box --sweep SPOOL`: removes what killed keepers have left in the engine. A process's status. */
int engine_sweep(struct keeper *k, const char *spool);
/* Nothing at other levels. What this host cannot keep is a verdict `setup`, and no error. */
int engine_begin(struct keeper *k, struct err *e) must_check;
void engine_end(struct keeper *k);
/* The command that runs a phase, from the job's words and lines, which are the host's. */
int engine_command(struct keeper *k, char *const *argv, char *const *env, char ***ret,
		   struct err *e) must_check;
/* Is the container over, though the client has not noticed? A look that costs one read. */
bool engine_is_over(struct keeper *k);
/* Client and container are on their way to the end, or are to be: some seconds for the engine to
 * put things away before everything is killed. */
void engine_quiet(struct keeper *k);
/* The phase is empty: how it ended, and its container goes. */
void engine_reaped(struct keeper *k);
json_t *engine_describe(const struct keeper *k);

/* enginerun.c */
/* Runs a command of the engine, its words after the program's name. Its exit status, with what it wrote
 * in *out (both streams); -ECANCELED: there is a verdict. `in`: its standard input, or -1; `tell`: its
 * lines are progress. */
int engine_run(struct keeper *k, const char *const *words, int in, bool tell, struct buf *out,
	       struct err *e) must_check;

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Holding GPUs. A GPU is held by an exclusive flock() on gpu_<UUID>.lock in the lock folder, which no
 * process of a job ever has a descriptor of; part of a GPU (MIG) by that and a shared one on the file
 * of the whole. Where there is a folder of index locks, gpu_<index>.lock is taken as well. Lock files
 * are never unlinked, and one that lies there means nothing: the lock does.
 *
 * Who comes first is served first: each request has a ticket in the folder "queue", a locked file that
 * names the GPUs which would do. Requests that have one in common go in the order of their tickets, so
 * what comes free while a large request is first stays free for it. All is taken or nothing, and nobody
 * waits while he holds one. Waiting costs no time: children, `zr-box --wait-lock`, block in flock().
 *
 * While it is held a lock file has a line that names the box. A taker who finds one knows that its
 * holder was killed, and sees to it that nothing of that box is alive.
 */
#ifndef ZR_EXEC_GPULOCK_H
#define ZR_EXEC_GPULOCK_H

#include "base/attr.h"
#include "base/err.h"
#include "exec/gpu.h"

struct gpu_hold;

/* Takes a ticket. `request` stays the caller's and must live as long; `box` (attempt id) and its v2
 * directory may be NULL. ERR_HOST: the folder cannot be trusted or used. */
int gpu_hold_new(const struct gpu_request *request, const char *box, const char *cgroup_v2,
		 struct gpu_hold **ret, struct err *e) must_check;
/* 1: they are held; 0: call again when a child of this process has ended (SIGCHLD). An error is final. */
int gpu_hold_try(struct gpu_hold *h, struct err *e) must_check;
/* The i-th held one in the order of UUIDs, NULL after the last. */
const struct gpu *gpu_hold_gpu(const struct gpu_hold *h, size_t i);
/* "GPU-…,GPU-…", for CUDA_VISIBLE_DEVICES. */
int gpu_hold_text(const struct gpu_hold *h, char **ret, struct err *e) must_check;
/* Lets go of all; nothing of the job may be alive. NULL is fine. */
void gpu_hold_free(struct gpu_hold *h);
DEFINE_AUTO(gpu_hold);

/* `zr-box --wait-lock`: blocks until descriptor 3 is locked. */
#define GPU_WAIT_FD 3

/* A GPU that nobody gets until it is let go of: its file gpu_<UUID>.quarantine says why. */
int gpu_quarantine(const char *lock_dir, const char *uuid, const char *reason,
		   struct err *e) must_check;
/* The reason, allocated; NULL: it is in none. */
char *gpu_quarantined(const char *lock_dir, const char *uuid);
/* -ENOENT, ERR_INPUT: it is in none. */
int gpu_release(const char *lock_dir, const char *uuid, struct err *e) must_check;

#endif

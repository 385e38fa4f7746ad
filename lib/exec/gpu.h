/* SPDX-License-Identifier: MIT */
/*
 * The GPUs of this host, as a child says (zr-gpu): no process of ours that lives loads the driver's
 * library. A GPU is its UUID; the index is the CUDA ordinal in the order of the PCI bus.
 */
#ifndef ZR_EXEC_GPU_H
#define ZR_EXEC_GPU_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/str.h"
#include "base/time.h"

#define GPU_UUID_MAX 48
#define GPU_MAX      64
/* A driver in trouble does not answer at all. */
#define GPU_PROBE_USEC (15 * USEC_PER_SEC)
#define GPU_UNKNOWN    UINT64_MAX

struct gpu {
	char uuid[GPU_UUID_MAX];   /* "GPU-…", or "MIG-…" of a part of one */
	char parent[GPU_UUID_MAX]; /* of a part: the whole; else "" */
	char name[96];
	unsigned index, major, minor; /* compute capability */
	uint64_t memory_bytes;
	int node;                       /* N of /dev/nvidiaN, a part's whole; -1: unknown */
	int caps[2];                    /* N of /dev/nvidia-caps/nvidia-capN, for a part; or -1 */
	uint64_t used_bytes, processes; /* or GPU_UNKNOWN */
	bool prohibited;                /* its compute mode lets nobody use it */
};

enum gpu_state {
	GPUS_READY,
	GPUS_NONE, /* no driver or no GPU, which is a fact and no fault */
	GPUS_SICK, /* there should be some and none can be used */
};

struct gpu_list {
	enum gpu_state state;
	char *error;     /* why there are none; NULL when ready */
	bool is_double;  /* a test's library: no figure is of a real GPU */
	char *driver;    /* of CUDA, "13.0"; or NULL */
	struct gpu *gpu; /* in the order of their indexes */
	size_t n;
};
void gpu_list_free(struct gpu_list *l);
DEFINE_AUTO(gpu_list);

/* "Ampere", "Ada", "Hopper", …, or "sm_XY" for what we have no name for. */
#define GPU_ARCH_MAX 16
char *gpu_arch(char out[GPU_ARCH_MAX], unsigned major, unsigned minor);
/* `arch`: such a name or "sm_90", in any case, NULL for every one; memory 0: any. A shop's "40 GB" has
 * up to 6 % less than 40G: it counts. */
bool gpu_matches(const struct gpu *g, const char *arch, uint64_t memory_bytes);
/* NULL, or why such a name can match nothing. */
const char *gpu_arch_fault(const char *arch);

/* One as an object, for results and listings; NULL: no memory. */
json_t *gpu_json(const struct gpu *g);
int gpu_from_json(const json_t *o, struct gpu *ret, struct err *e) must_check;
/* What zr-gpu prints. */
int gpu_parse(const void *data, size_t n, struct gpu_list **ret, struct err *e) must_check;

/* --- asking ------------------------------------------------------------------------------------- */

/* `library` NULL: as the loader finds it. No GPU is an answer, not an error. At most GPU_PROBE_USEC. */
int gpu_probe(const char *library, struct gpu_list **ret, struct err *e) must_check;

/* The same for an event loop: when the descriptor is readable gpu_probe_read() returns 1 when all has
 * come, 0 while it has not. gpu_probe_end() ends the child and says what it knows. */
struct gpu_probe;
int gpu_probe_begin(const char *library, struct gpu_probe **ret, struct err *e) must_check;
int gpu_probe_fd(const struct gpu_probe *p);
int gpu_probe_read(struct gpu_probe *p) must_check;
int gpu_probe_end(struct gpu_probe *p, struct gpu_list **ret, struct err *e) must_check;
void gpu_probe_free(struct gpu_probe *p);
/* Other questions to zr-gpu, and the text that it answers, which stays the probe's. */
int gpu_ask(char *const *words, struct gpu_probe **ret, struct err *e) must_check;
int gpu_answer(struct gpu_probe *p, const struct buf **ret, struct err *e) must_check;

/* --- what a job asks for ------------------------------------------------------------------------- */

/* The member "gpus" of spec.json. */
struct gpu_request {
	uint64_t count;
	uint64_t wait_usec;              /* 0: for ever */
	char *lock_dir, *index_lock_dir; /* the second may be NULL */
	char *library;                   /* cuda_library, or NULL */
	/* What is left on them may take so long to go; 0: nobody looks. */
	uint64_t settle_usec;
	bool is_double;
	struct gpu *gpu; /* those that would do */
	size_t n;
};
void gpu_request_free(struct gpu_request *r);
DEFINE_AUTO(gpu_request);
int gpu_request_from_json(const json_t *o, struct gpu_request **ret, struct err *e) must_check;
json_t *gpu_request_json(const struct gpu_request *q);

/* Those of the host that fit. ERR_HOST with a sentence if there are fewer than `count` at all; `who`
 * begins it. The folders are for the caller to set. */
int gpu_request_new(const struct gpu_list *l, const char *who, uint64_t count, const char *arch,
		    uint64_t memory_bytes, struct gpu_request **ret, struct err *e) must_check;

#endif

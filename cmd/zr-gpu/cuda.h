/* SPDX-License-Identifier: MIT */
/* libcuda.so.1 at run time: no header and no link to it. */
#ifndef ZR_CMD_ZR_GPU_CUDA_H
#define ZR_CMD_ZR_GPU_CUDA_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"

enum cuda_state {
	CUDA_READY,
	CUDA_NONE, /* no driver, its stub, or no GPU: nothing is wrong with this host */
	CUDA_SICK, /* there should be GPUs and none can be used */
};

struct cuda_gpu {
	unsigned char uuid[16];
	char name[96], pci[24];
	int major, minor; /* compute capability */
	int mode;         /* 0 default, 2 prohibited, 3 exclusive process */
	uint64_t memory_bytes;
};

struct cuda {
	enum cuda_state state;
	char path[512]; /* of the library, "" if there is none */
	bool is_double; /* of a test */
	int code;       /* what cuInit() answered */
	int driver;     /* 13000: 13.0 */
	char why[400];  /* one sentence; "" when ready */
	struct cuda_gpu *gpu;
	unsigned n;
};

/* `library`: a path, or NULL for the one that the loader finds. May never come back. */
void cuda_open(struct cuda *c, const char *library);

#endif

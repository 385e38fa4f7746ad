/* SPDX-License-Identifier: MIT */
/* libnvidia-ml.so.1 at run time. Everything it tells is optional: what it does not say is unknown. */
#ifndef ZR_CMD_ZR_GPU_NVML_H
#define ZR_CMD_ZR_GPU_NVML_H

#include <stddef.h>
#include <stdint.h>

/* Negative or "": unknown. */
struct nvml_gpu {
	char uuid[64]; /* of the whole GPU, also when we were given a MIG device */
	char driver[64];
	int node; /* N of /dev/nvidiaN */
	int64_t used_bytes;
	int64_t processes;
	int64_t sm_mhz, memory_mhz, temperature, power_mw; /* now */
	int64_t throttle;                                  /* why its clock is low: NVML's bits */
};

/* `library`: NULL for the one that the loader finds. */
/* The same by UUID. Returns what NVML answers, 0 for success; negative: it is not there. */
int nvml_check(const char *library, const char *uuid, struct nvml_gpu *ret);
void nvml_look(const char *library, const char *pci, struct nvml_gpu *ret);

/* What can be used by itself: a GPU, or a part of one that is in MIG mode. */
struct nvml_device {
	char uuid[64], parent[64]; /* parent: of a part, else "" */
	char name[96];
	int major, minor; /* compute capability */
	int mode;         /* as in struct cuda_gpu */
	int gi, ci;       /* ids of a part's GPU instance and compute instance */
	uint64_t memory_bytes;
	struct nvml_gpu now; /* `node` is the whole GPU's */
};
/* All of them, in the order of the PCI bus; to be freed. 0: none, or it is not known. */
size_t nvml_list(const char *library, struct nvml_device **ret);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Is something left on a GPU? Whoever holds it asks libnvidia-ml, by zr-gpu: a GPU is clean when no
 * process is on it and not much more memory is in use than when it was first seen without one (its
 * baseline, a file in the lock folder for each version of the driver). What a killed process had comes
 * back late, so it is asked again for some seconds. Without libnvidia-ml nothing is known, and that is
 * no fault of the GPU.
 */
#ifndef ZR_EXEC_GPUCHECK_H
#define ZR_EXEC_GPUCHECK_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"
#include "exec/gpulock.h"

struct gpu_check;

/* `hold` and `request` stay the caller's. */
int gpu_check_begin(const struct gpu_request *request, const struct gpu_hold *hold,
		    struct gpu_check **ret, struct err *e) must_check;
void gpu_check_free(struct gpu_check *c);
DEFINE_AUTO(gpu_check);

/* 1: done. 0: call again when gpu_check_fd() is readable (-1: none) or at *until, monotonic. An error
 * is ours; what is wrong with a GPU is none. */
int gpu_check_step(struct gpu_check *c, uint64_t *until, struct err *e) must_check;
int gpu_check_fd(const struct gpu_check *c);
/* Of the i-th held one: why it must not be handed out, or NULL. */
/* {"uuid", "sm_mhz", "memory_mhz", "temperature", "power_mw", "throttled"}, each null where it is not
 * known; a new object, NULL: no memory, or nothing is known. */
json_t *gpu_check_state(const struct gpu_check *c, size_t i);
const char *gpu_check_fault(const struct gpu_check *c, size_t i);
/* "nvml", or "off": there was nobody to ask. */
const char *gpu_check_method(const struct gpu_check *c);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * GPUs in MIG mode. A process sees one part of one GPU through CUDA and no whole GPU beside it, so that
 * where there are parts the list is libnvidia-ml's.
 */
#ifndef ZR_CMD_ZR_GPU_PARTS_H
#define ZR_CMD_ZR_GPU_PARTS_H

#include <jansson.h>

#include "nvml.h"

/* What CUDA_VISIBLE_DEVICES leaves of it; to be freed. 0: no GPU is in MIG mode, or that variable has
 * words that only CUDA can explain: what CUDA sees is all then. */
size_t parts_list(const char *nvml, struct nvml_device **ret);

/* "caps": [N, N], of /dev/nvidia-caps/nvidia-capN which give access to the part; null: unknown. */
json_t *parts_caps(const struct nvml_device *d);

#endif

/* SPDX-License-Identifier: MIT */
/* The GPUs of this host, as zr-gpu says at the start and again when somebody asks later. */
#ifndef ZR_CMD_ZR_EVAL_GPUS_H
#define ZR_CMD_ZR_EVAL_GPUS_H

#include "eval.h"
#include "exec/gpu.h"

struct gpus;

int gpus_new(struct eval *ev, struct gpus **ret, struct err *e) must_check;
void gpus_free(struct gpus *g);
/* Stays ours, until the loop turns. ERR_HOST: the driver has not answered. Waits for the first answer,
 * which a request can only outrun just after the start. */
int gpus_list(struct gpus *g, const struct gpu_list **ret, struct err *e) must_check;

#endif

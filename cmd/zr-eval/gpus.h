/* SPDX-License-Identifier: MIT */
/* The GPUs of this host, as zr-gpu says at the start and again when somebody asks later. */
#ifndef ZR_CMD_ZR_EVAL_GPUS_H
#define ZR_CMD_ZR_EVAL_GPUS_H

#include "eval.h"
#include "exec/gpu.h"

struct gpus;

int gpus_new(struct eval *ev, struct gpus **ret, struct err *e) must_check;
void gpus_free(struct gpus *g);
/* The driver has answered, or has had its time: until then no request is taken, because some can only
 * be refused or accepted by its answer. eval_update_intake() is called when that changes. */
bool gpus_are_known(const struct gpus *g);
/* Stays ours, until the loop turns. ERR_HOST: the driver has not answered. */
int gpus_list(struct gpus *g, const struct gpu_list **ret, struct err *e) must_check;

#endif

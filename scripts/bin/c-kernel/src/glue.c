/* SPDX-License-Identifier: MIT */
/* Joins the runner to the one function of the task that it is built for: -DTASK_MATMUL and so on. */
#include "channel.h"
#include "kernel.h"

void glue_call(const int32_t *dim, const float *const *in, float *out)
{
#if defined(TASK_MATMUL)
	matmul(dim[0], dim[1], dim[2], in[0], in[1], out);
#elif defined(TASK_SOFTMAX)
	softmax(dim[0], dim[1], in[0], out);
#elif defined(TASK_LAYERNORM)
	layernorm(dim[0], dim[1], in[0], in[1], in[2], out);
#elif defined(TASK_CONV1D)
	conv1d(dim[0], dim[1], dim[2], dim[3], in[0], in[1], out);
#else
#error "no task chosen"
#endif
}

/* SPDX-License-Identifier: MIT */
#include "task.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct task *const tasks[] = { &task_matmul, &task_softmax, &task_layernorm,
					    &task_conv1d };

double task_sum_tolerance(double terms)
{
	return FLOAT_ROUNDING * (8 + 4 * sqrt(terms));
}

const struct task *task_find(const char *name)
{
	for (size_t i = 0; i < sizeof tasks / sizeof tasks[0]; i++)
		if (strcmp(tasks[i]->name, name) == 0)
			return tasks[i];
	return NULL;
}

const char *task_names(void)
{
	return "matmul, softmax, layernorm, conv1d";
}

void task_shape_name(const struct task *task, const struct shape *s, char *ret, size_t size)
{
	size_t used = 0;

	for (int i = 0; i < task->dims && used < size; i++) {
		int n = snprintf(ret + used, size - used, "%s%d", i ? "x" : "", s->dim[i]);
		used += n > 0 ? (size_t)n : 0;
	}
}

struct shape task_random_shape(const struct task *task, struct rng *rng)
{
	struct shape s = { 0 };

	for (int i = 0; i < task->dims; i++)
		s.dim[i] = rng_int(rng, task->low.dim[i], task->high.dim[i]);
	if (task->repair)
		task->repair(&s);
	return s;
}

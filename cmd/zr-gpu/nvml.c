/* SPDX-License-Identifier: MIT */
#include "nvml.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
	NVML_INSUFFICIENT_SIZE = 7,
	PROCESS_BYTES = 24, /* of one entry of the third version of the lists */
	SLACK = 16,
};

static struct {
	bool tried;
	void *lib;
} state;

static void *call(const char *name)
{
	return state.lib ? dlsym(state.lib, name) : NULL;
}

/* From void * to a function, which C itself has no words for. */
#define FIND(f, name)                                                                              \
	({                                                                                         \
		void *p_ = call(name);                                                             \
		memcpy(&(f), &p_, sizeof(p_));                                                     \
		p_ != NULL;                                                                        \
	})

static bool begin(const char *library)
{
	int (*init)(void);

	if (state.tried)
		return state.lib != NULL;
	state.tried = true;
	state.lib = dlopen(library ? library : "libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
	if (state.lib && (!FIND(init, "nvmlInit_v2") || init() != 0))
		state.lib = NULL;
	return state.lib != NULL;
}

/* Compute, graphics and MPS processes: a list that cannot be had leaves the number unknown. */
static int64_t count_processes(void *device)
{
	static const char *const lists[] = { "nvmlDeviceGetComputeRunningProcesses_v3",
					     "nvmlDeviceGetGraphicsRunningProcesses_v3",
					     "nvmlDeviceGetMPSComputeRunningProcesses_v3" };
	int64_t sum = -1;

	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		int (*list)(void *d, unsigned *n, void *p);
		unsigned n = 0;
		int r = FIND(list, lists[i]) ? list(device, &n, NULL) : -1;

		if (r == NVML_INSUFFICIENT_SIZE) {
			void *room = calloc((size_t)n + SLACK, PROCESS_BYTES);

			n += SLACK;
			r = room ? list(device, &n, room) : -1;
			free(room);
		}
		if (r == 0)
			sum = (sum < 0 ? 0 : sum) + n;
	}
	return sum;
}

/* Functions of one shape: a kind, and a number to fill. */
static int64_t ask_kind(void *device, const char *name, unsigned kind)
{
	int (*get)(void *d, unsigned kind, unsigned *n);
	unsigned n = 0;

	return FIND(get, name) && get(device, kind, &n) == 0 ? (int64_t)n : -1;
}

static void look_at_clocks(void *device, struct nvml_gpu *ret)
{
	int (*reasons)(void *d, unsigned long long *bits), (*power)(void *d, unsigned *mw);
	unsigned long long bits = 0;
	unsigned mw = 0;

	ret->sm_mhz = ask_kind(device, "nvmlDeviceGetClockInfo", 1);
	ret->memory_mhz = ask_kind(device, "nvmlDeviceGetClockInfo", 2);
	ret->temperature = ask_kind(device, "nvmlDeviceGetTemperature", 0);
	if (FIND(power, "nvmlDeviceGetPowerUsage") && power(device, &mw) == 0)
		ret->power_mw = (int64_t)mw;
	/* Its name before driver 535. */
	if ((FIND(reasons, "nvmlDeviceGetCurrentClocksEventReasons") ||
	     FIND(reasons, "nvmlDeviceGetCurrentClocksThrottleReasons")) &&
	    reasons(device, &bits) == 0)
		ret->throttle = (int64_t)bits;
}

static void look_at(void *device, struct nvml_gpu *ret)
{
	int (*uuid)(void *d, char *s, unsigned n), (*node)(void *d, unsigned *n);
	int (*memory)(void *d, unsigned long long m[3]);
	unsigned long long m[3] = { 0 };
	unsigned n = 0;

	if (FIND(uuid, "nvmlDeviceGetUUID") && uuid(device, ret->uuid, sizeof(ret->uuid)))
		ret->uuid[0] = '\0';
	if (FIND(node, "nvmlDeviceGetMinorNumber") && node(device, &n) == 0)
		ret->node = (int)n;
	if (FIND(memory, "nvmlDeviceGetMemoryInfo") && memory(device, m) == 0)
		ret->used_bytes = (int64_t)m[2];
	ret->processes = count_processes(device);
	look_at_clocks(device, ret);
}

static void say_driver(struct nvml_gpu *ret)
{
	int (*driver)(char *s, unsigned n);

	if (FIND(driver, "nvmlSystemGetDriverVersion") && driver(ret->driver, sizeof(ret->driver)))
		ret->driver[0] = '\0';
}

static const struct nvml_gpu unknown = {
	.node = -1,
	.used_bytes = -1,
	.processes = -1,
	.sm_mhz = -1,
	.memory_mhz = -1,
	.temperature = -1,
	.power_mw = -1,
	.throttle = -1,
};

int nvml_check(const char *library, const char *uuid, struct nvml_gpu *ret)
{
	int (*find)(const char *uuid, void **d);
	void *device = NULL;
	int r;

	*ret = unknown;
	if (!begin(library) || !FIND(find, "nvmlDeviceGetHandleByUUID"))
		return -1;
	say_driver(ret);
	r = find(uuid, &device);
	if (r == 0)
		look_at(device, ret);
	return r;
}

void nvml_look(const char *library, const char *pci, struct nvml_gpu *ret)
{
	int (*find)(const char *pci, void **d);
	void *device = NULL;

	*ret = unknown;
	if (!begin(library))
		return;
	say_driver(ret);
	if (FIND(find, "nvmlDeviceGetHandleByPciBusId_v2") && find(pci, &device) == 0)
		look_at(device, ret);
}

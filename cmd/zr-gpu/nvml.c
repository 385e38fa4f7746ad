/* SPDX-License-Identifier: MIT */
#include "nvml.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
	DEVICES_MAX = 256,
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

/* --- the list ---------------------------------------------------------------------------------- */

static unsigned ask(void *device, const char *name, unsigned otherwise)
{
	int (*get)(void *d, unsigned *n);
	unsigned n = 0;

	return FIND(get, name) && get(device, &n) == 0 ? n : otherwise;
}

static bool in_mig_mode(void *device)
{
	int (*get)(void *d, unsigned *now, unsigned *after_reset);
	unsigned now = 0, later = 0;

	return FIND(get, "nvmlDeviceGetMigMode") && get(device, &now, &later) == 0 && now == 1;
}

/* What a whole GPU and its parts have in common is asked of the whole. */
static bool describe(void *whole, void *device, struct nvml_device *ret)
{
	int (*name)(void *d, char *s, unsigned n), (*cc)(void *d, int *major, int *minor);
	int (*memory)(void *d, unsigned long long m[3]);
	unsigned long long m[3] = { 0 };

	*ret = (struct nvml_device){ .now = unknown, .gi = -1, .ci = -1 };
	look_at(device, &ret->now);
	memcpy(ret->uuid, ret->now.uuid, sizeof(ret->uuid));
	ret->now.node = (int)ask(whole, "nvmlDeviceGetMinorNumber", (unsigned)-1);
	ret->mode = (int)ask(whole, "nvmlDeviceGetComputeMode", 0);
	if (FIND(name, "nvmlDeviceGetName") && name(device, ret->name, sizeof(ret->name)))
		ret->name[0] = '\0';
	if (FIND(memory, "nvmlDeviceGetMemoryInfo") && memory(device, m) == 0)
		ret->memory_bytes = m[0];
	return ret->uuid[0] && FIND(cc, "nvmlDeviceGetCudaComputeCapability") &&
	       cc(whole, &ret->major, &ret->minor) == 0;
}

static size_t list_parts(void *whole, struct nvml_device *to, size_t room)
{
	int (*at)(void *d, unsigned i, void **part);
	struct nvml_device of;
	size_t n = 0;

	if (!FIND(at, "nvmlDeviceGetMigDeviceHandleByIndex") || !describe(whole, whole, &of))
		return 0;
	for (unsigned i = 0; i < ask(whole, "nvmlDeviceGetMaxMigDeviceCount", 0) && n < room; i++) {
		void *part = NULL;

		if (at(whole, i, &part) != 0 || !describe(whole, part, &to[n]))
			continue;
		memcpy(to[n].parent, of.uuid, sizeof(of.uuid));
		to[n].gi = (int)ask(part, "nvmlDeviceGetGpuInstanceId", (unsigned)-1);
		to[n].ci = (int)ask(part, "nvmlDeviceGetComputeInstanceId", (unsigned)-1);
		n++;
	}
	return n;
}

size_t nvml_list(const char *library, struct nvml_device **ret)
{
	int (*count)(unsigned *n), (*at)(unsigned i, void **device);
	unsigned whole = 0;
	size_t n = 0;

	*ret = NULL;
	if (!begin(library) || !FIND(count, "nvmlDeviceGetCount_v2") || count(&whole) ||
	    !FIND(at, "nvmlDeviceGetHandleByIndex_v2"))
		return 0;
	*ret = calloc(DEVICES_MAX, sizeof(**ret));
	for (unsigned i = 0; *ret && i < whole && n < DEVICES_MAX; i++) {
		void *device = NULL;

		if (at(i, &device) != 0)
			continue; /* one that a group of ours may not use, for instance */
		if (in_mig_mode(device))
			n += list_parts(device, *ret + n, DEVICES_MAX - n);
		else
			n += describe(device, device, *ret + n);
	}
	return n;
}

/* SPDX-License-Identifier: MIT */
/*
 * A double of libcuda.so.1 and of libnvidia-ml.so.1, for hosts without a GPU: one library under both
 * names. It has no more of CUDA than the driver calls that zr makes, and a marker by which zr says
 * `double` beside every figure. Its scenario is the file "scenario" in the folder it was loaded from,
 * or $ZR_FAKE_CUDA, read anew at each call:
 *
 *	driver 13000
 *	init_error 34           what cuInit() answers; 34, the toolkit's stub, is answered by all
 *	nvml_error 9            what nvmlInit() answers
 *	hang init               `init`, `context` or `check`: that call never comes back
 *	log FILE                a line "pid function" for each call
 *	gpu uuid=GPU-… name=H100_PCIe cc=9.0 total=81920 used=0 procs=0 pci=0000:01:00.0 minor=0
 *	    lost=15 (what NVML answers when asked for it)
 *	    mhz=1980 throttle=4   (clock, and NVML's bits why it is low)
 *	    mode=0 (sizes in MiB)
 *	    parent=GPU-… gi=1 ci=0   (on the same line: a part of that GPU, which is in MIG mode; minor and
 *	    pci are its parent's)
 */
#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define API __attribute__((visibility("default")))

enum {
	GPUS_MAX = 64,
	NOT_INITIALIZED = 3,
	STUB = 34,
	NO_DEVICE = 100,
	INVALID_DEVICE = 101,
	INVALID_CONTEXT = 201,
	NOT_FOUND = 500,
};

typedef struct {
	unsigned char b[16];
} cu_uuid;

struct gpu {
	char uuid[48], parent[48], name[64], pci[24];
	int major, minor_cc, minor, mode, procs, lost, mhz, throttle, gi, ci;
	unsigned long long total, used; /* MiB */
};

static struct {
	int driver, init_error, nvml_error;
	char hang[512], log[512];
	struct gpu gpu[GPUS_MAX];
	int n;
} scenario;

/* Initialised per process: a forked child is not. */
static pid_t cuda_in, nvml_in;
static int current = -1;

API int zr_fake_cuda = 1;

/* --- the scenario ---------------------------------------------------------------------------- */

static void read_gpu(struct gpu *g, char *line)
{
	*g = (struct gpu){ .major = 9, .total = 1024, .minor = -1, .gi = -1, .ci = -1 };
	for (char *w, *save = NULL; (w = strtok_r(save ? NULL : line, " \n", &save));) {
		char *v = strchr(w, '=');

		if (!v)
			continue;
		*v++ = '\0';
		if (!strcmp(w, "uuid"))
			snprintf(g->uuid, sizeof(g->uuid), "%s", v);
		else if (!strcmp(w, "parent"))
			snprintf(g->parent, sizeof(g->parent), "%s", v);
		else if (!strcmp(w, "name"))
			snprintf(g->name, sizeof(g->name), "%s", v);
		else if (!strcmp(w, "pci"))
			snprintf(g->pci, sizeof(g->pci), "%s", v);
		else if (!strcmp(w, "cc"))
			sscanf(v, "%d.%d", &g->major, &g->minor_cc);
		else if (!strcmp(w, "total"))
			g->total = strtoull(v, NULL, 10);
		else if (!strcmp(w, "used"))
			g->used = strtoull(v, NULL, 10);
		else if (!strcmp(w, "procs"))
			g->procs = atoi(v);
		else if (!strcmp(w, "minor"))
			g->minor = atoi(v);
		else if (!strcmp(w, "lost"))
			g->lost = atoi(v);
		else if (!strcmp(w, "mhz"))
			g->mhz = atoi(v);
		else if (!strcmp(w, "throttle"))
			g->throttle = atoi(v);
		else if (!strcmp(w, "mode"))
			g->mode = atoi(v);
		else if (!strcmp(w, "gi"))
			g->gi = atoi(v);
		else if (!strcmp(w, "ci"))
			g->ci = atoi(v);
	}
	for (char *p = g->name; *p; p++)
		if (*p == '_')
			*p = ' ';
}

static void read_line(char *line)
{
	char key[16] = "", value[512] = "";

	sscanf(line, "%15s %511s", key, value);
	if (!strcmp(key, "driver"))
		scenario.driver = atoi(value);
	else if (!strcmp(key, "init_error"))
		scenario.init_error = atoi(value);
	else if (!strcmp(key, "nvml_error"))
		scenario.nvml_error = atoi(value);
	else if (!strcmp(key, "hang"))
		snprintf(scenario.hang, sizeof(scenario.hang), "%s", value);
	else if (!strcmp(key, "log"))
		snprintf(scenario.log, sizeof(scenario.log), "%s", value);
	else if (!strcmp(key, "gpu") && scenario.n < GPUS_MAX)
		read_gpu(&scenario.gpu[scenario.n++], line + strlen("gpu"));
}

static FILE *open_scenario(void)
{
	const char *named = getenv("ZR_FAKE_CUDA");
	char path[4096];
	Dl_info info;

	if (named)
		return fopen(named, "re");
	if (!dladdr(&zr_fake_cuda, &info) || !strrchr(info.dli_fname, '/'))
		return NULL;
	snprintf(path, sizeof(path), "%.*s/scenario",
		 (int)(strrchr(info.dli_fname, '/') - info.dli_fname), info.dli_fname);
	return fopen(path, "re");
}

static void begin(const char *function)
{
	char line[1024];
	FILE *f = open_scenario();

	memset(&scenario, 0, sizeof(scenario));
	scenario.driver = 13000;
	while (f && fgets(line, sizeof(line), f))
		read_line(line);
	if (f)
		fclose(f);
	f = scenario.log[0] ? fopen(scenario.log, "ae") : NULL;
	if (!f)
		return;
	fprintf(f, "%d %s\n", (int)getpid(), function);
	fclose(f);
}

static void hang_at(const char *where)
{
	while (!strcmp(scenario.hang, where))
		pause();
}

/* --- which GPUs the process sees --------------------------------------------------------------- */

static int find_visible(const char *word)
{
	char *end;
	long n = strtol(word, &end, 10);

	if (*word && !*end)
		return n >= 0 && n < scenario.n ? (int)n : -1;
	for (int i = 0; i < scenario.n; i++)
		if (*word && !strncasecmp(scenario.gpu[i].uuid, word, strlen(word)))
			return i;
	return -1;
}

/* As the driver does: the list ends silently at the first entry that is none, and where there is a
 * part of a GPU the process sees the first one and nothing else. */
static int visible(int seen[GPUS_MAX])
{
	const char *env = getenv("CUDA_VISIBLE_DEVICES");
	char list[4096], *save = NULL;
	int n = 0;

	for (; !env && n < scenario.n; n++)
		seen[n] = n;
	snprintf(list, sizeof(list), "%s", env ? env : "");
	for (char *w = strtok_r(list, ",", &save); w && n < GPUS_MAX;
	     w = strtok_r(NULL, ",", &save)) {
		int i = find_visible(w);

		if (i < 0)
			break;
		seen[n++] = i;
	}
	for (int i = 0; i < n; i++)
		if (scenario.gpu[seen[i]].parent[0]) {
			seen[0] = seen[i];
			return 1;
		}
	return n;
}

/* What every call but cuInit() begins with; `ret` gets the GPU of an ordinal. */
static int enter(const char *function, int device, const struct gpu **ret)
{
	int seen[GPUS_MAX], n;

	begin(function);
	if (scenario.init_error == STUB)
		return STUB;
	if (cuda_in != getpid())
		return NOT_INITIALIZED;
	n = visible(seen);
	if (ret && (device < 0 || device >= n))
		return INVALID_DEVICE;
	if (ret)
		*ret = &scenario.gpu[seen[device]];
	return 0;
}

/* --- libcuda ----------------------------------------------------------------------------------- */

API int cuInit(unsigned flags)
{
	int seen[GPUS_MAX];

	(void)flags;
	begin("cuInit");
	hang_at("init");
	if (scenario.init_error)
		return scenario.init_error;
	if (!visible(seen))
		return NO_DEVICE;
	cuda_in = getpid();
	return 0;
}

API int cuDriverGetVersion(int *v)
{
	begin("cuDriverGetVersion");
	*v = scenario.driver;
	return scenario.init_error == STUB ? STUB : 0;
}

API int cuGetErrorName(int error, const char **s)
{
	begin("cuGetErrorName");
	*s = error ? "CUDA_ERROR_OF_A_DOUBLE" : "CUDA_SUCCESS";
	return scenario.init_error == STUB ? STUB : 0;
}

API int cuGetErrorString(int error, const char **s)
{
	return cuGetErrorName(error, s);
}

API int cuDeviceGetCount(int *n)
{
	int seen[GPUS_MAX], r = enter("cuDeviceGetCount", 0, NULL);

	if (r == 0)
		*n = visible(seen);
	return r;
}

API int cuDeviceGet(int *d, int i)
{
	const struct gpu *g;
	int r = enter("cuDeviceGet", i, &g);

	*d = i;
	return r;
}

API int cuDeviceGetName(char *s, int len, int d)
{
	const struct gpu *g;
	int r = enter("cuDeviceGetName", d, &g);

	if (r == 0)
		snprintf(s, (size_t)len, "%s", g->name);
	return r;
}

API int cuDeviceGetUuid_v2(cu_uuid *u, int d)
{
	const struct gpu *g;
	int r = enter("cuDeviceGetUuid_v2", d, &g), n = 0;

	if (r)
		return r;
	memset(u, 0, sizeof(*u));
	for (const char *p = strchr(g->uuid, '-'); p && *p && n < 16;) {
		unsigned byte;

		p += *p == '-';
		if (sscanf(p, "%2x", &byte) != 1)
			break;
		u->b[n++] = (unsigned char)byte;
		p += 2;
	}
	return 0;
}

API int cuDeviceGetUuid(cu_uuid *u, int d)
{
	return cuDeviceGetUuid_v2(u, d);
}

API int cuDeviceGetAttribute(int *v, int attribute, int d)
{
	const struct gpu *g;
	int r = enter("cuDeviceGetAttribute", d, &g);

	if (r)
		return r;
	*v = attribute == 75   ? g->major
	     : attribute == 76 ? g->minor_cc
	     : attribute == 20 ? g->mode
			       : 0;
	return 0;
}

API int cuDeviceTotalMem_v2(size_t *bytes, int d)
{
	const struct gpu *g;
	int r = enter("cuDeviceTotalMem_v2", d, &g);

	if (r == 0)
		*bytes = g->total << 20;
	return r;
}

API int cuDeviceGetPCIBusId(char *s, int len, int d)
{
	const struct gpu *g;
	int r = enter("cuDeviceGetPCIBusId", d, &g);

	if (r == 0)
		snprintf(s, (size_t)len, "%s", g->pci);
	return r;
}

API int cuDevicePrimaryCtxRetain(void **c, int d)
{
	const struct gpu *g;
	int r = enter("cuDevicePrimaryCtxRetain", d, &g);

	if (r)
		return r;
	hang_at("context");
	*c = (void *)(size_t)(d + 1);
	return 0;
}

API int cuDevicePrimaryCtxRelease_v2(int d)
{
	const struct gpu *g;

	return enter("cuDevicePrimaryCtxRelease_v2", d, &g);
}

API int cuDevicePrimaryCtxReset_v2(int d)
{
	const struct gpu *g;

	return enter("cuDevicePrimaryCtxReset_v2", d, &g);
}

API int cuCtxSetCurrent(void *c)
{
	int r = enter("cuCtxSetCurrent", 0, NULL);

	if (r == 0)
		current = (int)(size_t)c - 1;
	return r;
}

API int cuCtxSynchronize(void)
{
	int r = enter("cuCtxSynchronize", 0, NULL);

	return r ? r : current < 0 ? INVALID_CONTEXT : 0;
}

API int cuMemGetInfo_v2(size_t *free_bytes, size_t *total)
{
	const struct gpu *g;
	int r = enter("cuMemGetInfo_v2", current < 0 ? 0 : current, &g);

	if (r || current < 0)
		return r ? r : INVALID_CONTEXT;
	*total = g->total << 20;
	*free_bytes = (g->total - g->used) << 20;
	return 0;
}

API int cuGetExportTable(const void **table, const void *id)
{
	(void)id;
	*table = NULL;
	return NOT_FOUND;
}

/* --- libnvidia-ml ------------------------------------------------------------------------------ */

struct process {
	unsigned pid;
	unsigned long long used;
	unsigned gpu_instance, compute_instance;
};

API int nvmlInit_v2(void)
{
	begin("nvmlInit_v2");
	if (scenario.nvml_error)
		return scenario.nvml_error;
	nvml_in = getpid();
	return 0;
}

API int nvmlShutdown(void)
{
	begin("nvmlShutdown");
	nvml_in = 0;
	return 0;
}

API int nvmlSystemGetDriverVersion(char *s, unsigned len)
{
	begin("nvmlSystemGetDriverVersion");
	snprintf(s, len, "580.00.00");
	return nvml_in == getpid() ? 0 : 1;
}

/* The handle of a line of the scenario, and that of the whole GPU of a part. */
enum {
	WHOLE = 1000,
};

static void *handle(int i, bool whole)
{
	return (void *)(size_t)(i + 1 + (whole && scenario.gpu[i].parent[0] ? WHOLE : 0));
}

static bool is_whole(void *device)
{
	return (size_t)device > WHOLE;
}

static const struct gpu *of(void *device, const char *function)
{
	size_t i = (size_t)device - (is_whole(device) ? WHOLE : 0);

	begin(function);
	return nvml_in == getpid() && i <= (size_t)scenario.n ? &scenario.gpu[i - 1] : NULL;
}

/* Of several parts the first one stands for the whole. */
static bool is_first(int i)
{
	for (int j = 0; j < i && scenario.gpu[i].parent[0]; j++)
		if (!strcasecmp(scenario.gpu[i].parent, scenario.gpu[j].parent))
			return false;
	return true;
}

API int nvmlDeviceGetCount_v2(unsigned *n)
{
	begin("nvmlDeviceGetCount_v2");
	*n = 0;
	for (int i = 0; i < scenario.n; i++)
		*n += is_first(i);
	return nvml_in == getpid() ? 0 : 1;
}

API int nvmlDeviceGetHandleByIndex_v2(unsigned n, void **device)
{
	begin("nvmlDeviceGetHandleByIndex_v2");
	for (int i = 0; i < scenario.n; i++)
		if (is_first(i) && n-- == 0) {
			*device = handle(i, true);
			return nvml_in == getpid() ? 0 : 1;
		}
	return 6;
}

API int nvmlDeviceGetMigMode(void *device, unsigned *now, unsigned *later)
{
	const struct gpu *g = of(device, "nvmlDeviceGetMigMode");

	*now = *later = is_whole(device);
	return g ? 0 : 1;
}

API int nvmlDeviceGetMaxMigDeviceCount(void *device, unsigned *n)
{
	const struct gpu *g = of(device, "nvmlDeviceGetMaxMigDeviceCount");

	*n = 7;
	return g ? 0 : 1;
}

API int nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned n, void **part)
{
	const struct gpu *g = of(device, "nvmlDeviceGetMigDeviceHandleByIndex");

	for (int i = 0; g && i < scenario.n; i++)
		if (!strcasecmp(scenario.gpu[i].parent, g->parent) && n-- == 0) {
			*part = handle(i, false);
			return 0;
		}
	return g ? 6 : 1;
}

static int give_id(int id, unsigned *ret)
{
	*ret = (unsigned)id;
	return id < 0 ? 3 : 0;
}

API int nvmlDeviceGetGpuInstanceId(void *device, unsigned *id)
{
	const struct gpu *g = of(device, "nvmlDeviceGetGpuInstanceId");

	return g ? give_id(g->gi, id) : 1;
}

API int nvmlDeviceGetComputeInstanceId(void *device, unsigned *id)
{
	const struct gpu *g = of(device, "nvmlDeviceGetComputeInstanceId");

	return g ? give_id(g->ci, id) : 1;
}

API int nvmlDeviceGetName(void *device, char *s, unsigned len)
{
	const struct gpu *g = of(device, "nvmlDeviceGetName");

	if (!g)
		return 1;
	snprintf(s, len, "%s", g->name);
	return 0;
}

API int nvmlDeviceGetComputeMode(void *device, unsigned *mode)
{
	const struct gpu *g = of(device, "nvmlDeviceGetComputeMode");

	return g ? give_id(g->mode, mode) : 1;
}

API int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor)
{
	const struct gpu *g = of(device, "nvmlDeviceGetCudaComputeCapability");

	if (!g)
		return 1;
	*major = g->major;
	*minor = g->minor_cc;
	return 0;
}

/* Physical devices only: a MIG device is its parent here. */
API int nvmlDeviceGetHandleByPciBusId_v2(const char *pci, void **device)
{
	begin("nvmlDeviceGetHandleByPciBusId_v2");
	if (nvml_in != getpid())
		return 1;
	for (int i = 0; i < scenario.n; i++)
		if (!strcasecmp(scenario.gpu[i].pci, pci)) {
			*device = handle(i, true);
			return 0;
		}
	return 6;
}

API int nvmlDeviceGetHandleByUUID(const char *uuid, void **device)
{
	begin("nvmlDeviceGetHandleByUUID");
	hang_at("check");
	if (nvml_in != getpid())
		return 1;
	for (int i = 0; i < scenario.n; i++)
		if (!strcasecmp(scenario.gpu[i].uuid, uuid)) {
			*device = handle(i, false);
			return scenario.gpu[i].lost;
		}
	return 6;
}

API int nvmlDeviceGetUUID(void *device, char *s, unsigned len)
{
	const struct gpu *g = of(device, "nvmlDeviceGetUUID");

	if (!g)
		return 1;
	snprintf(s, len, "%s", is_whole(device) ? g->parent : g->uuid);
	return 0;
}

API int nvmlDeviceGetMinorNumber(void *device, unsigned *n)
{
	const struct gpu *g = of(device, "nvmlDeviceGetMinorNumber");

	if (!g || g->minor < 0 || (g->parent[0] && !is_whole(device)))
		return g ? 3 : 1;
	*n = (unsigned)g->minor;
	return 0;
}

API int nvmlDeviceGetMemoryInfo(void *device, unsigned long long memory[3])
{
	const struct gpu *g = of(device, "nvmlDeviceGetMemoryInfo");

	if (!g)
		return 1;
	memory[0] = g->total << 20;
	memory[1] = (g->total - g->used) << 20;
	memory[2] = g->used << 20;
	return 0;
}

API int nvmlDeviceGetClockInfo(void *device, unsigned kind, unsigned *mhz)
{
	const struct gpu *g = of(device, "nvmlDeviceGetClockInfo");

	*mhz = g ? (unsigned)g->mhz * (kind == 1 ? 1 : 2) : 0;
	return !g ? 1 : g->mhz ? 0 : 3;
}

API int nvmlDeviceGetTemperature(void *device, unsigned kind, unsigned *celsius)
{
	const struct gpu *g = of(device, "nvmlDeviceGetTemperature");

	*celsius = 41 + kind;
	return g ? 0 : 1;
}

API int nvmlDeviceGetCurrentClocksEventReasons(void *device, unsigned long long *bits)
{
	const struct gpu *g = of(device, "nvmlDeviceGetCurrentClocksEventReasons");

	*bits = g ? (unsigned long long)g->throttle : 0;
	return g ? 0 : 1;
}

/* First called for the number, then with room for it. */
API int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *n, struct process *p)
{
	const struct gpu *g = of(device, "nvmlDeviceGetComputeRunningProcesses_v3");
	unsigned have = g ? (unsigned)g->procs : 0, room = *n;

	if (!g)
		return 1;
	*n = have;
	if (have > room)
		return 7;
	for (unsigned i = 0; i < have; i++)
		p[i] = (struct process){ .pid = 1000000 + i };
	return 0;
}

/* SPDX-License-Identifier: MIT */
#include "cuda.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
	GPUS_MAX = 256,
	CUDA_STUB = 34,
	CUDA_NO_DEVICE = 100,
	ATTRIBUTE_MODE = 20,
	ATTRIBUTE_MAJOR = 75,
	ATTRIBUTE_MINOR = 76,
};

/* The suffixes are part of the names: without them some are calls of another shape. */
struct calls {
	int (*init)(unsigned flags);
	int (*version)(int *v);
	int (*count)(int *n);
	int (*device)(int *d, int i);
	int (*name)(char *s, int len, int d);
	int (*uuid)(unsigned char *u, int d);
	int (*attribute)(int *v, int attribute, int d);
	int (*memory)(size_t *bytes, int d);
	int (*pci)(char *s, int len, int d);
};

/* The stub cannot even name its own error, so the names are ours. */
static const struct {
	int code;
	const char *name, *say;
} errors[] = {
	{ 3, "NOT_INITIALIZED", "the driver was not initialised" },
	{ 46, "DEVICE_UNAVAILABLE", "a GPU is in exclusive or prohibited mode and in use" },
	{ 100, "NO_DEVICE", "the driver sees no GPU" },
	{ 101, "INVALID_DEVICE", "a GPU has gone" },
	{ 214, "ECC_UNCORRECTABLE", "a GPU has an uncorrectable memory error" },
	{ 220, "NVLINK_UNCORRECTABLE", "a GPU has an uncorrectable NVLink error" },
	{ 802, "SYSTEM_NOT_READY", "the fabric manager, or another daemon, is not running" },
	{ 803, "SYSTEM_DRIVER_MISMATCH",
	  "driver and library differ: reboot, or load the driver anew" },
	{ 804, "COMPAT_NOT_SUPPORTED_ON_DEVICE",
	  "the compatibility package does not fit this GPU" },
	{ 999, "UNKNOWN", "the driver does not say what is wrong" },
};

printf_like(3, 4) static void fail(struct cuda *c, enum cuda_state state, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(c->why, sizeof(c->why), fmt, ap);
	va_end(ap);
	c->state = state;
}

static void failed(struct cuda *c, const char *call, int code)
{
	c->code = code;
	if (code == CUDA_STUB) {
		fail(c, CUDA_NONE,
		     "libcuda.so.1 is the CUDA toolkit's stub (%s); no NVIDIA driver is installed",
		     c->path);
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(errors); i++)
		if (errors[i].code == code) {
			fail(c, code == CUDA_NO_DEVICE ? CUDA_NONE : CUDA_SICK, "%s (%s: %d, %s)",
			     errors[i].say, call, code, errors[i].name);
			return;
		}
	fail(c, CUDA_SICK, "the driver fails (%s: %d)", call, code);
}

static bool find_calls(void *lib, struct calls *f, const char **ret_missing)
{
	const struct {
		const char *name;
		void *to;
	} t[] = {
		{ "cuInit", &f->init },
		{ "cuDriverGetVersion", &f->version },
		{ "cuDeviceGetCount", &f->count },
		{ "cuDeviceGet", &f->device },
		{ "cuDeviceGetName", &f->name },
		{ "cuDeviceGetAttribute", &f->attribute },
		{ "cuDeviceTotalMem_v2", &f->memory },
		{ "cuDeviceGetPCIBusId", &f->pci },
	};
	void *uuid = dlsym(lib, "cuDeviceGetUuid_v2");

	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		void *p = dlsym(lib, t[i].name);

		*ret_missing = t[i].name;
		if (!p)
			return false;
		memcpy(t[i].to, &p, sizeof(p));
	}
	if (!uuid)
		uuid = dlsym(lib, "cuDeviceGetUuid");
	*ret_missing = "cuDeviceGetUuid";
	memcpy(&f->uuid, &uuid, sizeof(uuid));
	return uuid != NULL;
}

static int look_at(const struct calls *f, int i, struct cuda_gpu *g)
{
	size_t bytes = 0;
	int d = 0, r = f->device(&d, i);

	if (r == 0)
		r = f->name(g->name, sizeof(g->name), d);
	if (r == 0)
		r = f->uuid(g->uuid, d);
	if (r == 0)
		r = f->attribute(&g->major, ATTRIBUTE_MAJOR, d);
	if (r == 0)
		r = f->attribute(&g->minor, ATTRIBUTE_MINOR, d);
	if (r == 0)
		r = f->attribute(&g->mode, ATTRIBUTE_MODE, d);
	if (r == 0)
		r = f->memory(&bytes, d);
	if (r == 0)
		r = f->pci(g->pci, sizeof(g->pci), d);
	g->memory_bytes = bytes;
	return r;
}

static void enumerate(struct cuda *c, const struct calls *f)
{
	int n = 0, r = f->init(0);

	if (r) {
		failed(c, "cuInit", r);
		return;
	}
	(void)f->version(&c->driver);
	r = f->count(&n);
	if (r == 0 && n <= 0)
		r = CUDA_NO_DEVICE;
	if (r) {
		failed(c, "cuDeviceGetCount", r);
		return;
	}
	c->gpu = calloc(GPUS_MAX, sizeof(*c->gpu));
	for (int i = 0; c->gpu && i < n && i < GPUS_MAX && r == 0; i++, c->n += r == 0)
		r = look_at(f, i, &c->gpu[i]);
	if (r)
		failed(c, "cuDevice…", r);
}

void cuda_open(struct cuda *c, const char *library)
{
	void *lib = dlopen(library ? library : "libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
	const char *missing = NULL;
	struct calls f = { 0 };
	Dl_info info = { 0 };
	void *init = lib ? dlsym(lib, "cuInit") : NULL;

	*c = (struct cuda){ .state = CUDA_READY };
	if (!lib) {
		fail(c, CUDA_NONE, "no NVIDIA driver: %s", dlerror());
		return;
	}
	if (init && dladdr(init, &info) && info.dli_fname)
		snprintf(c->path, sizeof(c->path), "%s", info.dli_fname);
	c->is_double = dlsym(lib, "zr_fake_cuda") != NULL;
	if (!find_calls(lib, &f, &missing))
		fail(c, CUDA_SICK, "%s has no %s: it is no library of a driver from 2020 or later",
		     c->path, missing);
	else
		enumerate(c, &f);
}
